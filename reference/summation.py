"""What a sum may be when its order is free: the interval of every summation tree at once."""

from __future__ import annotations

import numpy as np

from reference import dtypes
from reference.arithmetic import add
from reference.dtypes import FORMATS, Float64
from reference.interval import MAYBE, MUST, Interval, rounded

_HALF_STEP = 2.0**-53


def _exact_rows(sizes: Float64, total: Float64, name: str) -> np.ndarray:
    """Rows in which every partial sum, in every order, is a value of the format.

    All terms are multiples of a unit q and their magnitudes add up to at most 2**precision * q:
    then every partial sum is a multiple of q of at most 2**precision of them. (A multiple of q
    beyond the limit is so by a whole q, more than float64 errs in ``total``.)
    """
    fmt = FORMATS[name]
    fraction, exponent = np.frexp(total)
    # The smallest power of two at or above the total, over 2**precision.
    exponent = exponent - (fraction == 0.5) - fmt.precision
    unit = np.maximum(np.ldexp(1.0, exponent), fmt.min_subnormal)
    scaled = sizes / unit
    return (np.rint(scaled) == scaled).all(axis=-1, keepdims=True)


def _worst_error(sizes: Float64, total: Float64, name: str, chain: int) -> Float64:
    """A bound on the rounding errors of any summation tree, per row of ``sizes``.

    Each addition errs by at most half an ulp of its result. Of the n - 1 additions of a tree at
    most n - m + 1 have m or more leaves, and a partial sum of m leaves is at most the m largest
    magnitudes together: so the errors add up to at most those of summing sequentially, largest
    first. A chain shorter than n - 1 is bounded by chain * u * total (Jeannerod and Rump,
    "Improved error bounds for inner products in floating-point arithmetic", 2013: no factor
    1 / (1 - n u) is needed).
    """
    count = sizes.shape[-1]
    unit = 2.0 ** -FORMATS[name].precision
    simple = total * (chain * unit)
    if chain < count - 1 or count > _SORTED_UP_TO:
        return simple
    descending = -np.sort(-sizes, axis=-1)
    partial = np.cumsum(descending, axis=-1)[..., 1:]
    # Computed partial sums carry errors of their own, of the order of count * unit.
    partial *= 1 + 2 * count * unit
    sharp = dtypes.ulp(partial, name).sum(axis=-1, keepdims=True) * 0.5
    return np.minimum(simple, sharp * (1 + count * _HALF_STEP))


# Sorting a row costs more than all the rest; from here on the simple bound serves.
_SORTED_UP_TO = 1 << 14


def accumulate(a: Interval, name: str, *, chain: int | None = None) -> Interval:
    """The sum over the last axis (kept with size 1) in format ``name``, in any order.

    ``chain`` is the longest chain of additions that a term goes through: n - 1 unless the
    contract promises a shorter one. No widening where every order is exact; infinite ends where
    partial sums may overflow the format.
    """
    total = _accumulate(a, name, chain)
    # -0 alone sums to -0, or to +0 in an accumulator that starts there.
    zeros = ((a.lo == 0) & np.signbit(a.lo)).all(axis=-1, keepdims=True)
    if not zeros.any():
        return total
    lo = np.where(zeros, -0.0, total.lo)
    return Interval(lo, np.where(zeros & (total.hi == 0), 0.0, total.hi), total.nan)


def _accumulate(a: Interval, name: str, chain: int | None) -> Interval:
    count = a.shape[-1]
    if count == 1:
        return rounded(a, name)
    if count == 2:
        return rounded(add(a[..., :1], a[..., 1:]), name)
    chain = count - 1 if chain is None else chain
    fmt = FORMATS[name]
    with np.errstate(all="ignore"):
        sizes = np.abs(a.lo) if a.is_point else np.maximum(np.abs(a.lo), np.abs(a.hi))
        total = sizes.sum(axis=-1, keepdims=True)
        lo = a.lo.sum(axis=-1, keepdims=True)
        hi = lo if a.is_point else a.hi.sum(axis=-1, keepdims=True)
        finite = np.isfinite(total)
        exact = finite & (total <= fmt.max) & _exact_rows(sizes, total, name)
        if not a.is_point:
            exact &= (a.lo == a.hi).all(axis=-1, keepdims=True)
        nan = a.nan.max(axis=-1, keepdims=True)
        if exact.all():
            return Interval(lo, lo, nan)
        total *= 1 + count * 2 * _HALF_STEP
        error = _worst_error(np.where(finite, sizes, 0.0), total, name, chain)
        error += total * (count * 2 * _HALF_STEP)
        low = dtypes.round_up(lo - error, name)
        high = dtypes.round_down(hi + error, name)
        low, high = np.where(exact, lo, low), np.where(exact, hi, high)
        largest = total + error
        if (largest < fmt.max).all():
            return Interval(low, high, nan)
        shrink = 1 - chain * 2.0**-fmt.precision - count * 2 * _HALF_STEP
        return _overflowing(a, Interval(low, high, nan), largest, lo * shrink, hi * shrink, name)


def _overflowing(
    a: Interval, usual: Interval, largest: Float64, low_sum: Float64, high_sum: Float64, name: str
) -> Interval:
    """Rows whose partial sums may leave the format, or that hold infinities or NaN.

    Terms of one sign overflow towards their own side, and each rounding shrinks their sum by at
    most one part in 2**precision; mixed signs overflow to anything, inf - inf included.
    """
    may = ~(largest < FORMATS[name].max)
    up = may & (a.hi > 0).any(axis=-1, keepdims=True)
    down = may & (a.lo < 0).any(axis=-1, keepdims=True)
    low = np.where(up & ~down, dtypes.round_up(low_sum, name), usual.lo)
    high = np.where(down & ~up, dtypes.round_down(high_sum, name), usual.hi)
    low, high = np.where(down, -np.inf, low), np.where(up, np.inf, high)
    certain_up = (a.lo == np.inf).any(axis=-1, keepdims=True)
    certain_down = (a.hi == -np.inf).any(axis=-1, keepdims=True)
    low, high = np.where(certain_up, np.inf, low), np.where(certain_down, -np.inf, high)
    nan = np.where(up & down, np.maximum(usual.nan, np.uint8(MAYBE)), usual.nan)
    nan = np.where(certain_up & certain_down, np.uint8(MUST), nan)
    must = nan == MUST
    return Interval(np.where(must, np.nan, low), np.where(must, np.nan, high), nan)
