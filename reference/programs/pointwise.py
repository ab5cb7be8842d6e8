"""Steps that work element by element: arithmetic, comparison, choice, conversion, copying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from .answers import NotKnown, Refused
from .arguments import Arguments
from .computed import Computed, converted
from .memory import Tensor, checked
from .promotion import KINDS, dtype_of_number, result_dtype
from .strides import broadcast_shape

Number: TypeAlias = "bool | int | float"


def common_dtype(operands: Sequence[Tensor | Number]) -> str:
    """torch's result dtype of tensors and plain numbers."""
    tensors = [o for o in operands if isinstance(o, Tensor)]
    return result_dtype(
        [t.dtype for t in tensors if t.shape],
        [t.dtype for t in tensors if not t.shape],
        [dtype_of_number(o) for o in operands if not isinstance(o, Tensor)],
    )


def _operand(operand: Tensor | Number, dtype: str) -> tuple[np.ndarray, int | None]:
    """An operand's values and unit in the common dtype."""
    if isinstance(operand, Tensor):
        return converted(operand.read(), operand.unit, operand.dtype, dtype)
    values, unit = converted(
        np.array(operand), number_unit(operand), dtype_of_number(operand), dtype
    )
    checked(values, unit, dtype)
    return values, unit


def number_unit(number: Number) -> int:
    """The largest ``u`` up to 0 for which the number is a multiple of ``2**u``."""
    if isinstance(number, float) and not np.isfinite(number):
        raise NotKnown("magnitude-bound")
    return 1 - number.as_integer_ratio()[1].bit_length()


def _broadcast(operands: Sequence[Tensor | Number]) -> tuple[Tensor, ...]:
    """The tensors among operands. Refused where their shapes have nothing in common."""
    tensors = tuple(o for o in operands if isinstance(o, Tensor))
    if broadcast_shape([t.shape for t in tensors]) is None:
        raise Refused("shapes that broadcast")
    return tensors


def check_zero_signs(made: np.ndarray, *sources: np.ndarray) -> None:
    """Unknown where the sign of a zero in a float result depends on how it was found."""
    if made.dtype == np.float64 and (made == 0).any():
        for source in sources:
            if (np.signbit(source) & (source == 0)).any():
                raise NotKnown("sign-of-zero")


def _finite_work(unit: int | None, dtype: str) -> None:
    """What was observed may be added and multiplied in float32 alone: one rounding, anywhere."""
    if unit is None and dtype != "float32":
        raise NotKnown("rounds-what-was-observed")


def _rounded(values: np.ndarray, unit: int | None) -> np.ndarray:
    if unit is not None:
        return values
    # Observed values, float32 as all else here: 53 digits hold a product, and round a sum so
    # that rounding it again to 24 is the same as rounding once (53 >= 2 * 24 + 2).
    with np.errstate(over="ignore"):
        made = values.astype(np.float32).astype(np.float64)
    if not np.isfinite(made).all():
        raise NotKnown("magnitude-bound")
    return made


def add(a: Arguments) -> Computed:
    return _sum(a, 1)


def subtract(a: Arguments) -> Computed:
    for name in ("self", "other"):
        operand = a.given[name]
        if isinstance(operand, bool) or (isinstance(operand, Tensor) and operand.dtype == "bool"):
            raise Refused("no bool is subtracted")
    return _sum(a, -1)


def _sum(a: Arguments, sign: int) -> Computed:
    operands = (a.tensor("self"), a.tensor_or_number("other"))
    sources = _broadcast(operands)
    dtype = common_dtype(operands)
    alpha = a.number("alpha")
    if isinstance(alpha, bool) or (dtype == "bool" and alpha != 1):
        raise NotKnown("operand-not-modelled")
    if isinstance(alpha, float) and KINDS[dtype] < 2:
        raise Refused("an alpha of the result's kind")
    (left, u), (right, v) = (_operand(o, dtype) for o in operands)
    if dtype == "bool":
        return Computed(dtype=dtype, values=left | right, unit=0, sources=sources)
    unit = _lowest(u, None if v is None else v + number_unit(alpha))
    _finite_work(unit, dtype)
    if unit is None and abs(alpha) != 1:
        raise NotKnown("rounds-what-was-observed")
    factor = sign * alpha
    values = (
        left + right if factor == 1 else left - right if factor == -1 else left + factor * right
    )
    return Computed(dtype=dtype, values=_rounded(values, unit), unit=unit, sources=sources)


