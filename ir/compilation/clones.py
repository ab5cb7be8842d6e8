"""Clones that nobody could tell from their original are removed.

A clone goes if, for every later access through either, the bytes it meets are those it met
before; if no output comes to share memory with an input that was not donated, or with another
output; if no such input is written; and if what is left has the layout of what went.
Whatever is not known, metadata included, keeps the clone.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from ir.compilation.aliases import Aliases, Group, may_be_one, merge, root, total_shift
from ir.compilation.collector import without_collection
from ir.compilation.graphs import subgraphs
from ir.compilation.ranges import Access, Ranges, TooMany
from ir.compilation.regions import EVERYTHING
from ir.compilation.report import Clones, KeptClone
from ir.compilation.symbols import same_numbers

_clone = torch.ops.aten.clone.default
_copy = torch.ops.aten.copy_.default


def eliminate_clones(
    graph: fx.Graph, *, donated: Collection[int] = (), states: Collection[int] = ()
) -> Clones:
    """Remove clones from a graph and the graphs it holds.

    Inputs that look alike (dtype, device, shape) may be one tensor; others that share memory, as
    views of one base do, must share it in their metadata, as they do in AOTAutograd's graphs.
    donated: positions among the placeholders of inputs whose content the caller gave away: they
    may be written and returned, and share memory with no other input.
    states: positions of inputs that share memory with no other either and whose content the graph
    replaces at its end: they may be written, and no output may come to share their memory.
    """
    before = len(graph.nodes)
    work = _Elimination(graph, (*donated, *states))
    placeholders = list(graph.find_nodes(op="placeholder", sort=True)) if states else []
    work.states = frozenset(placeholders[i] for i in states)
    with without_collection():
        work.run()
    for name, module in subgraphs(graph):
        inner = eliminate_clones(module.graph)
        work.removed += [f"{name}.{n}" for n in inner.removed]
        work.kept += [
            KeptClone(node=f"{name}.{k.node}", reason=k.reason, detail=k.detail) for k in inner.kept
        ]
        if inner.removed:
            module.recompile()
    return Clones(
        removed=tuple(work.removed), kept=tuple(work.kept), before=before, after=len(graph.nodes)
    )


class _Pair(NamedTuple):
    """Groups as the nodes hold them (`mine`, `own`) and their roots. `shift`: where the clone's
    storage would begin in that of the original's root, in bytes."""

    clone: fx.Node
    original: fx.Node
    mine: Group
    own: Group
    group: Group
    target: Group
    shift: int


class _Move(NamedTuple):
    """From the storage of a clone's value, that begins `start` bytes before it, to its original's.

    The original's value may itself be moved, and is by the time that its users' are.
    """

    storage: int
    start: int
    original: fx.Node


