"""The exact functions that steps of contracts name, each with the words that describe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from reference import arithmetic, elementary, interval, paged
from reference.dtypes import FORMATS, format_of, round_to
from reference.elementary import F32, UNIT
from reference.interval import MAYBE, MUST, Interval, hull, point, rounded
from reference.summation import accumulate

E4M3_MAX = 448.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a step may look up besides its operands.

    dtypes: the dtype of every tensor argument that was given.
    plain: the arguments that are no tensors (None included).
    backend: a device or library of ``reference.elementary``.
    """

    dtypes: Mapping[str, str]
    plain: Mapping[str, Any]
    backend: str

    def format(self, name: str) -> str:
        """A format's name, or ``@x``: the dtype of argument x."""
        return format_of(self.dtypes[name[1:]] if name.startswith("@") else name).name

    def scalar(self, name: str) -> Interval:
        """A Python float argument as the float32 it becomes when it meets a float32 tensor."""
        return point(round_to(float(self.plain[name]), F32))


@dataclass(frozen=True, slots=True)
class Function:
    """``apply(scope, *operands)``; ``text`` describes it with the operands' names filled in."""

    text: str
    apply: Callable[..., Interval]


def _number(scope: Scope, operand: Interval | str) -> Interval:
    return scope.scalar(operand) if isinstance(operand, str) else operand


def _same(scope: Scope, a: Interval) -> Interval:
    return a


def _add(scope: Scope, a: Interval, b: Interval | str) -> Interval:
    return arithmetic.add(a, _number(scope, b))


def _subtract(scope: Scope, a: Interval, b: Interval) -> Interval:
    return arithmetic.subtract(a, b)


def _multiply(scope: Scope, a: Interval, b: Interval | str) -> Interval:
    return arithmetic.multiply(a, _number(scope, b))


def _divide(scope: Scope, a: Interval, b: Interval) -> Interval:
    return arithmetic.divide(a, b)


def _reciprocal(scope: Scope, a: Interval) -> Interval:
    return arithmetic.divide(point(np.ones(())), a)


def _square(scope: Scope, a: Interval) -> Interval:
    return arithmetic.square(a)


def _leading(scope: Scope, a: Interval, size: str | None) -> Interval:
    count = None if size is None else scope.plain.get(size)
    return a if count is None else a[..., : int(count)]


def _sum(scope: Scope, a: Interval, size: str | None = None) -> Interval:
    return accumulate(_leading(scope, a, size), F32)


def _mean(scope: Scope, total: Interval, terms: Interval, size: str | None = None) -> Interval:
    """Both usual forms: divided by the count, or times its float32 reciprocal."""
    count = _leading(scope, terms, size).shape[-1]
    divided = rounded(arithmetic.divide(total, point(np.float64(count))), F32)
    if count & (count - 1) == 0:
        return divided
    inverse = point(round_to(1.0 / count, F32))
    return hull(divided, rounded(arithmetic.multiply(total, inverse), F32))


def _rsqrt(scope: Scope, a: Interval) -> Interval:
    return elementary.rsqrt(a, scope.backend)


def _first_half(scope: Scope, a: Interval) -> Interval:
    return a[..., : a.shape[-1] // 2]


def _second_half(scope: Scope, a: Interval) -> Interval:
    return a[..., a.shape[-1] // 2 :]


def _population_std(scope: Scope, a: Interval) -> Interval:
    """The population standard deviation over the last axis of exact data, kept with size 1.

    In float32 or wider, in two passes or by Welford's update, in any order. With u = 2**-24,
    R = rms of the row and s its deviation:
    * two passes: the mean errs by at most n u R, which adds at most as much to s; the n squares,
      their sum, the quotient and the root err by (n / 2 + 3) u s relative, and s <= R.
    * Welford: k times the error of the k-th mean grows by u (|sum of k terms| + 3 |x_k| +
      3 |mean|) a step, and |sum of k terms| <= sqrt(k) sqrt(n) R, so no mean errs by more than
      e = u sqrt(n) R (2/3 sqrt(n) + 6); the sum of products then gives s an error of at most
      sqrt(2) e, besides the same relative one.
    Both, and merging partial updates (which sums less often), stay below
    (2 n + 9 sqrt(n) + 8) u R. The textbook form E[x**2] - E[x]**2 does not, on purpose.
    """
    values, count = a.lo, a.shape[-1]
    with np.errstate(all="ignore"):
        finite = np.isfinite(values).all(axis=-1, keepdims=True)
        if count == 1:
            return point(np.where(finite, 0.0, np.nan))
        centred = values - values.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True))
        size = np.sqrt(np.square(values).mean(axis=-1, keepdims=True))
        error = (2 * count + 9 * np.sqrt(count) + 8) * UNIT * size
        # Squares below float32's normal range lose up to half its smallest subnormal each.
        lost = FORMATS[F32].min_subnormal
        lo = np.sqrt(np.maximum(np.square(np.maximum(deviation - error, 0.0)) - lost, 0.0))
        hi = np.sqrt(np.square(deviation + error) + lost)
        largest = np.maximum(np.abs(values).sum(axis=-1, keepdims=True), count * hi * hi)
        may_overflow = largest * (1 + 2 * count * UNIT) >= FORMATS[F32].max
        hi = np.where(may_overflow, np.inf, hi)
    # An overflowing mean turns into inf - inf in some orders and not in others.
    nan = np.where(finite, np.where(may_overflow, MAYBE, 0), MUST).astype(np.uint8)
    return Interval(np.where(finite, lo, np.nan), np.where(finite, hi, np.nan), nan)


