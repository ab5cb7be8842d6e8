"""Single steps on values that are there: each draws operands that fit and asks the builder."""

from __future__ import annotations

from collections.abc import Callable

from reference.model import Name, ProgramOperand, Value
from reference.programs.memory import Tensor
from reference.programs.strides import broadcast_shape

from .builder import Builder, is_float

_NUMBERS = (1, 2, -1, 0.5, 1.0, 2.0, -2, 3)
_FACTORS = (2, -1, 0.5, 2.0, -2)
"""Without 1: a product that changes nothing hides whether it was written."""
_BINARY = ("add", "sub", "mul")
Move = Callable[[Builder], object]


def _has_dimensions(tensor: Tensor) -> bool:
    return bool(tensor.shape)


def _is_arithmetic(tensor: Tensor) -> bool:
    return is_float(tensor) or tensor.dtype == "int64"


def partner(b: Builder, x: Tensor, *, fits: Callable[[Tensor], bool] = _is_arithmetic) -> int:
    """A value whose shape broadcasts with that of ``x``, below 0 where none does."""
    found = b.pick(lambda t: fits(t) and broadcast_shape((t.shape, x.shape)) is not None)
    return -1 if found is None else found


def _operand(b: Builder, x: Tensor, name: str = "") -> ProgramOperand:
    numbers = _FACTORS if name.startswith("mul") else _NUMBERS
    if b.chooser.chance(0.45):
        return b.chooser.choose(numbers)
    number = partner(b, x)
    return b.chooser.choose(numbers) if number < 0 else Value(number)


def binary(b: Builder) -> object:
    number = b.pick(_is_arithmetic)
    if number is None:
        return None
    x = b.tensor(number)
    name = b.chooser.choose(_BINARY)
    alpha = b.chooser.choose((1, 2, -1)) if name != "mul" and b.chooser.chance(0.1) else None
    target = f"aten.{name}.Tensor"
    if alpha is not None:
        return b.add(target, Value(number), _operand(b, x), alpha=alpha)
    if b.chooser.chance(0.08):
        return b.add(target, self=Value(number), other=_operand(b, x, name))
    return b.add(target, Value(number), _operand(b, x, name))


def binary_out(b: Builder) -> object:
    target = b.pick(is_float)
    if target is None:
        return None
    shape = b.tensor(target).shape
    number = b.pick(lambda t: is_float(t) and t.shape == shape)
    if number is None:
        return None
    x = b.tensor(number)
    name = b.chooser.choose(("add", "mul", "sub", "maximum", "minimum", "neg", "abs"))
    if name in ("neg", "abs"):
        return b.add(f"aten.{name}.out", Value(number), out=Value(target))
    if name in ("maximum", "minimum"):
        other = partner(b, x)
        return other >= 0 and b.add(
            f"aten.{name}.out", Value(number), Value(other), out=Value(target)
        )
    return b.add(f"aten.{name}.out", Value(number), _operand(b, x, name), out=Value(target))


def write_to(b: Builder, number: int) -> bool:
    """One of the ways to write a value in place, through it or through a view of it."""
    if b.chooser.chance(0.45):
        made = view_of(b, number)
        number = made if made is not None else number
    x = b.tensor(number)
    way = b.chooser.choose(
        ("add_", "add_", "mul_", "sub_", "fill", "zero", "copy", "out", "out", "each", "pairs",
         "neg_", "relu_", "abs_", "named", "copies", "cat"),
    )  # fmt: skip
    if way in ("add_", "mul_", "sub_"):
        return b.accepts(f"aten.{way}.Tensor", Value(number), _operand(b, x, way))
    if way == "named":
        return b.accepts("aten.add_.Tensor", self=Value(number), other=_operand(b, x))
    if way == "fill":
        return b.accepts("aten.fill_.Scalar", Value(number), b.chooser.choose(_NUMBERS))
    if way == "zero":
        return b.accepts("aten.zero_.default", Value(number))
    if way in ("neg_", "relu_", "abs_"):
        return b.accepts(f"aten.{way}.default", Value(number))
    if way == "each":
        targets = (Value(number),)
        other = b.pick(is_float)
        if other is not None and b.chooser.chance(0.5):
            targets = (Value(other), Value(number))
        return b.accepts("aten._foreach_add_.Scalar", targets, 1.0, results=0)
    other = partner(b, x, fits=is_float)
    if other < 0:
        return False
    if way in ("pairs", "copies"):
        name = "_foreach_mul_.List" if way == "pairs" else "_foreach_copy_.default"
        return b.accepts(f"aten.{name}", (Value(number),), (Value(other),), results=0)
    if way == "copy":
        return b.accepts("aten.copy_.default", Value(number), Value(other))
    if way == "cat" and x.shape and x.shape[0] > 1:
        half = b.pick(lambda t: is_float(t) and t.shape == (x.shape[0] - 1, *x.shape[1:]))
        row = b.pick(lambda t: is_float(t) and t.shape == (1, *x.shape[1:]))
        if half is not None and row is not None:
            return b.accepts("aten.cat.out", (Value(row), Value(half)), 0, out=Value(number))
    name = b.chooser.choose(_BINARY)
    return b.accepts(f"aten.{name}.out", Value(other), _operand(b, x, name), out=Value(number))


