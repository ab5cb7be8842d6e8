"""Steps whose results mix elements: reductions, matrix products, joining, selection by index."""

from __future__ import annotations

import numpy as np

from .answers import NotKnown, Refused
from .arguments import Arguments, dimension
from .computed import Computed, converted
from .memory import Tensor, checked, new_tensor
from .pointwise import check_zero_signs, common_dtype
from .promotion import KINDS
from .strides import Shape


def _axes(a: Arguments, x: Tensor) -> Shape:
    """The dimensions to reduce over; none named means all of them."""
    dims = tuple(dimension(d, len(x.shape)) for d in a.integers("dim"))
    if len(set(dims)) != len(dims):
        raise Refused("names a dimension at most once")
    return dims if dims and x.shape else tuple(range(len(x.shape)))


def _observed(x: Tensor) -> None:
    if x.unit is None:
        raise NotKnown("rounds-what-was-observed")


def total(a: Arguments) -> Computed:
    x = a.tensor("self")
    axes = _axes(a, x)
    if x.dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    _observed(x)
    dtype = x.dtype if KINDS[x.dtype] == 2 else "int64"
    values = x.read()
    # Zero first, as torch begins: a sum of negative zeros alone is positive.
    made = 0 + values.sum(axis=axes, keepdims=a.flag("keepdim"))
    checked(np.abs(values).sum(axis=axes), x.unit, "float32" if dtype != "int64" else dtype)
    return Computed(
        dtype=dtype,
        values=np.asarray(made),
        unit=x.unit,
        sources=(x,),
        elementwise=False,
        # Into another dtype torch adds up in that dtype.
        out="same-modelled",
    )


def largest(a: Arguments) -> Computed:
    x = a.tensor("self")
    axes = _axes(a, x)
    if any(x.shape[axis] == 0 for axis in axes):
        raise Refused("a maximum of at least one element")
    if x.dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    values = x.read()
    made = np.asarray(values.max(axis=axes, keepdims=a.flag("keepdim")))
    check_zero_signs(made, values)
    return Computed(
        dtype=x.dtype, values=made, unit=x.unit, sources=(x,), elementwise=False, out="same"
    )


def least_and_largest(a: Arguments) -> tuple[Tensor, ...]:
    """Minimum and maximum over one dimension, as two tensors."""
    x = a.tensor("self")
    axis = dimension(a.integer("dim"), len(x.shape))
    if x.dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    if not x.shape or x.shape[axis] == 0:
        raise NotKnown("operand-not-modelled")
    values = x.read()
    made = []
    for found in (values.min, values.max):
        part = np.asarray(found(axis=axis, keepdims=a.flag("keepdim")))
        check_zero_signs(part, values)
        done = Computed(dtype=x.dtype, values=part, unit=x.unit, sources=(x,), elementwise=False)
        made.append(new_tensor(x.dtype, part, x.unit, part.shape, done.strides))
    return tuple(made)


def matrix_product(a: Arguments) -> Computed:
    return _product(a, 2)


def batched_product(a: Arguments) -> Computed:
    return _product(a, 3)


def _product(a: Arguments, rank: int) -> Computed:
    x, y = a.tensor("self"), a.tensor("mat2")
    if len(x.shape) != rank or len(y.shape) != rank:
        raise Refused("matrices of the rank asked for")
    if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
        raise Refused("matrices that fit")
    if x.dtype != y.dtype:
        raise Refused("matrices of one dtype")
    if x.dtype == "bool":
        raise Refused("no product of bool matrices")
    if x.dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    if x.unit is None or y.unit is None:
        raise NotKnown("rounds-what-was-observed")
    unit = x.unit + y.unit
    left, right = x.read(), y.read()
    made, size = left @ right, np.abs(left) @ np.abs(right)
    checked(size, unit, "float32" if KINDS[x.dtype] == 2 else x.dtype)
    if made.dtype == np.float64:
        if ((size == 0) & (np.signbit(left).any() | np.signbit(right).any())).any():
            # All products are zeros and some negative: libraries begin the sum differently.
            raise NotKnown("sign-of-zero")
        made = made + 0.0
    return Computed(
        dtype=x.dtype, values=made, unit=unit, sources=(x, y), elementwise=False, out="same"
    )


def concatenated(a: Arguments) -> Computed:
    parts = a.tensors("tensors")
    if any(part.shape == (0,) for part in parts):
        # An old rule lets these have any shape beside them.
        raise NotKnown("operand-not-modelled")
    if any(not part.shape for part in parts):
        raise Refused("no tensor without dimensions is joined")
    dim = dimension(a.integer("dim"), len(parts[0].shape))
    kept = {(*p.shape[:dim], *p.shape[dim + 1 :]) for p in parts}
    if len(kept) > 1 or len({len(p.shape) for p in parts}) > 1:
        raise Refused("shapes alike but for the dimension joined")
    return _joined(parts, dim, np.concatenate)


def stacked(a: Arguments) -> Computed:
    parts = a.tensors("tensors")
    if len({part.shape for part in parts}) > 1:
        raise Refused("shapes alike")
    return _joined(parts, dimension(a.integer("dim"), len(parts[0].shape) + 1), np.stack)


def _joined(parts: tuple[Tensor, ...], dim: int, join: object) -> Computed:
    dtype = common_dtype(parts) if len({p.dtype for p in parts}) > 1 else parts[0].dtype
    held = [converted(p.read(), p.unit, p.dtype, dtype) for p in parts]
    values = join([v for v, _ in held], axis=dim)  # type: ignore[operator]
    units = [u for _, u in held if u is not None]
    unit = min(units) if len(units) == len(held) else None
    return Computed(dtype=dtype, values=values, unit=unit, sources=parts, elementwise=False)


def selected(a: Arguments) -> Computed:
    x, index = a.tensor("self"), a.tensor("index")
    dim = dimension(a.integer("dim"), len(x.shape))
    if index.dtype not in ("int64", "int32"):
        raise Refused("an index of int64 or int32")
    if len(index.shape) > 1:
        raise Refused("an index of at most one dimension")
    if not x.shape:
        raise NotKnown("operand-not-modelled")
    rows = index.read().reshape(-1)
    if rows.size and not 0 <= rows.min() <= rows.max() < x.shape[dim]:
        raise Refused("an index that the dimension has")
    values = np.take(x.read(), rows, axis=dim)
    return Computed(
        dtype=x.dtype, values=values, unit=x.unit, sources=(x, index), elementwise=False
    )