def _lowest(*units: int | None) -> int | None:
    found = 0
    for unit in units:
        if unit is None:
            return None
        found = min(found, unit)
    return found


def multiply(a: Arguments) -> Computed:
    operands = (a.tensor("self"), a.tensor_or_number("other"))
    sources = _broadcast(operands)
    dtype = common_dtype(operands)
    (left, u), (right, v) = (_operand(o, dtype) for o in operands)
    if dtype == "bool":
        return Computed(dtype=dtype, values=left & right, unit=0, sources=sources)
    unit = None if u is None or v is None else u + v
    _finite_work(unit, dtype)
    return Computed(dtype=dtype, values=_rounded(left * right, unit), unit=unit, sources=sources)


def maximum(a: Arguments) -> Computed:
    return _extreme(a, np.maximum)


def minimum(a: Arguments) -> Computed:
    return _extreme(a, np.minimum)


def _extreme(a: Arguments, choose: np.ufunc) -> Computed:
    operands = (a.tensor("self"), a.tensor("other"))
    sources = _broadcast(operands)
    dtype = common_dtype(operands)
    (left, u), (right, v) = (_operand(o, dtype) for o in operands)
    values = choose(left, right)
    check_zero_signs(values, left, right)
    return Computed(dtype=dtype, values=values, unit=_lowest(u, v), sources=sources)


def negative(a: Arguments) -> Computed:
    return _unary(a, np.negative, "no bool is negated")


def absolute(a: Arguments) -> Computed:
    return _unary(a, np.abs, "a bool has no absolute value")


def relu(a: Arguments) -> Computed:
    made = _unary(a, lambda x: np.maximum(x, 0), "a bool is not rectified")
    check_zero_signs(made.values, a.tensor("self").read())
    return made


def _unary(a: Arguments, function: object, of_bool: str) -> Computed:
    x = a.tensor("self")
    dtype = common_dtype((x,))
    if dtype == "bool":
        raise Refused(of_bool)
    values = function(x.read())  # type: ignore[operator]
    return Computed(dtype=dtype, values=values, unit=x.unit, sources=(x,), out="same")


def greater(a: Arguments) -> Computed:
    operands = (a.tensor("self"), a.tensor_or_number("other"))
    sources = _broadcast(operands)
    dtype = common_dtype(operands)
    (left, _), (right, _) = (_operand(o, dtype) for o in operands)
    return Computed(dtype="bool", values=left > right, unit=0, sources=sources)


def choose(a: Arguments) -> Computed:
    condition = a.tensor("condition")
    operands = (a.tensor("self"), a.tensor("other"))
    if condition.dtype != "bool":
        raise Refused("a condition of bool")
    sources = _broadcast((condition, *operands))
    dtype = common_dtype(operands)
    (left, u), (right, v) = (_operand(o, dtype) for o in operands)
    values = np.where(condition.read(), left, right)
    unit = _lowest(u, v)
    return Computed(dtype=dtype, values=values, unit=unit, sources=sources, out="same")


def copy(a: Arguments) -> Computed:
    """``src`` as ``self`` takes it: its dtype, repeated to its shape."""
    target, source = a.tensor("self"), a.tensor("src")
    if broadcast_shape((target.shape, source.shape)) != target.shape:
        raise Refused("shapes that broadcast to the one written")
    values, unit = converted(source.read(), source.unit, source.dtype, target.dtype)
    return Computed(
        dtype=target.dtype,
        values=np.broadcast_to(values, target.shape),
        unit=unit,
        sources=(source,),
    )


def number_for(target: Tensor, number: Number) -> tuple[np.ndarray, int | None]:
    """A plain number as a tensor's dtype takes it."""
    if target.dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    found = dtype_of_number(number)
    return converted(np.array(number), number_unit(number), found, target.dtype)


def changed_dtype(x: Tensor, dtype: str) -> Computed:
    """``x`` in another dtype."""
    if dtype not in KINDS:
        raise NotKnown("dtype-without-arithmetic")
    values, unit = converted(x.read(), x.unit, x.dtype, dtype)
    return Computed(dtype=dtype, values=values, unit=unit, sources=(x,))
