"""Arithmetic on intervals: exact where float64 is, outward by one float64 step elsewhere.

Exactness is detected with the error-free transformations of Knuth (sum) and Dekker (product);
see Ogita, Rump and Oishi, "Accurate sum and dot product", 2005, section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reference.dtypes import Float64
from reference.interval import (
    MUST,
    Interval,
    absolute,
    down,
    finish,
    greater,
    lesser,
    spans_zero,
    states,
    up,
)

_SPLITTER = 2.0**27 + 1
# Below this a product's rounding error may itself underflow, so that it proves nothing.
_SAFE_PRODUCT = 2.0**-960


def _sum_with_error(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    total = a + b
    shadow = total - a
    error = a - (total - shadow)
    error += b - shadow
    return total, error


def _split(a: Float64) -> tuple[Float64, Float64]:
    scaled = a * _SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def _product_error(a: Float64, b: Float64, product: Float64) -> Float64:
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = a_high * b_high - product
    error += a_high * b_low
    error += a_low * b_high
    error += a_low * b_low
    return error


def _ends(value: Float64, error: Float64, exact: npt.NDArray[np.bool_] | None) -> Interval:
    """The interval of a float64 result whose error's sign is known (NaN: unknown)."""
    clean = error == 0
    if exact is not None:
        clean |= exact
    nan = np.zeros(value.shape, np.uint8)
    if clean.all():
        return Interval(value, value, nan)
    # An unknown error, NaN, fails both comparisons and moves both ends.
    lo = np.where(clean | (error > 0), value, down(value))
    hi = np.where(clean | (error < 0), value, up(value))
    return Interval(lo, hi, nan)


def _add_points(a: Float64, b: Float64) -> Interval:
    total, error = _sum_with_error(a, b)
    exact = None
    if not np.isfinite(error).all():
        exact = ~(np.isfinite(a) & np.isfinite(b))
    return _ends(total, error, exact)


def _multiply_points(a: Float64, b: Float64) -> Interval:
    product = a * b
    error = _product_error(a, b, product)
    exact = None
    size = np.abs(product)
    if not ((size > _SAFE_PRODUCT) & np.isfinite(error)).all():
        exact = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b)
        error = np.where(size > _SAFE_PRODUCT, error, np.nan)
    return _ends(product, error, exact)


def _divide_points(a: Float64, b: Float64) -> Interval:
    quotient = a / b
    back = quotient * b
    # a - quotient * b has the sign of (exact quotient - quotient) * b.
    rest = (a - back) - _product_error(quotient, b, back)
    error = np.where(b < 0, -rest, rest)
    exact = None
    safe = (np.abs(back) > _SAFE_PRODUCT) & (np.abs(quotient) > _SAFE_PRODUCT)
    if not (safe & np.isfinite(error)).all():
        exact = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b)
        error = np.where(safe, error, np.nan)
    return _ends(quotient, error, exact)


def _point_result(a: Interval, b: Interval, result: Interval) -> Interval:
    """A result of two points: NaN wherever the operation said NaN, and where an operand may be."""
    lost = np.isnan(result.lo)
    nan = states(a, b)
    if lost.any():
        nan = np.where(lost, np.uint8(MUST), nan)
        return finish(result.lo, result.lo if result.is_point else result.hi, nan, None)
    return Interval(result.lo, result.hi, nan)


def _same_ends(a: Interval) -> npt.NDArray[np.bool_]:
    return (a.lo == a.hi) & (np.signbit(a.lo) == np.signbit(a.hi))


def negate(a: Interval) -> Interval:
    lo = -a.hi
    return Interval(lo, lo if a.is_point else -a.lo, a.nan)


def add(a: Interval, b: Interval) -> Interval:
    """a + b, broadcasting; inf + -inf is NaN."""
    with np.errstate(all="ignore"):
        low = _add_points(a.lo, b.lo)
        if a.is_point and b.is_point:
            return _point_result(a, b, low)
        high = _add_points(a.hi, b.hi)
        lo, hi, nan = low.lo, high.hi, states(a, b)
        if np.isfinite(lo).all() and np.isfinite(hi).all():
            return Interval(lo, hi, nan)
        clash = ((a.hi == np.inf) & (b.lo == -np.inf)) | ((a.lo == -np.inf) & (b.hi == np.inf))
        certain = clash & _same_ends(a) & _same_ends(b)
        nan = np.where(certain, np.uint8(MUST), nan)
        lo = np.where(np.isnan(lo), -np.inf, lo)
        hi = np.where(np.isnan(hi), np.inf, hi)
        return finish(lo, hi, nan, clash)


def subtract(a: Interval, b: Interval) -> Interval:
    """a - b, broadcasting; inf - inf is NaN. A point minus itself is +0."""
    return add(a, negate(b))


