"""A replacement cache that remembers what it was asked to keep: equal graphs under unequal keys."""

from __future__ import annotations

import functools
from typing import Any

_KEY = ("op", "overload", "provider", "identity", "decompositions", "ambient", "arguments", "sizes")
_TENSOR = ("dtype", "device", "storages", "offset", "shape", "strides")


@functools.cache
def _recording() -> Any:
    from ir.compilation import ReplacementCache

    from .structure import template_structure

    class Recording(ReplacementCache):
        """``keys`` in the order kept; ``spurious`` names the factors of keys that need not be."""

        def __init__(self) -> None:
            super().__init__()
            self.keys: list[Any] = []
            self.spurious: list[str] = []
            self._by_structure: dict[str, Any] = {}

        def keep(self, op: Any, key: Any, template: Any, *, generation: int) -> None:
            super().keep(op, key, template, generation=generation)
            self.keys.append(key)
            held = self._by_structure.setdefault(template_structure(template), key)
            if held != key:
                self.spurious.append(differing_factor(held, key))

    return Recording


def recording_cache() -> Any:
    """An empty cache of that kind."""
    return _recording()()


def differing_factor(one: Any, other: Any) -> str:
    """The first factor in which two keys of the replacement cache differ, as a slug."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a == b:
            continue
        name = _KEY[i] if i < len(_KEY) else f"part-{i}"
        return _argument(a, b) if name == "arguments" else name
    return "nothing"


def _argument(one: Any, other: Any) -> str:
    if len(one) != len(other):
        return "arguments"
    for a, b in zip(one, other, strict=True):
        if a == b:
            continue
        if len(a) == len(b) == len(_TENSOR):
            found = [n for n, x, y in zip(_TENSOR, a, b, strict=True) if x != y]
            return "-".join(found)
        return "plain"
    return "arguments"