def _relu(scope: Scope, a: Interval) -> Interval:
    return interval.relu(a)


def _silu(scope: Scope, a: Interval) -> Interval:
    return elementary.silu(a, scope.backend)


def _gelu(scope: Scope, a: Interval, approximate: str) -> Interval:
    return elementary.gelu(a, scope.plain.get(approximate) or "none", scope.backend)


def _rotary_size(scope: Scope) -> tuple[int, int]:
    head_size = int(scope.plain["head_size"])
    chosen = scope.plain.get("rotary_dim")
    return head_size, head_size if chosen is None else int(chosen)


def _rotary_parts(scope: Scope) -> tuple[slice, slice]:
    """Where x1 and x2 lie in a head: halves (NeoX) or even and odd elements (GPT-J)."""
    _, dim = _rotary_size(scope)
    if scope.plain["is_neox"]:
        return slice(0, dim // 2), slice(dim // 2, dim)
    return slice(0, dim, 2), slice(1, dim, 2)


def _heads(scope: Scope, a: Interval) -> Interval:
    head_size, _ = _rotary_size(scope)
    width = int(np.prod(a.shape[1:], dtype=np.int64))
    return a.reshape((a.shape[0], width // head_size, head_size))


def _rotary_first(scope: Scope, a: Interval) -> Interval:
    return _heads(scope, a)[..., _rotary_parts(scope)[0]]


def _rotary_second(scope: Scope, a: Interval) -> Interval:
    return _heads(scope, a)[..., _rotary_parts(scope)[1]]


def _table_rows(cache: Interval, positions: Interval, part: slice) -> Interval:
    chosen = cache.lo[positions.lo.astype(np.int64), part]
    return point(chosen[:, None, :])


def _cosines(scope: Scope, cache: Interval, positions: Interval) -> Interval:
    return _table_rows(cache, positions, slice(0, cache.shape[-1] // 2))


def _sines(scope: Scope, cache: Interval, positions: Interval) -> Interval:
    return _table_rows(cache, positions, slice(cache.shape[-1] // 2, cache.shape[-1]))


def _put_back(scope: Scope, a: Interval, first: Interval, second: Interval) -> Interval:
    heads, (one, two) = _heads(scope, a), _rotary_parts(scope)

    def filled(old: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        out = old.copy()
        out[..., one], out[..., two] = left, right
        return out.reshape(a.shape)

    lo = filled(heads.lo, first.lo, second.lo)
    points = first.is_point and second.is_point
    hi = lo if points else filled(heads.hi, first.hi, second.hi)
    return Interval(lo, hi, filled(heads.nan, first.nan, second.nan))


def _largest_magnitude(scope: Scope, a: Interval) -> Interval:
    size = interval.absolute(a)
    lo = size.lo.max(axis=-1, keepdims=True)
    hi = lo if size.is_point else size.hi.max(axis=-1, keepdims=True)
    return Interval(lo, hi, size.nan.max(axis=-1, keepdims=True))


def _minimum(scope: Scope, a: Interval, b: Interval) -> Interval:
    return interval.minimum(a, b)


def _over_448(scope: Scope, a: Interval) -> Interval:
    return arithmetic.divide(a, point(np.float64(E4M3_MAX)))


def _at_least(limit: float) -> Callable[[Scope, Interval], Interval]:
    floor = point(round_to(limit, F32))
    return lambda scope, a: interval.maximum(a, floor)


def _clamped(scope: Scope, a: Interval) -> Interval:
    return interval.clamp(a, -E4M3_MAX, E4M3_MAX)


def _groups(scope: Scope, a: Interval) -> Interval:
    size = int(scope.plain["group_size"])
    return a.reshape((*a.shape[:-1], a.shape[-1] // size, size))


def _joined_groups(scope: Scope, a: Interval) -> Interval:
    return a.reshape((*a.shape[:-2], a.shape[-2] * a.shape[-1]))


def _power_of_two(scope: Scope, a: Interval, flag: str) -> Interval:
    if not scope.plain.get(flag, False):
        return a

    def raised(values: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(values)
        power = np.ldexp(1.0, np.where(fraction == 0.5, exponent - 1, exponent))
        return np.where(np.isfinite(values), power, values)

    lo = raised(a.lo)
    return Interval(lo, lo if a.is_point else raised(a.hi), a.nan)


def _largest_of_all(scope: Scope, a: Interval) -> Interval:
    """max |a| over every element as shape (1,), 0 over none; NaN where there is one."""
    size = np.abs(a.lo).max(initial=0.0)
    return point(np.full(1, size))


def _or_one(scope: Scope, a: Interval, largest: Interval) -> Interval:
    return interval.where(largest.lo > 0, a, point(np.ones(a.shape)))


def _records(place: Interval, present: Interval) -> tuple[bool, int]:
    """Whether a call's maximum is kept, and where: not 0, infinite or NaN."""
    largest = float(present.lo[0])
    return bool(np.isfinite(largest) and largest > 0), int(place.lo[0])


def _amax_recorded(scope: Scope, history: Interval, place: Interval, present: Interval) -> Interval:
    after = history.lo.copy()
    kept, at = _records(place, present)
    if kept:
        after[at] = present.lo[0]
    return point(after)


def _next_recorded(scope: Scope, history: Interval, place: Interval, present: Interval) -> Interval:
    kept, at = _records(place, present)
    return point(np.full(1, float((at + kept) % history.shape[0])))


def _weighted_by_softmax(scope: Scope, *operands: Interval) -> Interval:
    return paged.weighted_by_softmax(*operands, backend=scope.backend)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "same": Function("{0}", _same),
        "add": Function("{0} + {1}", _add),
        "subtract": Function("{0} - {1}", _subtract),
        "multiply": Function("{0} * {1}", _multiply),
        "divide": Function("{0} / {1}", _divide),
        "reciprocal": Function("1 / {0}", _reciprocal),
        "square": Function("{0} * {0}", _square),
        "sum": Function("sum of {0} over the last dimension", _sum),
        "sum_leading": Function("sum of the first {1} (default: all) of {0}", _sum),
        "mean": Function("{0} / (number of terms), or times its float32 reciprocal", _mean),
        "rsqrt": Function("1 / sqrt({0})", _rsqrt),
        "first_half": Function("first half of {0}", _first_half),
        "second_half": Function("second half of {0}", _second_half),
        "population_std": Function(
            "population standard deviation of {0}, in two passes or by Welford", _population_std
        ),
        "relu": Function("max({0}, 0), NaN kept", _relu),
        "silu": Function("{0} / (1 + exp(-{0}))", _silu),
        "gelu": Function("gelu of {0}, by erf or tanh as {1} says", _gelu),
        "rotary_first": Function("first member of each rotated pair of {0}", _rotary_first),
        "rotary_second": Function("second member of each rotated pair of {0}", _rotary_second),
        "cosines": Function("first half of row {1} of {0}", _cosines),
        "sines": Function("second half of row {1} of {0}", _sines),
        "put_back": Function("{0} with its pairs replaced by {1}, {2}", _put_back),
        "largest_magnitude": Function("max |{0}| over the last dimension", _largest_magnitude),
        "minimum": Function("min({0}, {1})", _minimum),
        "over_448": Function("{0} / 448", _over_448),
        "at_least_token_floor": Function(
            "max({0}, float32(1 / (448 * 512)))", _at_least(1 / (448 * 512))
        ),
        "at_least_group_floor": Function("max({0}, float32(1e-10))", _at_least(1e-10)),
        "clamped": Function("{0} clamped to [-448, 448], NaN kept", _clamped),
        "groups": Function("{0} in groups of group_size neighbours", _groups),
        "joined_groups": Function("{0} with the groups joined", _joined_groups),
        "power_of_two": Function(
            "the smallest power of two >= {0} if {1}, else {0}", _power_of_two
        ),
        "number_written": Function(
            "how many of {0} are not negative", lambda scope, a: paged.number_written(a)
        ),
        "cache_with": Function(
            "{0} with the rows of {1} and {2} in the slots {3}; a negative slot is none",
            lambda scope, *operands: paged.cache_with(*operands),
        ),
        "paged_dots": Function(
            "{0} . keys of {1} that {2} names, up to {3}, products fused or not",
            lambda scope, *operands: paged.dots(*operands),
        ),
        "weighted_by_softmax": Function(
            "values of {1} that {2} names, up to {3}, averaged by exp({0}); 0 over none",
            _weighted_by_softmax,
        ),
        "largest_of_all": Function("max |{0}| over all elements, 0 over none", _largest_of_all),
        "or_one": Function("{0} where {1} > 0, else 1", _or_one),
        "amax_recorded": Function(
            "{0} with {2} in place {1}, if that is finite and not 0", _amax_recorded
        ),
        "next_recorded": Function(
            "({1} + 1) modulo the length of {0}, if {2} is finite and not 0", _next_recorded
        ),
    }
)