def write_any(b: Builder) -> object:
    number = b.pick(_is_arithmetic)
    return number is not None and write_to(b, number)


def unary(b: Builder) -> object:
    number = b.pick(_is_arithmetic)
    name = b.chooser.choose(("neg", "abs", "relu"))
    return number is not None and b.add(f"aten.{name}.default", Value(number))


def extreme(b: Builder) -> object:
    number = b.pick(_is_arithmetic)
    if number is None:
        return None
    other = partner(b, b.tensor(number))
    name = b.chooser.choose(("maximum", "minimum"))
    return other >= 0 and b.add(f"aten.{name}.default", Value(number), Value(other))


def compare_and_choose(b: Builder) -> object:
    number = b.pick(_is_arithmetic)
    if number is None:
        return None
    x = b.tensor(number)
    condition = b.pick(
        lambda t: t.dtype == "bool" and broadcast_shape((t.shape, x.shape)) is not None
    )
    if condition is None:
        compared = partner(b, x)
        if compared >= 0 and b.chooser.chance(0.3):
            made = b.add("aten.gt.Tensor", Value(number), Value(compared))
        else:
            made = b.add("aten.gt.Scalar", Value(number), b.chooser.choose((0, 1, 0.5)))
        condition = made[0] if made else None
    other = partner(b, x)
    if condition is None or other < 0:
        return None
    target = b.pick(lambda t: t.shape == x.shape and t.dtype == x.dtype)
    if target is not None and b.chooser.chance(0.25):
        operands = (Value(condition), Value(number), Value(other))
        return b.add("aten.where.self_out", *operands, out=Value(target))
    return b.add("aten.where.self", Value(condition), Value(number), Value(other))


def reduce(b: Builder) -> object:
    number = b.pick(lambda t: _is_arithmetic(t) and bool(t.shape))
    if number is None:
        return None
    dim = b.chooser.integer(-1, len(b.tensor(number).shape) - 1)
    kind = b.chooser.choose(("sum", "sum", "amax", "aminmax", "sum_out", "amax_out"))
    keep = b.chooser.chance(0.3)
    if kind == "sum":
        return b.add("aten.sum.dim_IntList", Value(number), (dim,), keep)
    if kind == "amax":
        return b.add("aten.amax.default", Value(number), (dim,), keep)
    if kind == "aminmax":
        return b.add("aten.aminmax.default", Value(number), dim=dim, keepdim=keep, results=2)
    x = b.tensor(number)
    shape = (*x.shape[: dim % len(x.shape)], *x.shape[dim % len(x.shape) + 1 :])
    target = b.pick(lambda t: t.shape == shape and t.dtype == x.dtype)
    name = "aten.sum.IntList_out" if kind == "sum_out" else "aten.amax.out"
    return target is not None and b.add(name, Value(number), (dim,), out=Value(target))


def matrix(b: Builder) -> object:
    number = b.pick(lambda t: len(t.shape) in (2, 3) and is_float(t))
    if number is None:
        return None
    if len(b.tensor(number).shape) == 3:
        made = b.add("aten.transpose.int", Value(number), 1, 2)
        return made and b.add("aten.bmm.default", Value(number), Value(made[0]))
    x = b.tensor(number)
    other = b.pick(lambda t: t.dtype == x.dtype and len(t.shape) == 2 and t.shape[0] == x.shape[1])
    if other is None:
        made = b.add("aten.transpose.int", Value(number), 0, 1)
        other = made[0]
    shape = (x.shape[0], b.tensor(other).shape[1])
    target = b.pick(lambda t: t.shape == shape and t.dtype == x.dtype)
    if target is not None and b.chooser.chance(0.3):
        return b.add("aten.mm.out", Value(number), Value(other), out=Value(target))
    return b.add("aten.mm.default", Value(number), Value(other))


def join(b: Builder) -> object:
    number = b.pick(_has_dimensions)
    if number is None:
        return None
    x = b.tensor(number)
    other = b.pick(lambda t: t.shape == x.shape and t.dtype == x.dtype)
    parts = (Value(number), Value(number if other is None else other))
    if b.chooser.chance(0.5):
        return b.add("aten.stack.default", parts, b.chooser.integer(0, len(x.shape)))
    return b.add("aten.cat.default", parts, b.chooser.integer(-1, len(x.shape) - 1))


def select_rows(b: Builder) -> object:
    index = b.pick(lambda t: t.dtype == "int64" and len(t.shape) == 1)
    number = b.pick(_has_dimensions)
    if index is None or number is None:
        return reduce(b)
    dim = b.chooser.integer(0, len(b.tensor(number).shape) - 1)
    return b.add("aten.index_select.default", Value(number), dim, Value(index))