class _Elimination:
    def __init__(self, graph: fx.Graph, donated: Collection[int]) -> None:
        self.graph = graph
        self.donated = donated
        self.states: frozenset[fx.Node] = frozenset()
        self.removed: list[str] = []
        self.kept: list[KeptClone] = []
        # Of a group whose values lay in its clone's storage: where they lie now.
        self.moved: dict[Group, _Move] = {}
        # What is gone, and what stands in its place.
        self._stands_for: dict[fx.Node, fx.Node] = {}
        self._written: list[Group] | None = None

    def run(self) -> None:
        found = list(self.graph.find_nodes(op="call_function", target=_clone, sort=True))
        if not found:
            return
        self._drop_dead(found)
        self.aliases = Aliases(self.graph, self.donated)
        self.ranges = Ranges(self.aliases)
        for position, clone in self.aliases.clones:
            pair = self._pair(clone)
            refusal = self._refusal(position, pair) if type(pair) is _Pair else pair
            if refusal is None:
                self._remove(pair)  # type: ignore[arg-type]
            else:
                self.kept.append(
                    KeptClone(node=clone.name, reason=refusal[0], detail=refusal[1])  # type: ignore[arg-type]
                )
        if self.moved:
            self._follow()

    def _drop_dead(self, clones: list[fx.Node]) -> None:
        for clone in reversed(clones):
            if not clone.users:
                self.removed.append(clone.name)
                self.graph.erase_node(clone)

    def _pair(self, clone: fx.Node) -> _Pair | tuple[str, str]:
        """A clone and its original, or why they are not known well enough."""
        original = clone.args[0] if clone.args else clone.kwargs.get("self")
        if type(original) is not fx.Node:
            return "missing-metadata", ""
        mine, own = self.aliases.held.get(clone), self.aliases.held.get(original)
        value, source = clone.meta.get("val"), original.meta.get("val")
        if not (_is_tensor(value) and _is_tensor(source)):
            return "missing-metadata", ""
        if type(mine) is not Group or type(own) is not Group:
            return "missing-metadata", ""
        # Of dtype, device and shape a clone has the original's; sizes compared must make no guard.
        symbolic = value._has_symbolic_sizes_strides or source._has_symbolic_sizes_strides
        strides, others = value.stride(), source.stride()
        if not same_numbers(strides, others) if symbolic else strides != others:
            return "layout", original.name
        offset, from_ = value.storage_offset(), source.storage_offset()
        if type(offset) is not int or type(from_) is not int:
            return "symbolic-offset", original.name
        shift = (from_ - offset) * value.element_size() if from_ != offset else 0
        if own.parent is not None:
            shift += total_shift(own)
        return _Pair(clone, original, mine, own, root(mine), root(own), shift)

    def _refusal(self, i: int, pair: _Pair) -> tuple[str, str] | None:
        """Why a clone must stay: a slug and the node that decides."""
        group, target, original = pair.group, pair.target, pair.original
        if group.unknown or target.unknown:
            return "unknown-access", ""
        if group.members and not _has_value(target):
            return "missing-metadata", original.name
        shifted = pair.shift != 0 or target.begins_anywhere
        external = target.is_input and not target.donated
        if shifted and (group.by_offset or group.by_pointer or group.followers):
            return "places-by-number", ""
        # Where an input begins is guarded by nobody: the next one may begin elsewhere.
        if target.is_input and _place_is_seen(group, in_outputs=external):
            return "places-by-number", ""
        if group.outputs:
            if external or target.first in self.states:
                return "output-aliases-input", original.name
            if target.outputs:
                return "outputs-alias", original.name
            if shifted:
                return "output-offset", original.name
        overwritten = False
        if target.writes:
            late = bisect_right(target.writes, i)
            overwritten = late < len(target.writes) and target.writes[late] <= group.last_read
        spoiled = bool(group.writes) and (external or group.writes[0] <= target.last_read)
        if overwritten or spoiled:
            refusal = self._by_ranges(i, pair, external=external)
            if refusal is not None:
                return refusal
        if external and self._twin_written(i, group, target):
            return "an-input-is-written", original.name
        return None

    def _by_ranges(self, i: int, pair: _Pair, *, external: bool) -> tuple[str, str] | None:
        clone, original, group, target = pair.clone, pair.original, pair.group, pair.target
        accesses = self.ranges.accesses(group)
        mine = [replace(a, region=a.region.moved(pair.shift)) for a in accesses]
        theirs = [a for a in self.ranges.accesses(target) if a.node is not clone]
        try:
            found = self.ranges.conflict(mine, theirs, i)
            if found is not None:
                return found[0], found[1].name
            if external and group.writes:
                # The caller reads its inputs when all is done.
                theirs.append(self._at_the_end())
                if self.ranges.conflict(mine, theirs, i) is not None:
                    return "input-written", original.name
                if any(g.last_read >= group.writes[0] for g in self._twins(target)):
                    return "an-input-is-read", original.name
        except TooMany:
            return "too-many-accesses", original.name
        return None

    def _at_the_end(self) -> Access:
        order = self.aliases.order
        return Access(
            position=len(order), reads=True, writes=False, renews=False, region=EVERYTHING,
            form=(),
            node=order[-1],
        )  # fmt: skip

    def _twins(self, target: Group) -> list[Group]:
        """Other inputs that may be the same tensor as an input."""
        inputs = {root(g) for g in self.aliases.inputs} - {target}
        return [g for g in inputs if may_be_one(g, target)]

    def _twin_written(self, i: int, group: Group, target: Group) -> bool:
        """Whether another input that may be this one is written while the clone is in use."""
        if self._written is None:
            self._written = [g for g in {root(g) for g in self.aliases.inputs} if g.writes]
        for other in self._written:
            if other is target or not may_be_one(other, target):
                continue
            late = bisect_right(other.writes, i)
            if late < len(other.writes) and other.writes[late] <= group.last_read:
                return True
        return False

    def _remove(self, pair: _Pair) -> None:
        clone, original = pair.clone, pair.original
        group, target, shift = pair.group, pair.target, pair.shift
        if group.members:
            # Views of the clone lie in its storage: either they move, or the original does.
            alone = not target.members and not target.is_input and pair.own is target
            if alone and shift == 0 and _has_own_storage(original):
                original.meta["val"] = clone.meta["val"]
            else:
                value = clone.meta["val"]
                start = value.storage_offset() * value.element_size()
                self.moved[pair.mine] = _Move(value.untyped_storage()._cdata, start, original)
        if target.is_input:
            _begin_anywhere(group.followers)
        self.ranges.merged(group, target, shift)
        merge(group, target, shift=shift)
        if target.is_input and group.writes:
            self._written = None
        copies = [u for u in clone.users if u.target is _copy]
        clone.replace_all_uses_with(original)
        self.graph.erase_node(clone)
        for copy in copies:
            if copy.args[0] is copy.args[1]:
                copy.replace_all_uses_with(original)
                self.graph.erase_node(copy)
                self._stands_for[copy] = original
        del self.aliases.held[clone]
        self.removed.append(clone.name)

    def _follow(self) -> None:
        """Give what was made of removed clones values in the storage where it now lies."""
        for node in self.graph.nodes:
            held = self.aliases.held.get(node)
            if held is not None and "val" in node.meta:
                node.meta["val"] = self._moved(node.meta["val"], held)

    def _moved(self, value: Any, held: Any) -> Any:
        """A value, or several, in the storage that its group now is.

        What only may lie in a group, like the result of `contiguous`, can have its own storage.
        """
        if isinstance(value, list | tuple):
            several = held if isinstance(held, tuple) else [held] * len(value)
            pairs = zip(value, several, strict=True)
            return type(value)(self._moved(v, h) for v, h in pairs)
        if type(held) is not Group or held not in self.moved:
            return value
        move = self.moved[held]
        if not isinstance(value, FakeTensor) or value.untyped_storage()._cdata != move.storage:
            return value
        original = move.original
        while original in self._stands_for:
            original = self._stands_for[original]
        target = original.meta["val"]
        shift = target.storage_offset() * target.element_size() - move.start
        offset = value.storage_offset() + shift // value.element_size()
        with torch._C._DisableTorchDispatch():
            meta = torch.empty(0, dtype=value.dtype, device="meta").set_(
                target.untyped_storage(), offset, value.shape, value.stride()
            )
            return FakeTensor(value.fake_mode, meta, value.device)


