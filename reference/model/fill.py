"""Fills: storage contents as a pattern and a key, so that a large case stays small on disk.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", 2014) used as a counter-based hash: word ``i`` of key ``k`` is ``mix(k * GOLDEN + i)``.
Every pattern is integer arithmetic on those words followed by one exact scaling and one rounding
to the storage's format, so a fill means the same bytes on every platform and version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..dtypes import FORMATS, round_to

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Fill:
    """A pattern name (a key of ``PATTERNS``), a key, and the pattern's one integer parameter.

    ``parameter`` bounds the ``index`` pattern (values lie in ``[0, parameter)``); other patterns
    ignore it.
    """

    pattern: str
    key: int
    parameter: int = 0

    @property
    def independent(self) -> bool:
        """Whether elements are declared independent and identically distributed."""
        return self.pattern in ("uniform", "normal", "unit")


def words(key: int, count: int) -> np.ndarray:
    """``count`` uint64 words of key ``key``: SplitMix64 of a counter."""
    with np.errstate(over="ignore"):
        z = np.uint64(key & 0xFFFFFFFFFFFFFFFF) * _GOLDEN + np.arange(1, count + 1, dtype=np.uint64)
        z = z * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _fraction(w: np.ndarray) -> np.ndarray:
    return (w >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _zeros(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    return np.zeros(len(w))


def _ones(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    return np.ones(len(w))


def _dyadic(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    """Multiples of 1/8 in [-4, 4]: sums of squares of up to 16,384 of them are exact in fp32."""
    return ((w % np.uint64(65)).astype(np.float64) - 32.0) / 8.0


def _ramp(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    """1/8, 2/8, ... 8, again: a position shows in its value."""
    return (np.arange(len(w)) % 64 + 1) / 8.0


def _uniform(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    return _fraction(w) * 4.0 - 2.0


def _unit(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    return _fraction(w) * 2.0 - 1.0


def _positive(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    return (_fraction(w) + 2.0**-10) * 2.0


def _normal(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    """The sum of four 16-bit fields, centred, variance about 1 (Irwin-Hall of order four)."""
    mask = np.uint64(0xFFFF)
    total = np.zeros(len(w))
    for shift in (0, 16, 32, 48):
        total += (w >> np.uint64(shift)) & mask
    return (total - 131070.0) * (1.75 / 65536.0)


def _shifted(w: np.ndarray, dtype: str, parameter: int) -> np.ndarray:
    """Around 64 with a spread of about 1: differences and variances cancel."""
    return 64.0 + _normal(w, dtype, parameter)


def _wide(w: np.ndarray, dtype: str, _parameter: int) -> np.ndarray:
    """Signed, magnitudes log-uniform over a third of the format's exponents."""
    span = max(2, -FORMATS[dtype].emin // 3)
    exponent = ((w >> np.uint64(52)) % np.uint64(2 * span + 1)).astype(np.int64) - span
    sign = 1.0 - 2.0 * (w & np.uint64(1)).astype(np.float64)
    return np.ldexp(sign * (1.0 + _fraction(w << np.uint64(12))), exponent)


def _outlier(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    """Dyadic with about one element in 16 scaled by 64, as activation outliers are."""
    big = ((w >> np.uint64(40)) % np.uint64(16)) == 0
    return np.where(big, 64.0, 1.0) * _dyadic(w, _dtype, _parameter)


def _table(dtype: str, finite: bool) -> np.ndarray:
    form = FORMATS[dtype]
    normal, tiny = form.min_normal, form.min_subnormal
    values = [0.0, -0.0, 1.0, -1.0, form.max, -form.max, 0.5, -0.5, 2.5]
    values += [normal, -normal, tiny, -tiny, 3 * tiny]
    if not finite:
        values += [np.inf, -np.inf, np.nan, np.nan]
    return np.array(values)


def _special(w: np.ndarray, dtype: str, _parameter: int) -> np.ndarray:
    """A quarter special values (zeros of both signs, extremes, inf, NaN), the rest dyadic."""
    return _mixed(w, _table(dtype, finite=False))


def _special_finite(w: np.ndarray, dtype: str, _parameter: int) -> np.ndarray:
    """As ``special`` without inf and NaN."""
    return _mixed(w, _table(dtype, finite=True))


def _mixed(w: np.ndarray, table: np.ndarray) -> np.ndarray:
    pick = table[((w >> np.uint64(8)) % np.uint64(len(table))).astype(np.int64)]
    return np.where((w >> np.uint64(60)) < 4, pick, _dyadic(w, "", 0))


def _signed_zero(w: np.ndarray, _dtype: str, _parameter: int) -> np.ndarray:
    """Zeros of both signs, and ones of both signs in a quarter of the places."""
    sign = 1.0 - 2.0 * (w & np.uint64(1)).astype(np.float64)
    return sign * ((w >> np.uint64(60)) < 4).astype(np.float64)


def _subnormal(w: np.ndarray, dtype: str, _parameter: int) -> np.ndarray:
    """Small multiples of the least subnormal, signed."""
    return ((w % np.uint64(17)).astype(np.float64) - 8.0) * FORMATS[dtype].min_subnormal


def _scale_edge(w: np.ndarray, dtype: str, _parameter: int) -> np.ndarray:
    """Magnitudes up to 448 and an ulp below it, none or up to three above, times a power of two.

    448 is the largest e4m3fn: scales by it lie beside a power of two. Which ulp and which power is
    one choice for the whole fill, since the largest magnitude of a row or group decides.
    """
    ulps = (w[:1] % np.uint64(5)).astype(np.float64) - 1.0
    exponent = ((w[:1] >> np.uint64(8)) % np.uint64(19)).astype(np.int64) - 9
    sign = 1.0 - 2.0 * (w & np.uint64(1)).astype(np.float64)
    edge = sign * (448.0 + ulps * 2.0 ** (9 - FORMATS[dtype].precision))
    return np.ldexp(np.where((w >> np.uint64(60)) < 4, edge, _dyadic(w, "", 0)), exponent)


def _index(w: np.ndarray, _dtype: str, parameter: int) -> np.ndarray:
    return (w % np.uint64(max(1, parameter))).astype(np.float64)


PATTERNS: dict[str, Callable[[np.ndarray, str, int], np.ndarray]] = {
    "dyadic": _dyadic,
    "index": _index,
    "normal": _normal,
    "ones": _ones,
    "outlier": _outlier,
    "positive": _positive,
    "ramp": _ramp,
    "scale-edge": _scale_edge,
    "shifted": _shifted,
    "signed-zero": _signed_zero,
    "special": _special,
    "special-finite": _special_finite,
    "subnormal": _subnormal,
    "uniform": _uniform,
    "unit": _unit,
    "wide": _wide,
    "zeros": _zeros,
}


def fill_values(fill: Fill, dtype: str, count: int) -> np.ndarray:
    """``count`` float64 values of ``fill``, each representable in ``dtype``.

    Raises ``ValueError`` for an unknown pattern.
    """
    pattern = PATTERNS.get(fill.pattern)
    if pattern is None:
        raise ValueError(f"fill pattern {fill.pattern!r}; accepted: {', '.join(sorted(PATTERNS))}")
    with np.errstate(over="ignore"):
        values = pattern(words(fill.key, count), dtype, fill.parameter)
    return round_to(values, dtype) if FORMATS[dtype].kind == "float" else values
