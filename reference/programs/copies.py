"""Steps that copy, fill and convert, and what returns its operand where nothing is to be done."""

from __future__ import annotations

import numpy as np

from ..model.storage import contiguous_strides
from .answers import NotKnown
from .arguments import Arguments
from .computed import fitting
from .memory import Memory, Tensor, checked, kind_of, new_tensor, write
from .pointwise import changed_dtype, copy, number_for
from .strides import Shape, dense_strides, is_contiguous, is_dense, view_strides
from .views import reshaped

_PRESERVE, _ROW_MAJOR = "preserve_format", "contiguous_format"


def kept_strides(x: Tensor) -> Shape:
    """The layout of a copy that preserves the format: ``x``'s own where it has no gaps."""
    if is_dense(x.shape, x.strides):
        return x.strides
    return dense_strides(x.shape, (x.strides,))


def _copied(x: Tensor, strides: Shape) -> Tensor:
    return new_tensor(x.dtype, x.read(), x.unit, x.shape, strides)


def clone(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    return (_copied(x, _asked(x, a.named("memory_format", _PRESERVE))),)


def _asked(x: Tensor, layout: str) -> Shape:
    if layout == _PRESERVE:
        return kept_strides(x)
    if layout == _ROW_MAJOR:
        return contiguous_strides(x.shape)
    raise NotKnown("operand-not-modelled")


def copied_over(a: Arguments) -> tuple[Tensor, ...]:
    """What ``copy_`` would make of its tensor, in another storage and at the same place there.

    torch copies the storage first, so the result keeps strides and offset. What its elements leave
    out is not claimed.
    """
    x = a.tensor("self")
    if x.overlaps_itself():
        raise NotKnown("written-view-overlaps-itself")
    size = len(x.memory.array)
    lost = np.ones(size, np.bool_)
    memory = Memory(x.dtype, np.zeros(size, kind_of(x.dtype)), 0, lost)
    made = Tensor(memory, x.shape, x.strides, x.offset)
    made.window(lost)[...] = False
    values, memory.unit = fitting(copy(a), made, resizes=False)
    made.window(memory.array)[...] = values
    return (made,)


def contiguous(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    return (x if is_contiguous(x.shape, x.strides) else _copied(x, contiguous_strides(x.shape)),)


def reshape(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    shape = reshaped(x, a.integers("shape"))
    strides = view_strides(x.shape, x.strides, shape)
    if strides is not None:
        return (x.view(shape, strides),)
    return (new_tensor(x.dtype, x.read().reshape(shape), x.unit, shape, contiguous_strides(shape)),)


def to_dtype(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    if a.flag("non_blocking"):
        raise NotKnown("operand-not-modelled")
    dtype = a.named("dtype", x.dtype)
    if dtype == x.dtype:
        return (_copied(x, kept_strides(x)) if a.flag("copy") else x,)
    made = changed_dtype(x, dtype)
    return (new_tensor(dtype, made.values, made.unit, x.shape, kept_strides(x)),)


def zeros_like(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    return (new_tensor(x.dtype, np.zeros(x.shape, kind_of(x.dtype)), 0, x.shape, kept_strides(x)),)


def fill(a: Arguments) -> tuple[Tensor, ...]:
    """One value everywhere: an element that is there twice gets it twice."""
    x = a.tensor("self")
    values, unit = number_for(x, a.number("value"))
    checked(values, unit, x.dtype)
    write(x, values, unit)
    return (x,)


def zero(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    write(x, np.zeros((), kind_of(x.dtype)), 0)
    return (x,)
