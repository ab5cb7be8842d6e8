"""Outward-rounded interval arithmetic on float64 arrays, with NaN and the sign of zero.

An ``Interval`` holds, for each element, every value that a contract admits. Here are the
intervals, their order and their rounding; ``reference.arithmetic`` adds and multiplies them.

Zeros are ordered: -0 < +0. The interval [-0, -0] demands -0, [+0, +0] demands +0, and [-0, +0]
admits both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference import dtypes
from reference.dtypes import Float64, Overflow

States = npt.NDArray[np.uint8]

NEVER, MAYBE, MUST = 0, 1, 2

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """``lo <= value <= hi`` per element, and whether NaN is admitted.

    ``lo`` and ``hi`` are float64 of one shape; infinite ends include the infinity. ``nan`` is
    uint8 of that shape: 0 never NaN, 1 may be NaN, 2 must be NaN, in which case (and only then)
    both ends are NaN. A point shares one array between its ends.
    """

    lo: Float64
    hi: Float64
    nan: States

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape

    @property
    def is_point(self) -> bool:
        """Whether every element admits one value alone (as far as sharing the ends shows)."""
        return self.lo is self.hi

    def __getitem__(self, key: object) -> Interval:
        lo = self.lo[key]  # pyright: ignore[reportArgumentType, reportCallIssue]
        hi = lo if self.is_point else self.hi[key]  # pyright: ignore[reportArgumentType, reportCallIssue]
        return Interval(lo, hi, self.nan[key])  # pyright: ignore[reportArgumentType, reportCallIssue]

    def reshape(self, shape: tuple[int, ...]) -> Interval:
        lo = self.lo.reshape(shape)
        return Interval(
            lo, lo if self.is_point else self.hi.reshape(shape), self.nan.reshape(shape)
        )


def point(values: npt.ArrayLike) -> Interval:
    """Exactly these values; a NaN demands NaN."""
    exact = np.asarray(values, dtype=np.float64)
    return Interval(exact, exact, np.isnan(exact).astype(np.uint8) * np.uint8(MUST))


def between(lo: npt.ArrayLike, hi: npt.ArrayLike) -> Interval:
    """Every value from ``lo`` to ``hi``, never NaN."""
    low, high = np.broadcast_arrays(
        np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    )
    return Interval(low, high, np.zeros(low.shape, np.uint8))


def down(values: Float64) -> Float64:
    return np.nextafter(values, -np.inf)


def up(values: Float64) -> Float64:
    return np.nextafter(values, np.inf)


def outward(lo: Float64, hi: Float64, *, relative: float = 0.0) -> tuple[Float64, Float64]:
    """Ends moved outward by a relative float64 error and one more step; exact zeros too."""
    low_error, high_error = (np.minimum(np.abs(end), _LARGEST) * relative for end in (lo, hi))
    return down(lo - low_error), up(hi + high_error)


def lesser(a: Float64, b: Float64) -> Float64:
    """The smaller under -0 < +0; of a number and NaN the number."""
    out = np.fmin(a, b)
    zero = out == 0
    if zero.any():
        negative = ((a == 0) & np.signbit(a)) | ((b == 0) & np.signbit(b))
        out = np.where(zero, np.where(negative, -0.0, 0.0), out)
    return out


def greater(a: Float64, b: Float64) -> Float64:
    """The larger under -0 < +0; of a number and NaN the number."""
    return -lesser(-a, -b)


def finish(lo: Float64, hi: Float64, nan: States, new: npt.NDArray[np.bool_] | None) -> Interval:
    """Apply the NaN states: ``new`` marks elements where the operation itself may make a NaN."""
    if new is not None:
        nan = np.maximum(nan, new.astype(np.uint8))
    must = nan == MUST
    if must.any():
        same = lo is hi
        lo = np.where(must, np.nan, lo)
        hi = lo if same else np.where(must, np.nan, hi)
    return Interval(lo, hi, nan)


def states(a: Interval, b: Interval) -> States:
    return np.maximum(a.nan, b.nan)


def spans_zero(a: Interval) -> npt.NDArray[np.bool_]:
    return (a.lo <= 0) & (a.hi >= 0)


def absolute(a: Interval) -> Interval:
    if a.is_point:
        size = np.abs(a.lo)
        return Interval(size, size, a.nan)
    lo, hi = np.abs(a.lo), np.abs(a.hi)
    return Interval(np.where(spans_zero(a), 0.0, np.minimum(lo, hi)), np.maximum(lo, hi), a.nan)


def maximum(a: Interval, b: Interval) -> Interval:
    """The larger value; NaN in either gives NaN. Of -0 and +0 either may be returned."""
    return _extreme(a, b, np.maximum)


def minimum(a: Interval, b: Interval) -> Interval:
    """The smaller value; NaN in either gives NaN. Of -0 and +0 either may be returned."""
    return _extreme(a, b, np.minimum)


def _extreme(a: Interval, b: Interval, op: np.ufunc) -> Interval:
    lo = op(a.lo, b.lo)
    hi = lo if a.is_point and b.is_point else op(a.hi, b.hi)
    mixed = (
        ((lo == 0) | (hi == 0))
        & spans_zero(a)
        & spans_zero(b)
        & ((np.signbit(a.lo) != np.signbit(b.lo)) | (np.signbit(a.hi) != np.signbit(b.hi)))
    )
    if mixed.any():
        lo, hi = np.where(mixed & (lo == 0), -0.0, lo), np.where(mixed & (hi == 0), 0.0, hi)
    return finish(lo, hi, states(a, b), None)


def relu(a: Interval) -> Interval:
    """max(a, 0): NaN stays NaN; of -0 the result may be either zero (kernels differ)."""
    negative_zero = ((a.lo < 0) | ((a.lo == 0) & np.signbit(a.lo))) & (a.hi >= 0)
    lo = np.where(a.lo < 0, 0.0, a.lo)
    if not negative_zero.any():
        return Interval(lo, lo if a.is_point else np.where(a.hi < 0, 0.0, a.hi), a.nan)
    hi = np.where(a.hi <= 0, 0.0, a.hi)
    return Interval(np.where(negative_zero, -0.0, lo), hi, a.nan)


def clamp(a: Interval, low: float, high: float) -> Interval:
    """Ends cut to [low, high] (neither of them zero); NaN stays NaN."""
    lo = np.clip(a.lo, low, high)
    return Interval(lo, lo if a.is_point else np.clip(a.hi, low, high), a.nan)


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that admits what either admits."""
    nan = np.where(a.nan == b.nan, a.nan, np.uint8(MAYBE))
    if a.is_point and b.is_point:
        differs = (a.lo != b.lo) | (np.signbit(a.lo) != np.signbit(b.lo))
        if not (differs & (nan != MUST)).any():
            return Interval(a.lo, a.lo, nan)
    return Interval(lesser(a.lo, b.lo), greater(a.hi, b.hi), nan)


