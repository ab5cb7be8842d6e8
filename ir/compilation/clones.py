"""Clones that nobody could tell from their original are removed.

A clone goes if, for every later access through either, the bytes it meets are those it met
before; if no output comes to share memory with an input that was not donated, or with another
output; if no such input is written; and if what is left has the layout of what went.
Whatever is not known, metadata included, keeps the clone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from ir.compilation.aliases import Aliases, Group, may_be_one, merge, root, total_shift
from ir.compilation.graphs import subgraphs
from ir.compilation.ranges import Access, Ranges, TooMany
from ir.compilation.regions import EVERYTHING
from ir.compilation.report import Clones, KeptClone
from ir.compilation.symbols import same_numbers

_clone = torch.ops.aten.clone.default
_copy = torch.ops.aten.copy_.default


def eliminate_clones(graph: fx.Graph, *, donated: Collection[int] = ()) -> Clones:
    """Remove clones from a graph and the graphs it holds.

    donated: positions among the placeholders of inputs whose content the caller gave away: they
    may be written and returned, and share memory with no other input.
    """
    before = len(graph.nodes)
    work = _Elimination(graph, donated)
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


class _Elimination:
    def __init__(self, graph: fx.Graph, donated: Collection[int]) -> None:
        self.graph = graph
        self.donated = donated
        self.removed: list[str] = []
        self.kept: list[KeptClone] = []
        # The storage that a group's values lay in when it became part of another.
        self.moved: dict[Group, int] = {}
        self._written: list[Group] | None = None

    def run(self) -> None:
        found = list(self.graph.find_nodes(op="call_function", target=_clone, sort=True))
        if not found:
            return
        self._drop_dead(found)
        self.aliases = Aliases(self.graph, self.donated)
        self.ranges = Ranges(self.aliases)
        for position, clone in self.aliases.clones:
            refusal = self._refusal(position, clone)
            if refusal is not None:
                self.kept.append(KeptClone(node=clone.name, reason=refusal[0], detail=refusal[1]))
                continue
            self._remove(clone)
        if self.moved:
            self._follow()

    def _drop_dead(self, clones: list[fx.Node]) -> None:
        for clone in reversed(clones):
            if not clone.users:
                self.removed.append(clone.name)
                self.graph.erase_node(clone)

    def _refusal(self, i: int, clone: fx.Node) -> tuple[str, str] | None:
        """Why a clone must stay: a slug and the node that decides."""
        original = clone.args[0] if clone.args else clone.kwargs.get("self")
        if not isinstance(original, fx.Node):
            return "missing-metadata", ""
        mine, own = self.aliases.held.get(clone), self.aliases.held.get(original)
        value, source = clone.meta.get("val"), original.meta.get("val")
        if not (isinstance(value, torch.Tensor) and isinstance(source, torch.Tensor)):
            return "missing-metadata", ""
        if type(mine) is not Group or type(own) is not Group:
            return "missing-metadata", ""
        group, target = root(mine), root(own)
        if (
            value.dtype is not source.dtype
            or value.device != source.device
            or not same_numbers(value.shape, source.shape)
            or not same_numbers(value.stride(), source.stride())
        ):
            return "layout", original.name
        if group.unknown or target.unknown:
            return "unknown-access", ""
        shift = self._shift(clone, original)
        if shift is None:
            return "symbolic-offset", original.name
        if group.members and not _has_value(target):
            return "missing-metadata", original.name
        if shift and group.by_offset:
            return "places-by-number", ""
        external = target.is_input and not target.donated
        if group.outputs:
            if external:
                return "output-aliases-input", original.name
            if target.outputs:
                return "outputs-alias", original.name
            if shift:
                return "output-offset", original.name
        late = bisect_right(target.writes, i)
        overwritten = late < len(target.writes) and target.writes[late] <= group.last_read
        spoiled = bool(group.writes) and (external or group.writes[0] <= target.last_read)
        if overwritten or spoiled:
            refusal = self._by_ranges(i, clone, original, shift, external=external)
            if refusal is not None:
                return refusal
        if external and self._twin_written(i, group, target):
            return "an-input-is-written", original.name
        return None

    def _by_ranges(
        self, i: int, clone: fx.Node, original: fx.Node, shift: int, *, external: bool
    ) -> tuple[str, str] | None:
        group, target = self._group(clone), self._group(original)
        mine = [replace(a, region=a.region.moved(shift)) for a in self.ranges.accesses(group)]
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

    def _group(self, node: fx.Node) -> Group:
        held = self.aliases.held[node]
        if type(held) is not Group:
            raise TypeError(f"{node.name} has no storage of its own")
        return root(held)

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

    def _shift(self, clone: fx.Node, original: fx.Node) -> int | None:
        """Where the clone's storage begins in that of the original's root, in bytes."""
        value, source = clone.meta["val"], original.meta["val"]
        offsets = (value.storage_offset(), source.storage_offset())
        held = self.aliases.held[original]
        if type(held) is not Group or any(type(o) is not int for o in offsets):
            return None
        return (offsets[1] - offsets[0]) * value.element_size() + total_shift(held)

    def _remove(self, clone: fx.Node) -> None:
        original = clone.args[0] if clone.args else clone.kwargs["self"]
        held = self.aliases.held
        mine, own = held[clone], held[original]  # type: ignore[index]
        if type(mine) is not Group or type(own) is not Group:
            raise TypeError(f"{clone.name} has no storage of its own")
        group, target = root(mine), root(own)
        shift = self._shift(clone, original)  # type: ignore[arg-type]
        if group.members:
            # Views of the clone lie in its storage: either they move, or the original does.
            alone = not target.members and not target.is_input and own is target
            if alone and shift == 0:
                original.meta["val"] = clone.meta["val"]  # type: ignore[union-attr]
            else:
                self.moved[mine] = clone.meta["val"].untyped_storage()._cdata
        self.ranges.merged(group, target, shift or 0)
        merge(group, target, shift=shift or 0)
        if target.is_input and group.writes:
            self._written = None
        copies = [u for u in clone.users if u.target is _copy]
        clone.replace_all_uses_with(original)  # type: ignore[arg-type]
        self.graph.erase_node(clone)
        for copy in copies:
            if copy.args[0] is copy.args[1]:
                copy.replace_all_uses_with(original)  # type: ignore[arg-type]
                self.graph.erase_node(copy)
        del held[clone]
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
        base = root(held).first
        target = None if base is None else base.meta.get("val")
        if (
            not isinstance(value, FakeTensor)
            or not isinstance(target, torch.Tensor)
            or value.untyped_storage()._cdata != self.moved[held]
        ):
            return value
        offset = value.storage_offset() + total_shift(held) // value.element_size()
        with torch._C._DisableTorchDispatch():
            meta = torch.empty(0, dtype=value.dtype, device="meta").set_(
                target.untyped_storage(), offset, value.shape, value.stride()
            )
            return FakeTensor(value.fake_mode, meta, value.device)


def _has_value(group: Group) -> bool:
    return group.first is not None and isinstance(group.first.meta.get("val"), torch.Tensor)
