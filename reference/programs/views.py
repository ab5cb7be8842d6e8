"""Steps that show the same memory otherwise: every result is a window onto the operand's."""

from __future__ import annotations

from .answers import NotKnown, Refused
from .arguments import Arguments, dimension
from .memory import Tensor
from .strides import Shape, inferred_shape, view_strides


def view(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    shape = reshaped(x, a.integers("size"))
    strides = view_strides(x.shape, x.strides, shape)
    if strides is None:
        raise Refused("a view needs dimensions that step evenly")
    return (x.view(shape, strides),)


def reshaped(x: Tensor, wanted: Shape) -> Shape:
    shape = inferred_shape(wanted, x.numel)
    if shape is None:
        raise Refused("as many elements as there are")
    return shape


def alias(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    return (x.view(x.shape, x.strides),)


def transpose(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    first = dimension(a.integer("dim0"), len(x.shape))
    second = dimension(a.integer("dim1"), len(x.shape))
    order = list(range(len(x.shape)))
    if order:
        order[first], order[second] = order[second], order[first]
    return (_permuted(x, order),)


def permute(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dims = a.integers("dims")
    if len(dims) != len(x.shape):
        raise Refused("names every dimension once")
    order = [dimension(d, len(x.shape)) for d in dims]
    if len(set(order)) != len(order):
        raise Refused("names every dimension once")
    return (_permuted(x, order),)


def _permuted(x: Tensor, order: list[int]) -> Tensor:
    return x.view(tuple(x.shape[d] for d in order), tuple(x.strides[d] for d in order))


def slice_(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dim = _real_dimension(a.integer("dim"), x)
    step = a.integer("step")
    if step <= 0:
        raise Refused("a slice steps forward")
    start, end = a.integer_or_none("start"), a.integer_or_none("end")
    low, high, _ = slice(start, end, step).indices(x.shape[dim])
    return (_narrowed(x, dim, low, max(0, -(-(high - low) // step)), step),)


def _real_dimension(number: int, x: Tensor) -> int:
    if not x.shape:
        raise Refused("a tensor that has dimensions")
    return dimension(number, len(x.shape))


def _narrowed(x: Tensor, dim: int, start: int, size: int, step: int = 1) -> Tensor:
    shape = (*x.shape[:dim], size, *x.shape[dim + 1 :])
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :])
    return x.view(shape, strides, x.offset + start * x.strides[dim])


def select(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dim = _real_dimension(a.integer("dim"), x)
    index, size = a.integer("index"), x.shape[dim]
    if not -size <= index < size:
        raise Refused("an index that the dimension has")
    return (_selected(x, dim, index % size),)


def _selected(x: Tensor, dim: int, index: int) -> Tensor:
    shape = x.shape[:dim] + x.shape[dim + 1 :]
    strides = x.strides[:dim] + x.strides[dim + 1 :]
    return x.view(shape, strides, x.offset + index * x.strides[dim])


def diagonal(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    first = _real_dimension(a.integer("dim1"), x)
    second = _real_dimension(a.integer("dim2"), x)
    if first == second:
        raise Refused("a diagonal runs through two dimensions")
    shift = a.integer("offset")
    down, right = max(-shift, 0), max(shift, 0)
    size = max(0, min(x.shape[first] - down, x.shape[second] - right))
    offset = x.offset
    if size:
        offset += down * x.strides[first] + right * x.strides[second]
    kept = [d for d in range(len(x.shape)) if d not in (first, second)]
    shape = (*(x.shape[d] for d in kept), size)
    strides = (*(x.strides[d] for d in kept), x.strides[first] + x.strides[second])
    return (x.view(shape, strides, offset),)


def expand(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    wanted = a.integers("size")
    missing = len(wanted) - len(x.shape)
    if missing < 0 or min(wanted[:missing], default=0) < 0:
        raise Refused("an expanded shape continues the shape to the left")
    shape, strides = list(wanted[:missing]), [0] * missing
    for n, stride, size in zip(x.shape, x.strides, wanted[missing:], strict=True):
        if size not in (-1, n) and (n != 1 or size < 0):
            raise Refused("only a size of 1 expands")
        shape.append(n if size == -1 else size)
        strides.append(stride if size in (-1, n) else 0)
    return (x.view(tuple(shape), tuple(strides)),)


def as_strided(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    shape, strides = a.integers("size"), a.integers("stride")
    offset = a.integer_or_none("storage_offset")
    if len(shape) != len(strides) or min((*shape, *strides), default=0) < 0:
        raise Refused("as many strides as sizes, none below 0")
    made = x.view(shape, strides, offset)
    if made.offset < 0:
        raise Refused("an offset of at least 0")
    if made.bounds()[1] > len(x.memory.array) and made.numel:
        raise Refused("a view lies in its storage")
    return (made,)


def unsqueeze(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    at = dimension(a.integer("dim"), len(x.shape) + 1)
    stride = x.shape[at] * x.strides[at] if at < len(x.shape) else 1
    return (x.view((*x.shape[:at], 1, *x.shape[at:]), (*x.strides[:at], stride, *x.strides[at:])),)


def squeeze(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    at = dimension(a.integer("dim"), len(x.shape))
    if x.shape[at : at + 1] != (1,):
        return (x.view(x.shape, x.strides),)
    return (_selected(x, at, 0),)


def unbind(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dim = _real_dimension(a.integer("dim"), x)
    return tuple(_selected(x, dim, i) for i in range(x.shape[dim]))


def split(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dim, size = _real_dimension(a.integer("dim"), x), a.integer("split_size")
    if size <= 0:
        raise NotKnown("operand-not-modelled") if size == 0 else Refused("a size above 0")
    return _parts(x, dim, size)


def chunk(a: Arguments) -> tuple[Tensor, ...]:
    x = a.tensor("self")
    dim, count = _real_dimension(a.integer("dim"), x), a.integer("chunks")
    if count <= 0:
        raise Refused("at least one chunk")
    if x.shape[dim] == 0:
        raise NotKnown("operand-not-modelled")
    return _parts(x, dim, -(-x.shape[dim] // count))


def _parts(x: Tensor, dim: int, size: int) -> tuple[Tensor, ...]:
    """Stretches of ``size`` along a dimension, the last perhaps shorter; at least one."""
    whole = x.shape[dim]
    starts = range(0, max(whole, 1), size)
    return tuple(_narrowed(x, dim, start, min(size, whole - start)) for start in starts)
