"""How simple a case is: tuples of non-negative integers, so that shrinking always ends.

Fewer elements come first, then fewer dimensions, plainer memory, a plainer call, plainer values.
"""

from __future__ import annotations

import numpy as np

from reference.declaration import REQUIRED, OpDeclaration
from reference.dtypes import FORMATS, decode
from reference.model import OpCase, Plain, Storage, is_self_overlapping

_DTYPES = ("float32", "int64", "bfloat16", "float16")
_INFINITE, _NAN = 4000, 5000


def structure_cost(declaration: OpDeclaration, case: OpCase) -> tuple[int, ...]:
    """The cost of everything but the values that storages hold."""
    views = case.views()
    layout = 0
    for view in views.values():
        layout += 2 * (not view.is_contiguous) + (view.offset > 0) + 3 * is_self_overlapping(view)
    return (
        sum(view.numel for view in views.values()),
        sum(len(view.shape) for view in views.values()),
        # Of empty tensors the other sizes count as well.
        sum(sum(view.shape) for view in views.values()),
        len(views) - len(case.storages),
        layout,
        sum(storage.numel for storage in case.storages),
        case.overload != "default",
        sum(view.offset + sum(view.strides) for view in views.values()),
        sum(_argument_cost(declaration, a.name, a.value) for a in case.arguments),
        len(case.arguments),
        sum(argument.keyword for argument in case.arguments),
        sum(_dtype_cost(storage.dtype) for storage in case.storages),
    )


def value_cost(case: OpCase) -> int:
    """The sum of ``storage_ranks`` over all storages."""
    return sum(int(storage_ranks(storage).sum()) for storage in case.storages)


def storage_ranks(storage: Storage) -> np.ndarray:
    """``value_ranks`` of a storage's elements; integers rank by magnitude, so none ever grows."""
    values = decode(storage.array(), storage.dtype)
    if FORMATS[storage.dtype].kind == "float":
        return value_ranks(values)
    return np.abs(values).astype(np.int64)


def cost(declaration: OpDeclaration, case: OpCase) -> tuple[int, ...]:
    """Structure before values: a total order without infinite descent."""
    return (*structure_cost(declaration, case), value_cost(case))


def simpler(declaration: OpDeclaration, case: OpCase, than: OpCase) -> bool:
    """Whether ``case`` costs less; values are looked at only where structures tie."""
    mine, theirs = structure_cost(declaration, case), structure_cost(declaration, than)
    return mine < theirs or (mine == theirs and value_cost(case) < value_cost(than))


def value_ranks(values: np.ndarray) -> np.ndarray:
    """How odd each float64 value looks: 0 for 0.0, 1 for 1.0, then by sign, bits and exponent."""
    finite = np.where(np.isfinite(values), values, 0.0)
    fraction, exponent = np.frexp(np.abs(finite))
    whole = np.ldexp(fraction, 53).astype(np.int64)
    lowest = np.where(whole == 0, 1, whole & -whole)
    bits = np.where(whole == 0, 0, 53 - np.log2(lowest.astype(np.float64)).astype(np.int64))
    size = np.where(whole == 0, 0, np.abs(exponent.astype(np.int64) - 1))
    ranks = np.where(whole == 0, 0, 2 + 2 * bits + size) + 3 * np.signbit(finite)
    ranks = np.where(values == 1.0, 1, ranks)
    ranks = np.where(np.isinf(values), _INFINITE + np.signbit(values), ranks)
    return np.where(np.isnan(values), _NAN, ranks)


def plain_rank(value: Plain) -> int:
    """As ``value_ranks`` for a plain argument: None and False are simplest."""
    if value is None or value is False:
        return 0
    if value is True:
        return 1
    if isinstance(value, str):
        return 1 + len(value)
    return 1 + int(value_ranks(np.array([float(value)]))[0])


def _argument_cost(declaration: OpDeclaration, name: str, value: object) -> int:
    spec = declaration.parameter(name)
    default = None if spec.default is REQUIRED else spec.default
    if value is None or isinstance(value, bool | int | float | str):
        return 0 if value == default else plain_rank(value)
    return 0


def _dtype_cost(dtype: str) -> int:
    return _DTYPES.index(dtype) if dtype in _DTYPES else len(_DTYPES)
