"""Accesses to one storage byte by byte, gathered when first asked for.

One question is answered here: if a clone's storage became its original's, would a read meet
another byte than before? It would where the last write before it came from the other side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from ir.compilation.aliases import Aliases, Group, groups_of, root, total_shift
from ir.compilation.effects import Effect, arguments_at, effect
from ir.compilation.regions import EVERYTHING, Region, region_of
from ir.compilation.symbols import expression

_READING = (True, False, False)
_MOST_PAIRS = 1 << 14
_COPY = torch.ops.aten.copy_.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`reads`: and somebody depends on it. `renews`: writes every byte of its region, reads none.

    `form`: dtype, shape and strides, for elements to be compared one by one; () if unknown.
    """

    position: int
    reads: bool
    writes: bool
    renews: bool
    region: Region
    form: tuple[Any, ...]
    node: fx.Node
    elementwise: bool = False

    def same_elements(self, other: Access) -> bool:
        """Whether index by index both reach the same bytes."""
        return (
            bool(self.form)
            and self.form == other.form
            and self.region.start == other.region.start
            and EVERYTHING not in (self.region, other.region)
        )

    def covers(self, other: Access) -> bool:
        return self.region.covers(other.region) or self.same_elements(other)


class TooMany(Exception):
    """More accesses than are compared."""


class Ranges:
    """The accesses of each group, in order, in bytes of the group's storage."""

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self._position: dict[fx.Node, int] | None = None
        self._members: dict[Group, list[fx.Node]] = {}
        self._dead: set[fx.Node] = set()
        self._accesses: dict[Group, list[Access]] = {}

    def accesses(self, group: Group) -> list[Access]:
        """Every access to a root group, ascending."""
        known = self._accesses.get(group)
        if known is None:
            if self._position is None:
                self._index()
            found = [a for node in self._members.get(group, ()) for a in self._through(node)]
            known = self._accesses[group] = _in_order(found)
        return known

    def merged(self, group: Group, into: Group, shift: int) -> None:
        """Follow a merge of root groups, `shift` bytes further on in the other."""
        if self._position is None:
            return
        if into in self._accesses:
            mine = [replace(a, region=a.region.moved(shift)) for a in self.accesses(group)]
            theirs = self._accesses[into]
            first = bisect_left(theirs, mine[0].position, key=_by_position) if mine else 0
            theirs[first:] = _in_order([*theirs[first:], *mine])
        self._accesses.pop(group, None)
        self._members.setdefault(into, []).extend(self._members.pop(group, []))

    def conflict(
        self, mine: list[Access], theirs: list[Access], after: int
    ) -> tuple[str, fx.Node] | None:
        """What tells that two storages with equal content at `after` have become one.

        mine: of the clone; theirs: of the original, both in the original's bytes. Raises TooMany.
        """
        theirs = theirs[bisect_right(theirs, after, key=_by_position) :]
        found = _spoiled(theirs, mine)
        if found is not None:
            return "original-used-after-write", found[0].node
        found = _spoiled(mine, theirs)
        return None if found is None else ("original-written-before-use", found[1].node)

    def _index(self) -> None:
        self._position = {}
        for i, node in enumerate(self.aliases.order):
            self._position[node] = i
            for group in groups_of(self.aliases.held.get(node)):
                self._members.setdefault(group, []).append(node)
        self._bury()

    def _bury(self) -> None:
        """Find the calls on which nothing depends: what they write is read by none but such.

        A storage is wanted while a read lies ahead, the caller's of its inputs included, and no
        write of all of it comes before.
        """
        held = self.aliases.held
        inputs = {root(g) for g in self.aliases.inputs}
        wanted = set(inputs)
        for node in reversed(self.aliases.order):
            if node.op == "call_function":
                does = effect(node.target)
                if does.view or does.kind == "item":
                    continue
                written: Sequence[fx.Node] = []
                if does.kind == "fresh":
                    written = (node,)
                elif does.elementwise or (does.writes and does.overwrites == does.writes):
                    written = arguments_at(node, does.writes)
                groups = [g for n in written for g in groups_of(held.get(n))]
                if groups and not any(g in wanted or g.unknown for g in groups):
                    self._dead.add(node)
                    continue
                if len(groups) == 1 and _renews_all(node, written[0], does):
                    # An input may be read as another one, too.
                    wanted -= {*groups} - inputs
                else:
                    written = ()
            else:
                written = ()
            for used in node._input_nodes:
                if used not in written:
                    wanted.update(groups_of(held.get(used)))

    def _through(self, node: fx.Node) -> list[Access]:
        """The accesses that users of a node make through it. What nothing depends on reads none."""
        held = self.aliases.held.get(node)
        value = node.meta.get("val") if type(held) is Group else None
        region: Region | None = None
        form: tuple[Any, ...] = ()
        found: list[Access] = []
        for user in node.users:
            does = effect(user.target) if user.op == "call_function" else None
            if does is not None and (does.view or does.kind == "item"):
                continue
            if user.target is _COPY and user.args[0] is user.args[1]:
                continue
            if region is None:
                region = region_of(value)
                if type(held) is Group:
                    region = region.moved(total_shift(held))
                form = form_of(value)
            reads, writes, renews = _how(node, user, does) if does is not None else _READING
            where = region
            if does is not None and (does.follows or does.kind in ("kernel", "reads")):
                # What follows copies the whole storage.
                where = EVERYTHING
            if user in self._dead:
                if does is not None and does.kind == "fresh":
                    continue
                reads = False
            found.append(
                Access(
                    position=(self._position or {})[user],
                    reads=reads,
                    writes=writes,
                    renews=renews,
                    region=where,
                    form=form,
                    node=user,
                    elementwise=does is not None and does.elementwise,
                )
            )
        return found