def _is_tensor(value: Any) -> TypeGuard[torch.Tensor]:
    # The first is quicker, and most values are.
    return type(value) is FakeTensor or isinstance(value, torch.Tensor)


def _place_is_seen(group: Group, *, in_outputs: bool) -> bool:
    """Whether where something begins in a storage shows in what is computed, or in an output.

    Whoever gives an input away does not ask where an output begins in it. What lies in the storage
    itself is returned, or not, for other reasons.
    """
    if not group.followers:
        return group.by_offset
    met: set[Group] = set()
    waiting = [group]
    while waiting:
        found = root(waiting.pop())
        if found in met:
            continue
        if found.by_offset or found.unknown:
            return True
        if in_outputs and found.outputs and found is not group:
            return True
        met.add(found)
        waiting += found.followers
    return False


def _begin_anywhere(groups: list[Group]) -> None:
    """Note of storages, and of what follows them, that nobody knows where anything begins there."""
    waiting = [*groups]
    while waiting:
        found = root(waiting.pop())
        if not found.begins_anywhere:
            found.begins_anywhere = True
            waiting += found.followers


def _has_own_storage(node: fx.Node) -> bool:
    """Whether no value that a node was made of lies where its own does, told by schema or not.

    One of several results has its value in what made it, too, and `_unsafe_view` is a view.
    """
    if node.target is operator.getitem:
        return False
    storage = node.meta["val"].untyped_storage()._cdata
    values = (used.meta.get("val") for used in node._input_nodes)
    return not any(_is_tensor(v) and v.untyped_storage()._cdata == storage for v in values)


def _has_value(group: Group) -> bool:
    return group.first is not None and _is_tensor(group.first.meta.get("val"))
