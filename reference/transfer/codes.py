"""The unsharded cache: every byte carries 64 bits that say which one it is.

A byte alone has 256 values, so that a wrong copy may look right. Codes do not: judged cell by
cell as uint64 they tell any two bytes apart, and `lane` gives the value that a real byte takes in
each of eight passes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.model.transfer import CachedPart

Codes = NDArray[np.uint64]

SENTINEL = 0
"""What a consumer's memory holds before a transfer. No byte of a cache has this code."""

POISON = (1 << 64) - 1
"""What a producer's memory holds outside of a request's blocks."""

MIXED_SENTINEL = 0x5C
"""The byte that `mixed` gives the sentinel."""

_FIELDS = (
    ("request", 3),
    ("layer", 9),
    ("part", 4),
    ("unit", 14),
    ("position", 18),
    ("byte", 15),
)


def code(*, request: int = 0, layer: int, part: int, unit: int, position: int, byte: int) -> int:
    """The code of one byte: its coordinates side by side, below a bit that is always set.

    `request` numbers the requests of a case, `position` is a token, or the number of a state.
    Raises `ValueError` for a coordinate that its field is too small for.
    """
    value = 1
    given = {
        "request": request,
        "layer": layer,
        "part": part,
        "unit": unit,
        "position": position,
        "byte": byte,
    }
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


def full_part(
    part: CachedPart, *, request: int = 0, layer: int, index: int, positions: int
) -> Codes:
    """The codes of one part of one layer, unsharded: (positions, units, unit_bytes), uint64."""
    code(
        request=request,
        layer=layer,
        part=index,
        unit=part.units - 1,
        position=max(positions, 1) - 1,
        byte=part.unit_bytes - 1,
    )
    position, unit, byte = np.ix_(
        *(np.arange(n, dtype=np.uint64) for n in (positions, part.units, part.unit_bytes))
    )
    value = np.uint64((1 << 3 | request) << 9 | layer) << np.uint64(4) | np.uint64(index)
    value = value << np.uint64(14) | unit
    value = value << np.uint64(18) | position
    return value << np.uint64(15) | byte


def lane(codes: Codes, index: int) -> NDArray[np.uint8]:
    """The byte that each cell holds in pass `index` of 8."""
    return (codes >> np.uint64(8 * index)).astype(np.uint8)


def mixed(codes: Codes) -> NDArray[np.uint8]:
    """One byte for each code in which every bit has a say, for memory that holds bytes alone.

    Two codes share a byte once in 256 times: enough where many bytes are compared at once. The
    mixing is that of SplitMix64.
    """
    with np.errstate(over="ignore"):
        x = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(codes == SENTINEL, MIXED_SENTINEL, x >> np.uint64(56)).astype(np.uint8)
