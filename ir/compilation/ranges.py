"""Accesses to one storage byte range by byte range, indexed when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ir.compilation.aliases import Aliases, Group, groups_of, total_shift
from ir.compilation.effects import arguments_at, effect
from ir.compilation.symbols import is_symbolic

_MOST_MEMBERS = 1024


@dataclass(frozen=True, slots=True)
class Access:
    """A read of bytes low..high-1 of a group's storage at a position; a write as well if so."""

    position: int
    write: bool
    low: int
    high: int
    node: fx.Node

    def overlaps(self, other: Access) -> bool:
        return self.low < other.high and other.low < self.high


class Ranges:
    """Answers which bytes the nodes of a group touch, and when."""

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self._position: dict[fx.Node, int] | None = None
        self._members: dict[Group, list[fx.Node]] = {}

    def accesses(self, group: Group) -> list[Access] | None:
        """Every access to a root group, in its own bytes; None where that is not known."""
        if self._position is None:
            self._index()
        members = self._members.get(group, [])
        if len(members) > _MOST_MEMBERS:
            return None
        found: list[Access] = []
        for node in members:
            held = self.aliases.held.get(node)
            span = byte_range(node.meta.get("val")) if type(held) is Group else None
            for user in node.users:
                does = effect(user.target) if user.op == "call_function" else None
                if does is not None and (does.view or does.kind == "item"):
                    continue
                if span is None or type(held) is not Group:
                    return None
                shift = total_shift(held)
                write = does is not None and node in arguments_at(user, does.writes)
                position = (self._position or {})[user]
                found.append(Access(position, write, span[0] + shift, span[1] + shift, user))
        return found

    def merged(self, group: Group, into: Group, clone: fx.Node) -> None:
        """Follow a merge of root groups that removed `clone`."""
        if self._position is None:
            return
        moved = [n for n in self._members.pop(group, []) if n is not clone]
        self._members.setdefault(into, []).extend(moved)

    def _index(self) -> None:
        self._position = {}
        for i, node in enumerate(self.aliases.order):
            self._position[node] = i
            held = self.aliases.held.get(node)
            for group in groups_of(held):
                self._members.setdefault(group, []).append(node)


def byte_range(value: Any) -> tuple[int, int] | None:
    """The first byte of a tensor in its storage and the one after its last; None if unknown."""
    if not isinstance(value, torch.Tensor) or is_symbolic(value):
        return None
    size = value.element_size()
    low = int(value.storage_offset()) * size
    if value.numel() == 0:
        return low, low
    reach = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    return low, low + (reach + 1) * size