def where(condition: npt.NDArray[np.bool_], a: Interval, b: Interval) -> Interval:
    lo = np.where(condition, a.lo, b.lo)
    hi = lo if a.is_point and b.is_point else np.where(condition, a.hi, b.hi)
    return Interval(lo, hi, np.where(condition, a.nan, b.nan))


def rounded(
    a: Interval, name: str, *, overflow: Overflow | None = None, optional: bool = False
) -> Interval:
    """Both ends rounded once to the format (rounding is monotone).

    ``optional`` also admits the unrounded values: a rounding that a fused kernel may leave out.
    With ``overflow="nan"`` an element of which some values overflow may be NaN, and one of which
    all do must be.
    """
    nan = a.nan
    rule = "saturate" if overflow == "nan" else overflow
    lo = dtypes.round_to(a.lo, name, overflow=rule)
    hi = lo if a.is_point else dtypes.round_to(a.hi, name, overflow=rule)
    # Ends that meet become a point again, which makes every later step cheaper.
    out = Interval(lo, lo if np.array_equal(lo.view(np.int64), hi.view(np.int64)) else hi, nan)
    if overflow == "nan":
        out = _overflow_to_nan(a, out, name)
    return hull(a, out) if optional else out


def _overflow_to_nan(a: Interval, out: Interval, name: str) -> Interval:
    lo = dtypes.round_to(a.lo, name, overflow="nan")
    hi = dtypes.round_to(a.hi, name, overflow="nan")
    some = np.isnan(lo) | np.isnan(hi)
    every = np.isnan(lo) & np.isnan(hi) & (np.signbit(a.lo) == np.signbit(a.hi))
    nan = np.where(every, np.uint8(MUST), np.maximum(a.nan, some.astype(np.uint8)))
    return finish(out.lo, out.hi, nan, None)


def widened(a: Interval, ulps: float, name: str, *, absolute: float = 0.0) -> Interval:
    """The values of the format within ``ulps`` ulps (plus ``absolute``) of a value of ``a``.

    The ulp is that of the format at the end of larger magnitude, so that an error bound that
    jumps at a power of two inside the interval is covered. Infinite ends stay, and so do zero
    ends unless there is an absolute error: an error in ulps keeps the sign.
    """
    limit = dtypes.FORMATS[name].max
    with np.errstate(all="ignore"):
        largest = np.maximum(np.abs(a.lo), np.abs(a.hi))
        margin = dtypes.ulp(largest, name) * ulps + absolute
        low, high = down(a.lo - margin), up(a.hi + margin)
        # An error of an ulp just below the largest value may overflow.
        lo = np.where(low < -limit, -np.inf, dtypes.round_up(low, name))
        hi = np.where(high > limit, np.inf, dtypes.round_down(high, name))
        kept_lo, kept_hi = np.isinf(a.lo), np.isinf(a.hi)
        if absolute == 0:
            kept_lo |= a.lo == 0
            kept_hi |= a.hi == 0
        return Interval(np.where(kept_lo, a.lo, lo), np.where(kept_hi, a.hi, hi), a.nan)
