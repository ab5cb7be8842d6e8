"""The unsharded cache: every byte carries 64 bits that say which one it is.

A byte alone has 256 values, so that a wrong copy may look right. Codes do not: judged cell by
cell as uint64 they tell any two bytes apart, and `lane` gives the value that a real byte takes in
each of eight passes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .geometry import CachedPart

Codes = NDArray[np.uint64]

SENTINEL = 0
"""What a consumer's memory holds before a transfer. No byte of a cache has this code."""

POISON = (1 << 64) - 1
"""What a producer's memory holds outside of a request's blocks."""

_FIELDS = (("layer", 10), ("part", 4), ("unit", 16), ("position", 18), ("byte", 15))


def code(*, layer: int, part: int, unit: int, position: int, byte: int) -> int:
    """The code of one byte: its coordinates side by side, below a bit that is always set.

    `position` is a token, or the number of a state. Raises `ValueError` for a coordinate that its
    field is too small for.
    """
    value = 1
    given = {"layer": layer, "part": part, "unit": unit, "position": position, "byte": byte}
    for name, bits in _FIELDS:
        if not 0 <= given[name] < 1 << bits:
            raise ValueError(f"{name} {given[name]}; accepted: 0 to {(1 << bits) - 1}")
        value = value << bits | given[name]
    return value


def decode(value: int) -> dict[str, int]:
    """The coordinates of a code, by name; empty for one that no byte of a cache has."""
    if value in (SENTINEL, POISON) or value >> sum(bits for _, bits in _FIELDS) != 1:
        return {}
    found = {}
    for name, bits in reversed(_FIELDS):
        found[name] = value & (1 << bits) - 1
        value >>= bits
    return found


def full_part(part: CachedPart, *, layer: int, index: int, positions: int) -> Codes:
    """The codes of one part of one layer, unsharded: (positions, units, unit_bytes), uint64."""
    last = (layer, index, part.units - 1, max(positions, 1) - 1, part.unit_bytes - 1)
    code(**dict(zip(("layer", "part", "unit", "position", "byte"), last, strict=True)))
    position, unit, byte = np.indices((positions, part.units, part.unit_bytes), dtype=np.uint64)
    value = np.uint64(1 << 10 | layer) << np.uint64(4) | np.uint64(index)
    value = value << np.uint64(16) | unit
    value = value << np.uint64(18) | position
    return value << np.uint64(15) | byte


def lane(codes: Codes, index: int) -> NDArray[np.uint8]:
    """The byte that each cell holds in pass `index` of 8."""
    return (codes >> np.uint64(8 * index)).astype(np.uint8)
