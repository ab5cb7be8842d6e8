"""What exists, as data and as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ir.state.lifting import Scope
from ir.state.values import bytes_by_device, tensors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One state. `value` is the state itself, not a copy."""

    name: str
    scope: Scope
    value: Any

    @property
    def bytes_by_device(self) -> Mapping[str, int]:
        return MappingProxyType(bytes_by_device(tensors_of(self.value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`bytes_by_device` counts a storage that several states share once."""

    entries: tuple[Entry, ...]
    bytes_by_device: Mapping[str, int]

    def lines(self) -> list[str]:
        shown = [f"{d}: {n} bytes" for d, n in sorted(self.bytes_by_device.items())]
        for e in self.entries:
            sizes = ", ".join(f"{n} bytes on {d}" for d, n in sorted(e.bytes_by_device.items()))
            scope = "for all" if e.scope is None else f"of {e.scope}"
            shown.append(f"  {e.name} {scope}: {sizes or type(e.value).__name__}")
        return shown


def described(entries: Sequence[Entry]) -> Description:
    tensors = [t for e in entries for t in tensors_of(e.value)]
    total = MappingProxyType(bytes_by_device(tensors))
    return Description(entries=tuple(entries), bytes_by_device=total)
