"""Which dtype comes out of several: torch's rules, which are not NumPy's.

Tensors with dimensions outrank tensors without, and both outrank plain numbers; a lower rank
counts only where it is of a higher kind (bool < integer < float). So float16 + int64 is float16,
and a Python float makes an integer tensor float32, torch's default, and no float tensor wider.
Source: torch documentation, "Tensor Attributes", type promotion.
"""

from __future__ import annotations

from collections.abc import Sequence

from .answers import NotKnown

KINDS = {
    "bool": 0,
    "uint8": 1,
    "int32": 1,
    "int64": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 2,
    "float64": 2,
}
"""bool < integer < float, by dtype."""

_NUMBERS = {bool: "bool", int: "int64", float: "float32"}
_WIDTH = {
    "uint8": 1, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8,
}  # fmt: skip


def promoted(a: str, b: str) -> str:
    """The dtype that holds both, of one rank.

    float16 and bfloat16 hold neither each other's range nor digits: float32.
    """
    for dtype in (a, b):
        if dtype not in KINDS:
            raise NotKnown("dtype-without-arithmetic")
    if a == b:
        return a
    if KINDS[a] != KINDS[b]:
        return a if KINDS[a] > KINDS[b] else b
    if _WIDTH[a] == _WIDTH[b]:
        return "float32"
    return a if _WIDTH[a] > _WIDTH[b] else b


def dtype_of_number(value: bool | int | float) -> str:
    """The dtype that a plain number has where nothing outranks it."""
    return _NUMBERS[type(value)]


def result_dtype(
    dimensioned: Sequence[str], dimensionless: Sequence[str], numbers: Sequence[str]
) -> str:
    """The common dtype of tensors with dimensions, tensors without, and plain numbers."""
    found: str | None = None
    for rank in (dimensioned, dimensionless, numbers):
        common: str | None = None
        for dtype in rank:
            common = promoted(dtype, dtype if common is None else common)
        if common is None:
            continue
        found = common if found is None or KINDS[common] > KINDS[found] else found
    if found is None:
        raise NotKnown("no-operand")
    return found


def can_store(found: str, into: str) -> bool:
    """Whether a result of dtype ``found`` may be written to ``into``: never to a lower kind."""
    return KINDS.get(found, 9) <= KINDS.get(into, -1)
