"""What a paged cache means: rows written to slots, and attention over the rows of a sequence.

A cache is (2, blocks, block_size, kv_heads, head_size), keys before values. Slot s is row
s % block_size of block s // block_size; the t-th token of a sequence is row t % block_size of the
block that entry t // block_size of its table names.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reference import arithmetic
from reference.dtypes import Float64
from reference.elementary import UNIT, allowances
from reference.interval import MAYBE, MUST, Interval, point, rounded
from reference.summation import accumulate

Bools: TypeAlias = npt.NDArray[np.bool_]

_TINY = 2.0**-126
"""The least normal float32: what lies below may be flushed to zero."""
_EXACT = 2.0**-40
"""More than float64 errs in any sum here, relative to the sum of the magnitudes."""


def number_written(slots: Interval) -> Interval:
    """How many slots are slots at all."""
    return point(np.asarray((slots.lo >= 0).sum(), dtype=np.float64))


def cache_with(cache: Interval, key: Interval, value: Interval, slots: Interval) -> Interval:
    """The cache with row i of key and of value in slot i; a negative slot is none."""
    after = cache.lo.copy()
    block_size = after.shape[2]
    for token, slot in enumerate(slots.lo.astype(np.int64).tolist()):
        if slot >= 0:
            block, row = divmod(slot, block_size)
            after[0, block, row] = key.lo[token]
            after[1, block, row] = value.lo[token]
    return point(after)


def sequence_rows(cache: Float64, table: Float64, length: int) -> Float64:
    """The rows of one sequence: (2, length, kv_heads, head_size)."""
    block_size = cache.shape[2]
    places = [divmod(t, block_size) for t in range(length)]
    rows = [cache[:, int(table[entry]), row] for entry, row in places]
    return np.stack(rows, axis=1) if rows else np.empty((2, 0, *cache.shape[3:]))


def dots(query: Interval, cache: Interval, tables: Interval, lengths: Interval) -> Interval:
    """Per sequence, head and token the float32 sum of query times key; -inf beyond the length.

    (sequences, heads, tables' entries * block_size). Consecutive heads share a key head. A product
    may be fused into the sum; the order of the sum is free.
    """
    sequences, heads, _ = query.shape
    shape = (sequences, heads, tables.shape[1] * cache.shape[2])
    lo, hi = np.full(shape, -np.inf), np.full(shape, -np.inf)
    nan = np.zeros(shape, np.uint8)
    group = heads // cache.shape[3]
    for i, length in enumerate(lengths.lo.astype(np.int64).tolist()):
        if length == 0:
            continue
        keys = sequence_rows(cache.lo, tables.lo[i], length)[0]
        # (heads, length, head_size)
        keys = np.repeat(keys, group, axis=1).transpose(1, 0, 2)
        products = arithmetic.multiply(point(query.lo[i][:, None, :]), point(keys))
        found = accumulate(rounded(products, "float32", optional=True), "float32")
        lo[i, :, :length], hi[i, :, :length] = found.lo[..., 0], found.hi[..., 0]
        nan[i, :, :length] = found.nan[..., 0]
    return Interval(lo, hi, nan)


def weighted_by_softmax(
    logits: Interval, cache: Interval, tables: Interval, lengths: Interval, backend: str
) -> Interval:
    """sum(exp(logit) * value) / sum(exp(logit)) over a sequence, in float32; zeros over none.

    (sequences, heads, head_size). Admitted is every usual way: any shift below the exponent, the
    sequence in parts that are rescaled by exp(old shift - new shift) as often as a larger logit
    may be met, weights divided by their sum before or after, sums in any order.
    """
    sequences, heads = logits.shape[:2]
    size, group = cache.shape[4], heads // cache.shape[3]
    lo, hi = np.zeros((sequences, heads, size)), np.zeros((sequences, heads, size))
    nan = np.zeros(lo.shape, np.uint8)
    for i, length in enumerate(lengths.lo.astype(np.int64).tolist()):
        if length == 0:
            continue
        values = sequence_rows(cache.lo, tables.lo[i], length)[1]
        values = np.repeat(values, group, axis=1).transpose(1, 0, 2)
        found = _average(logits[i, :, :length], values, backend)
        lo[i], hi[i], nan[i] = found.lo, found.hi, found.nan
    return Interval(lo, hi, nan)


def _average(logits: Interval, values: Float64, backend: str) -> Interval:
    """Of each head: logits (heads, tokens), values (heads, tokens, head_size).

    With weights w_t = e_t (1 + d_t) and o the average under the weights e_t, the average under w
    differs from o by sum(e_t d_t (v_t - o)) / sum(w_t): exactly, since sum(e_t (v_t - o)) = 0. To
    that come the roundings of the sums, relative to the sums of magnitudes.
    """
    tokens = logits.shape[1]
    # exp(-inf) is 0 at any shift: such a token is not there, where another one is.
    absent = (logits.nan == 0) & (logits.hi == -np.inf)
    unclear = (logits.nan != 0) | ~np.isfinite(logits.lo) | ~np.isfinite(logits.hi)
    usable = ~(unclear & ~absent).any(axis=1, keepdims=True)
    low, high = (np.where(usable & ~absent, end, 0.0) for end in (logits.lo, logits.hi))
    highest = np.where(absent, -np.inf, high).max(axis=1, keepdims=True)
    finite = np.isfinite(values)
    v = np.where(finite, values, 0.0)
    with np.errstate(all="ignore"):
        middle, half = (low + high) / 2, (high - low) / 2
        distance = np.where(absent, 0.0, highest - low)
        shift = np.where(absent, -np.inf, middle).max(axis=1, keepdims=True)
        e = np.where(absent, 0.0, np.exp(middle - shift))[..., None]
        bound = (np.exp(half) * (1 + _relative(distance, tokens, backend)) - 1)[..., None]
        total = e.sum(axis=1)
        o = (e * v).sum(axis=1) / total
        magnitude = (e * np.abs(v)).sum(axis=1) / total
        worst = bound.max(axis=1)
        shifted = (e * bound * np.abs(v - o[:, None])).sum(axis=1) / total
        # Products, sums and rescalings of numerator and denominator, one division.
        roundings = (2 * tokens + 6) * UNIT * (magnitude + np.abs(o)) * (1 + worst)
        flushed = 2 * (tokens + 2) * _TINY * (np.abs(v).max(axis=1) + np.abs(o) + 1)
        error = (shifted + roundings + flushed) / (1 - worst) + _EXACT * (magnitude + np.abs(o))
        # Any weights at all give an average between the smallest and the largest value. Their own
        # errors may be without a bound, so the roundings are taken of the largest magnitude: once
        # for the numerator and once for the denominator, doubled for what is of second order.
        slack = (4 * (2 * tokens + 6) * UNIT + _EXACT) * np.abs(v).max(axis=1) + flushed
        known = worst < 0.5
        lowest, largest = v.min(axis=1) - slack, v.max(axis=1) + slack
        lo = np.where(known, np.maximum(o - error, lowest), lowest)
        hi = np.where(known, np.minimum(o + error, largest), largest)
    found = Interval(lo, hi, np.zeros(lo.shape, np.uint8))
    # Nothing is subtracted from an infinite largest logit but itself.
    infinite = (logits.nan == 0) & (logits.lo == np.inf)
    nowhere = infinite.any(axis=1) | absent.all(axis=1)
    return _with_specials(found, logits, values, usable[:, 0], nowhere)


def _relative(distance: Float64, tokens: int, backend: str) -> Float64:
    """A bound on the relative error of a weight whose logit lies ``distance`` below the largest.

    It is a product of at most ``tokens`` + 1 exponentials, each of a rounded difference and
    followed by a rounded product; the differences add up to ``distance``.
    """
    found = allowances("exp", backend)
    # Half an ulp over the table's: kernels spell exp with a polynomial of their own.
    each = (2 * (max(a.ulps for a in found) + 0.5) + 1) * UNIT
    argument = (1 + max(a.argument for a in found)) * UNIT
    exponent = (tokens + 1) * each + argument * distance
    # (1 + u)^k, the second order included; what underflows is accounted for by itself.
    return np.expm1(exponent)


def _with_specials(
    found: Interval, logits: Interval, values: Float64, usable: Bools, nowhere: Bools
) -> Interval:
    """NaN and infinities: a NaN logit makes a head NaN, a NaN value its element of the output.

    A head is NaN, too, that looks ``nowhere``: its largest logit is infinite, and inf - inf NaN.
    """
    must = ((logits.nan == MUST).any(axis=1) | nowhere)[:, None] | np.isnan(values).any(axis=1)
    # An infinite value may meet a weight that underflowed, or one of the other sign.
    open_ = ~usable[:, None] | np.isinf(values).any(axis=1)
    lo, hi = np.where(open_, -np.inf, found.lo), np.where(open_, np.inf, found.hi)
    nan = np.where(must, np.uint8(MUST), np.where(open_, np.uint8(MAYBE), found.nan))
    return Interval(np.where(must, np.nan, lo), np.where(must, np.nan, hi), nan)