def _infinite(a: Interval) -> npt.NDArray[np.bool_]:
    return np.isinf(a.lo) | np.isinf(a.hi)


def _of_corners(
    a: Interval, b: Interval, op: Callable[[Float64, Float64], Interval]
) -> tuple[Float64, Float64]:
    corners = [op(a.lo, b.lo), op(a.hi, b.hi)]
    if not (a.is_point or b.is_point):
        corners += [op(a.lo, b.hi), op(a.hi, b.lo)]
    lo, hi = corners[0].lo, corners[0].hi
    for corner in corners[1:]:
        lo, hi = lesser(lo, corner.lo), greater(hi, corner.hi)
    return lo, hi


def _multiply_corner(a: Float64, b: Float64) -> Interval:
    """A corner of a product; for 0 * inf the signed zero that numbers near the infinity give."""
    return _zero_for_nan(_multiply_points(a, b), a, b)


def _divide_corner(a: Float64, b: Float64) -> Interval:
    """A corner of a quotient; for inf / inf the signed zero that finite dividends give."""
    return _zero_for_nan(_divide_points(a, b), a, b)


def _zero_for_nan(corner: Interval, a: Float64, b: Float64) -> Interval:
    lost = np.isnan(corner.lo) & ~np.isnan(a) & ~np.isnan(b) & (np.isinf(a) | np.isinf(b))
    if not lost.any():
        return corner
    zero = np.where(np.signbit(a) != np.signbit(b), -0.0, 0.0)
    return Interval(np.where(lost, zero, corner.lo), np.where(lost, zero, corner.hi), corner.nan)


def multiply(a: Interval, b: Interval) -> Interval:
    """a * b, broadcasting; 0 * inf is NaN."""
    with np.errstate(all="ignore"):
        if a.is_point and b.is_point:
            return _point_result(a, b, _multiply_points(a.lo, b.lo))
        lo, hi = _of_corners(a, b, _multiply_corner)
        nan = states(a, b)
        # The ends of the operands decide: a corner 0 * inf has become a zero.
        if all(np.isfinite(end).all() for end in (a.lo, a.hi, b.lo, b.hi)):
            return Interval(lo, hi, nan)
        clash = (_infinite(a) & spans_zero(b)) | (_infinite(b) & spans_zero(a))
        certain = clash & _same_ends(a) & _same_ends(b)
        nan = np.where(certain, np.uint8(MUST), nan)
        return finish(lo, hi, nan, clash)


def divide(a: Interval, b: Interval) -> Interval:
    """a / b, broadcasting; 0 / 0 and inf / inf are NaN, x / +-0 is infinite."""
    with np.errstate(all="ignore"):
        if a.is_point and b.is_point:
            return _point_result(a, b, _divide_points(a.lo, b.lo))
        lo, hi = _of_corners(a, b, _divide_corner)
        nan = states(a, b)
        zero = spans_zero(b)
        if not zero.any() and all(np.isfinite(end).all() for end in (a.lo, a.hi, b.lo, b.hi)):
            return Interval(lo, hi, nan)
        clash = (zero & spans_zero(a)) | (_infinite(a) & _infinite(b))
        certain = clash & _same_ends(a) & _same_ends(b)
        nan = np.where(certain, np.uint8(MUST), nan)
        # A divisor whose ends lie on both sides of zero (-0 is one side, +0 the other).
        line = zero & (np.signbit(b.lo) != np.signbit(b.hi))
        lo = np.where(line | np.isnan(lo), -np.inf, lo)
        hi = np.where(line | np.isnan(hi), np.inf, hi)
        return finish(lo, hi, nan, clash)


def square(a: Interval) -> Interval:
    """a * a of one value (never negative)."""
    size = absolute(a)
    return multiply(size, size) if a.is_point else _monotone_square(size)


def _monotone_square(size: Interval) -> Interval:
    with np.errstate(all="ignore"):
        low = _multiply_points(size.lo, size.lo)
        high = _multiply_points(size.hi, size.hi)
    return Interval(low.lo, high.hi, size.nan)


def sqrt(a: Interval) -> Interval:
    """The square root: of a negative value NaN, of -0 it is -0."""

    def root(values: Float64) -> Interval:
        value = np.sqrt(values)
        back = value * value
        error = (values - back) - _product_error(value, value, back)
        exact = (values == 0) | (values == np.inf)
        return _ends(value, np.where(back > _SAFE_PRODUCT, error, np.nan), exact)

    with np.errstate(all="ignore"):
        low = root(a.lo)
        if a.is_point:
            return _point_result(a, a, low)
        negative = a.lo < 0
        nan = np.where(a.hi < 0, np.uint8(MUST), a.nan)
        lo = np.where(negative, -0.0, low.lo)
        return finish(lo, root(a.hi).hi, nan, negative)
