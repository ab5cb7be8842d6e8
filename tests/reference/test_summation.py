"""Laws of sums in any order: every tree's result is admitted, exact rows stay points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reference import dtypes
from reference.dtypes import round_to
from reference.interval import MAYBE, MUST, NEVER, Interval, between, point
from reference.summation import accumulate


def trees(values: tuple[float, ...], name: str) -> set[float]:
    """The results of every summation tree over ``values``, each addition rounded once."""
    if len(values) == 1:
        return {values[0]}
    found = set()
    rest = range(1, len(values))
    for size in range(len(values) - 1):
        for chosen in itertools.combinations(rest, size):
            left = (values[0], *(values[i] for i in chosen))
            right = tuple(values[i] for i in rest if i not in chosen)
            for a in trees(left, name):
                for b in trees(right, name):
                    with np.errstate(all="ignore"):
                        found.add(float(round_to(a + b, name)))
    return found


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["positive", "signed", "special"])
def test_every_summation_tree_is_admitted(name, count, kind):
    rng = np.random.default_rng(count)
    fmt = dtypes.FORMATS[name]
    for _ in range(40):
        row = np.ldexp(rng.random(count) + 1, rng.integers(-4, 4, count))
        if kind != "positive":
            row *= rng.choice([-1.0, 1.0], count)
        if kind == "special":
            pool = [fmt.max, -fmt.max, np.inf, -np.inf, np.nan, 0.0, -0.0, fmt.min_subnormal]
            row = np.where(rng.random(count) < 0.5, rng.choice(pool, count), row)
        row = round_to(row, name)
        total = accumulate(point(row[None]), name)
        for value in trees(tuple(row), name):
            if np.isnan(value):
                assert total.nan[0, 0] != NEVER
            else:
                assert total.nan[0, 0] != MUST
                assert total.lo[0, 0] <= value <= total.hi[0, 0]


def test_rows_of_one_unit_sum_to_points():
    rows = np.array([[1.0, 2.0, 3.0, 250.0], [0.5, -0.25, 7.0, 1.0]])
    total = accumulate(point(rows), "bfloat16")
    assert total.is_point
    assert total.lo.tolist() == [[256.0], [8.25]]


def test_rows_that_need_one_more_bit_are_not_points():
    total = accumulate(point(np.array([[1.0, 2.0, 3.0, 256.0]])), "bfloat16")
    assert (float(total.lo[0, 0]), float(total.hi[0, 0])) != (262.0, 262.0)
    assert total.lo[0, 0] < total.hi[0, 0]


def test_exact_and_inexact_rows_are_told_apart():
    rows = np.array([[1.0, 2.0, 3.0], [1.0, 2.0**-10, 3.0]])
    total = accumulate(point(rows), "bfloat16")
    assert total.lo[0, 0] == total.hi[0, 0] == 6.0
    assert total.lo[1, 0] < total.hi[1, 0]


def test_subnormal_terms_are_not_exact_below_the_smallest_unit():
    tiny = dtypes.FORMATS["float16"].min_subnormal
    total = accumulate(point(np.array([[tiny, tiny, tiny]])), "float16")
    assert total.is_point
    assert total.lo[0, 0] == 3 * tiny


def test_interval_terms_are_held():
    terms = between(np.full((1, 3), 1.0), np.full((1, 3), 1.25))
    total = accumulate(terms, "float32")
    assert total.lo[0, 0] <= 3.0
    assert total.hi[0, 0] >= 3.75


def test_a_promised_chain_narrows_the_sum():
    row = point(round_to(np.random.default_rng(0).random((1, 64)), "float32"))
    free, short = (accumulate(row, "float32", chain=chain) for chain in (None, 6))
    assert short.hi - short.lo < free.hi - free.lo


def test_long_rows_are_held_by_the_simple_bound():
    row = round_to(np.random.default_rng(0).random((1, (1 << 14) + 8)), "float32")
    total = accumulate(point(row), "float32")
    assert total.lo[0, 0] <= np.float32(row.astype(np.float32).sum()) <= total.hi[0, 0]


def test_a_sum_of_negative_zeros_is_either_zero():
    total = accumulate(point(np.full((1, 3), -0.0)), "float32")
    assert (np.signbit(total.lo[0, 0]), np.signbit(total.hi[0, 0])) == (True, False)


def test_overflow_of_one_sign_is_infinite_there_and_of_both_may_be_anything():
    top = dtypes.FORMATS["float32"].max
    rows = np.array([[top, top, 1.0], [-top, -top, 1.0], [top, -top, top], [np.inf, -np.inf, 1.0]])
    total = accumulate(point(rows), "float32")
    assert total.hi[0, 0] == np.inf
    assert total.lo[1, 0] == -np.inf
    assert (total.lo[2, 0], total.hi[2, 0], total.nan[2, 0]) == (-np.inf, np.inf, MAYBE)
    assert total.nan[3, 0] == MUST
    certain = accumulate(point(np.full((2, 4), top) * np.array([[1.0], [-1.0]])), "float32")
    assert certain.lo[0, 0] == np.inf
    assert certain.hi[1, 0] == -np.inf


def test_squares_that_may_round_to_infinity_sum_to_infinity():
    terms = Interval(np.full((1, 3), 1e40), np.full((1, 3), np.inf), np.zeros((1, 3), np.uint8))
    total = accumulate(terms, "float32")
    assert (float(total.lo[0, 0]), float(total.hi[0, 0])) == (np.inf, np.inf)