def form_of(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return ()
    return (
        value.dtype,
        *(expression(n) for n in value.shape),
        *(expression(n) for n in value.stride()),
    )


def _by_position(access: Access) -> int:
    return access.position


def _in_order(accesses: list[Access]) -> list[Access]:
    """Sorted, without the copies of bytes to themselves."""
    accesses.sort(key=_by_position)
    copies = [(a, b) for a, b in pairwise(accesses) if a.node is b.node and a.node.target is _COPY]
    idle = {a.node for a, b in copies if a.same_elements(b)}
    return [a for a in accesses if a.node not in idle] if idle else accesses


def _renews_all(node: fx.Node, written: fx.Node, does: Effect) -> bool:
    """Whether a call writes every byte of the storage it writes, and reads none of it."""
    if does.kind == "fresh":
        return False
    value = written.meta.get("val")
    if not _how(written, node, does)[2] or not isinstance(value, torch.Tensor):
        return False
    size = value.untyped_storage().nbytes()
    return type(size) is int and region_of(value).covers(Region(0, size, ()))


def _how(node: fx.Node, user: fx.Node, does: Effect) -> tuple[bool, bool, bool]:
    """Whether a call reads an argument, writes it, and renews it."""
    if does.kind == "kernel":
        return True, True, False
    if not does.writes or node not in arguments_at(user, does.writes):
        return _READING
    overwritten = arguments_at(user, does.overwrites).count(node)
    if not overwritten:
        return True, True, False
    uses = 0

    def count(used: fx.Node) -> fx.Node:
        nonlocal uses
        uses += used is node
        return used

    fx.map_arg((user.args, user.kwargs), count)
    return uses > overwritten, True, uses == overwritten


def _spoiled(ours: list[Access], others: list[Access]) -> tuple[Access, Access] | None:
    """A read of ours that would meet a write of the others, and that write."""
    writes = [w for w in others if w.writes]
    if not writes or not ours:
        return None
    if len(writes) * len(ours) > _MOST_PAIRS:
        raise TooMany
    renewals = [k for k in ours if k.renews]
    for w in writes:
        first = bisect_left(ours, w.position, key=_by_position)
        at_once = []
        for r in ours[first:]:
            if r.position > w.position:
                break
            at_once.append(r)
        # Copied from us and element by element into the same bytes, it changes nothing.
        if w.node.target is _COPY and any(r.same_elements(w) for r in at_once):
            continue
        for r in ours[first:]:
            if not r.region.meets(w.region):
                continue
            if r.position == w.position:
                # Read or not, what torch finds to overlap in part it refuses.
                if r.writes or not (w.elementwise and r.same_elements(w)):
                    return r, w
                continue
            if r.reads and not any(
                w.position < k.position < r.position and (k.covers(r) or k.covers(w))
                for k in renewals
            ):
                return r, w
    return None
