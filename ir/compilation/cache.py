"""The replacement cache: templates of traced providers, kept across graphs."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ir.compilation.template import Template
    from ir.op import IrOp


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """`bypasses` counts, by reason, the traces that the cache had no part in."""

    hits: int
    misses: int
    bypasses: Mapping[str, int]


class ReplacementCache:
    """A bounded least-recently-used map from keys to templates, safe under threads.

    Everything of an op leaves when the op's generation changes.
    """

    def __init__(self, *, capacity: int = 4096) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; accepted: 1 or more")
        self.capacity = capacity
        self._entries: OrderedDict[tuple[Hashable, ...], Template] = OrderedDict()
        self._keys: dict[str, tuple[int, set[tuple[Hashable, ...]]]] = {}
        self._hits = 0
        self._misses = 0
        self._bypasses: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def statistics(self) -> Statistics:
        with self._lock:
            return Statistics(
                hits=self._hits,
                misses=self._misses,
                bypasses=MappingProxyType(dict(self._bypasses)),
            )

    def find(self, op: IrOp, key: tuple[Hashable, ...]) -> Template | None:
        """The template of a key of `op`; counts a hit or a miss."""
        with self._lock:
            self._of(op)
            template = self._entries.get(key)
            if template is None:
                self._misses += 1
                return None
            self._entries.move_to_end(key)
            self._hits += 1
            return template

    def keep(
        self, op: IrOp, key: tuple[Hashable, ...], template: Template, *, generation: int
    ) -> None:
        """Keep a template that was traced in `generation` of `op`; a later one drops it."""
        with self._lock:
            keys = self._of(op)
            if generation != op.generation:
                return
            self._entries[key] = template
            keys.add(key)
            if len(self._entries) > self.capacity:
                oldest, _ = self._entries.popitem(last=False)
                self._keys[str(oldest[0])][1].discard(oldest)

    def bypassed(self, reason: str) -> None:
        """Count a trace that could not be keyed."""
        with self._lock:
            self._bypasses[reason] += 1

    def clear(self) -> None:
        """Forget templates and counts."""
        with self._lock:
            self._entries.clear()
            self._keys.clear()
            self._bypasses.clear()
            self._hits = self._misses = 0

    def _of(self, op: IrOp) -> set[tuple[Hashable, ...]]:
        generation, keys = self._keys.get(op.name, (op.generation, set()))
        if generation != op.generation:
            for key in keys:
                self._entries.pop(key, None)
            keys = set()
        self._keys[op.name] = (op.generation, keys)
        return keys