def convert(b: Builder) -> object:
    number = b.pick()
    dtype = b.chooser.choose(("float32", "float32", "bfloat16", "float16", "int64"))
    if number is None:
        return None
    if b.chooser.chance(0.2):
        return b.add("aten.to.dtype", Value(number), Name(dtype), False, True)
    return b.add("aten.to.dtype", Value(number), Name(dtype))


def contiguous(b: Builder) -> object:
    number = b.pick()
    return number is not None and b.add("aten.contiguous.default", Value(number))


def zeros(b: Builder) -> object:
    number = b.pick(is_float)
    return number is not None and b.add("aten.zeros_like.default", Value(number))


def clone_of(b: Builder, number: int) -> int | None:
    """A clone of a value, rarely with a memory format named."""
    if b.chooser.chance(0.12):
        layout = b.chooser.choose(("contiguous_format", "preserve_format"))
        made = b.add("aten.clone.default", Value(number), memory_format=Name(layout))
    else:
        made = b.add("aten.clone.default", Value(number))
    if not made:
        return None
    b.clones.append((number, made[0]))
    return made[0]


def clone(b: Builder) -> object:
    number = b.pick()
    return number is not None and clone_of(b, number)


def view(b: Builder) -> object:
    number = b.pick()
    return number is not None and view_of(b, number)


def view_of(b: Builder, number: int) -> int | None:
    """A view of a value; of those that give several, one of them. None where it is refused."""
    x, choose = b.tensor(number), b.chooser
    rank = len(x.shape)
    kind = choose.choose(
        ("flat", "flat", "transpose", "select", "select", "slice", "slice", "unsqueeze", "expand",
         "as_strided", "permute", "split", "unbind", "chunk", "diagonal", "squeeze", "reshape",
         "alias", "halves"),
    )  # fmt: skip
    made: tuple[int, ...] = ()
    if kind == "flat":
        made = b.add("aten.view.default", Value(number), (-1,))
    elif kind == "reshape":
        made = b.add("aten.reshape.default", Value(number), (-1,) if rank > 1 else (x.numel, 1))
    elif kind == "halves" and x.numel % 2 == 0:
        made = b.add("aten.view.default", Value(number), (2, x.numel // 2))
    elif kind == "alias":
        made = b.add("aten.alias.default", Value(number))
    elif kind == "unsqueeze":
        made = b.add("aten.unsqueeze.default", Value(number), choose.integer(0, rank))
    elif kind == "expand":
        made = b.add("aten.expand.default", Value(number), (2, *x.shape))
    elif kind == "squeeze":
        made = b.add("aten.squeeze.dim", Value(number), 0)
    elif rank:
        made = _view_of_dimensions(b, number, kind)
    return choose.choose(made) if made else None


def _view_of_dimensions(b: Builder, number: int, kind: str) -> tuple[int, ...]:
    x, choose = b.tensor(number), b.chooser
    rank = len(x.shape)
    dim = choose.integer(0, rank - 1)
    size = x.shape[dim]
    if size == 0:
        return ()
    if kind == "transpose" and rank > 1:
        return b.add("aten.transpose.int", Value(number), dim, (dim + 1) % rank)
    if kind == "permute":
        return b.add("aten.permute.default", Value(number), tuple(range(rank))[::-1])
    if kind == "select":
        return b.add("aten.select.int", Value(number), dim, choose.integer(-1, size - 1))
    if kind == "slice":
        start = choose.integer(0, size - 1)
        end = choose.choose((size, size, -1, 2**63 - 1))
        step = choose.choose((1, 1, 1, 2))
        return b.add("aten.slice.Tensor", Value(number), dim, start, end, step)
    if kind == "diagonal" and rank > 1:
        return b.add("aten.diagonal.default", Value(number), choose.choose((0, 0, 1)))
    if kind == "unbind":
        return b.add("aten.unbind.int", Value(number), dim, results=size)
    if kind == "split":
        part = choose.integer(1, size)
        return b.add("aten.split.Tensor", Value(number), part, dim, results=-(-size // part))
    if kind == "chunk" and size > 1:
        part = -(-size // 2)
        return b.add("aten.chunk.default", Value(number), 2, dim, results=-(-size // part))
    if kind == "as_strided":
        return _strided(b, number)
    return ()


def _strided(b: Builder, number: int) -> tuple[int, ...]:
    x, choose = b.tensor(number), b.chooser
    numel = len(x.memory.array)
    stride = choose.choose((1, 2, 3))
    shape, strides = ((2, 2), (stride, 1)) if choose.chance(0.5) else ((3,), (stride,))
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if reach > numel:
        return ()
    offset = choose.integer(0, numel - reach)
    return b.add("aten.as_strided.default", Value(number), shape, strides, offset)


MOVES: tuple[Move, ...] = (
    *(binary,) * 4, *(view,) * 4, *(write_any,) * 4, *(clone,) * 3,
    binary_out, binary_out, unary, unary, extreme, compare_and_choose, reduce, reduce, matrix,
    join, select_rows, convert, contiguous, zeros,
)  # fmt: skip
"""Each as often as its weight."""
