"""Laws of intervals: they hold every exact result, points stay points, zeros keep their order."""

from __future__ import annotations

import operator
from fractions import Fraction

import numpy as np
import pytest

from reference import arithmetic, interval
from reference.dtypes import round_to
from reference.interval import MAYBE, MUST, NEVER, Interval, between, hull, point, rounded

ENDS = [-np.inf, -3.0, -1.0, -0.0, 0.0, 1.0, 2.0, np.inf]


def key(value: float) -> tuple[float, bool]:
    """The total order in which -0 comes before +0."""
    return (value, not np.signbit(value))


def admits(a: Interval, value: float) -> bool:
    if np.isnan(value):
        return bool(a.nan != NEVER)
    return bool(a.nan != MUST) and key(float(a.lo)) <= key(value) <= key(float(a.hi))


def every_interval() -> list[tuple[float, float]]:
    return [(lo, hi) for lo in ENDS for hi in ENDS if key(lo) <= key(hi)]


BINARY = {
    "add": (arithmetic.add, np.add),
    "subtract": (arithmetic.subtract, np.subtract),
    "multiply": (arithmetic.multiply, np.multiply),
    "divide": (arithmetic.divide, np.divide),
    "maximum": (interval.maximum, np.maximum),
    "minimum": (interval.minimum, np.minimum),
}


@pytest.mark.parametrize("name", list(BINARY))
def test_binary_operations_hold_every_result_of_special_intervals(name):
    ours, exact = BINARY[name]
    spans = every_interval()
    left = between(*np.array([a for a in spans for _ in spans]).T)
    right = between(*np.array([b for _ in spans for b in spans]).T)
    result = ours(left, right)
    pairs = [(a, b) for a in spans for b in spans]
    assert (np.isnan(result.lo) == (result.nan == MUST)).all()
    assert (np.isnan(result.hi) == (result.nan == MUST)).all()
    with np.errstate(all="ignore"):
        table = {(x, key(x), y, key(y)): exact(x, y) for x in ENDS for y in ENDS}
    for at, (a, b) in enumerate(pairs):
        one = result[at]
        for x in ENDS:
            for y in ENDS:
                inside = key(a[0]) <= key(x) <= key(a[1]) and key(b[0]) <= key(y) <= key(b[1])
                if inside:
                    value = float(table[x, key(x), y, key(y)])
                    assert admits(one, value), (name, a, b, x, y, value, one)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_points_of_special_values_give_the_one_ieee_result(name):
    ours, exact = BINARY[name]
    values = np.array([*ENDS, np.nan, 0.1, -1e300, 1e-300, 1e308])
    x, y = (part.ravel() for part in np.meshgrid(values, values))
    ends = np.isin(x, ENDS) & np.isin(y, ENDS) | np.isnan(x) | np.isnan(y)
    x, y = x[ends], y[ends]
    result = ours(point(x), point(y))
    with np.errstate(all="ignore"):
        expected = exact(x, y)
    rest = ~np.isin(expected, [-1 / 3, 1 / 3, -2 / 3, 2 / 3])
    for end in (result.lo, result.hi):
        assert np.array_equal(end[rest], expected[rest], equal_nan=True)
        assert (np.signbit(end) == np.signbit(expected))[rest & ~np.isnan(expected)].all()
    assert (result.nan == np.where(np.isnan(expected), MUST, NEVER)).all()


EXACT = {
    "add": (arithmetic.add, operator.add),
    "subtract": (arithmetic.subtract, operator.sub),
    "multiply": (arithmetic.multiply, operator.mul),
    "divide": (arithmetic.divide, operator.truediv),
}


@pytest.mark.parametrize("bits", [8, 24, 53])
@pytest.mark.parametrize("name", list(EXACT))
def test_random_points_hold_the_rational_result_within_one_step(name, bits):
    ours, exact = EXACT[name]
    rng = np.random.default_rng(bits)
    low = 2 ** (bits - 1)
    x, y = (
        np.ldexp(rng.integers(low, 2 * low, 400).astype(float), rng.integers(-60, 60, 400))
        * rng.choice([-1.0, 1.0], 400)
        for _ in range(2)
    )
    result = ours(point(x), point(y))
    for a, b, lo, hi in zip(x, y, result.lo, result.hi, strict=True):
        value = exact(Fraction(a), Fraction(b))
        assert Fraction(lo) <= value <= Fraction(hi)
        assert (lo == hi) == (Fraction(float(value)) == value)
        assert hi in (lo, np.nextafter(lo, np.inf))


def test_products_that_underflow_or_overflow_float64_stay_enclosed():
    tiny = arithmetic.multiply(point(3e-200), point(3e-200))
    assert tiny.lo <= 0 < tiny.hi == 5e-324
    huge = arithmetic.multiply(point(1e200), point(1e200))
    assert (float(huge.lo), float(huge.hi)) == (np.finfo(float).max, np.inf)
    small = arithmetic.divide(point(1e-200), point(1e200))
    assert small.lo <= 0 < small.hi
    both = arithmetic.add(point(1e308), point(1e308))
    assert (float(both.lo), float(both.hi)) == (np.finfo(float).max, np.inf)


def test_square_and_square_root_of_intervals():
    assert arithmetic.square(between(-2.0, 1.0)).hi == 4.0
    assert arithmetic.square(between(-2.0, 1.0)).lo == 0.0
    assert arithmetic.square(point(-3.0)).lo == 9.0
    root = arithmetic.sqrt(point([4.0, 2.0, -0.0, 0.0, np.inf, -1.0, np.nan]))
    assert root.nan.tolist() == [0, 0, 0, 0, 0, MUST, MUST]
    assert (root.lo[0], root.hi[0]) == (2.0, 2.0)
    assert Fraction(root.lo[1]) ** 2 < 2 < Fraction(root.hi[1]) ** 2
    assert np.signbit(root.lo).tolist()[2:4] == [True, False]
    wide = arithmetic.sqrt(between([-4.0, 1.0, -4.0], [4.0, 4.0, -1.0]))
    assert wide.nan.tolist() == [MAYBE, NEVER, MUST]
    assert wide.hi.tolist()[:2] == [2.0, 2.0]
    assert wide.lo.tolist()[:2] == [0.0, 1.0]


def test_absolute_values():
    spread = interval.absolute(between([-2.0, -3.0, 1.0], [1.0, -2.0, 4.0]))
    assert spread.lo.tolist() == [0.0, 2.0, 1.0]
    assert spread.hi.tolist() == [2.0, 3.0, 4.0]


def test_relu_frees_the_sign_of_a_negative_zero_alone():
    cut = interval.relu(point([-0.0, 0.0, -2.0, 3.0, np.nan]))
    assert np.signbit(cut.lo).tolist()[:4] == [True, False, False, False]
    assert np.signbit(cut.hi).tolist()[:4] == [False] * 4
    assert cut.hi.tolist()[:4] == [0.0, 0.0, 0.0, 3.0]
    assert cut.nan.tolist() == [0, 0, 0, 0, MUST]
    assert interval.relu(point([1.0, -1.0])).is_point
    positive = interval.relu(between([-2.0, 1.0], [-1.0, 2.0]))
    assert positive.lo.tolist() == [0.0, 1.0]
    assert positive.hi.tolist() == [0.0, 2.0]
    assert not np.signbit(positive.lo).any()


def test_relu_holds_both_cuts_of_every_special_interval():
    for lo, hi in every_interval():
        cut = interval.relu(between(lo, hi))
        for x in ENDS:
            if key(lo) <= key(x) <= key(hi):
                kept = [x] if x > 0 else [0.0, -0.0] if x == 0 and np.signbit(x) else [0.0]
                assert all(admits(cut, value) for value in kept)


def test_clamp_keeps_nan_and_the_sign_of_zero():
    cut = interval.clamp(point([-np.inf, -0.0, np.nan, 500.0]), -448.0, 448.0)
    assert cut.lo.tolist()[:2] + cut.lo.tolist()[3:] == [-448.0, -0.0, 448.0]
    assert np.signbit(cut.lo[1])
    assert cut.nan[2] == MUST
    assert interval.clamp(between(-1.0, 999.0), -448.0, 448.0).hi == 448.0


def test_hull_and_where():
    a, b = point([1.0, -0.0, np.nan, 2.0, np.nan]), point([1.0, 0.0, 5.0, 3.0, np.nan])
    both = hull(a, b)
    assert both.lo.tolist()[:4] == [1.0, -0.0, 5.0, 2.0]
    assert both.hi.tolist()[:4] == [1.0, 0.0, 5.0, 3.0]
    assert (np.signbit(both.lo[1]), np.signbit(both.hi[1])) == (True, False)
    assert both.nan.tolist() == [0, 0, MAYBE, 0, MUST]
    assert hull(a, a).is_point
    chosen = interval.where(np.array([True, False, False, True, True]), a, b)
    assert chosen.lo.tolist()[:4] == [1.0, 0.0, 5.0, 2.0]
    mixed = interval.where(np.array([True]), between([0.0], [1.0]), point([7.0]))
    assert (mixed.lo[0], mixed.hi[0]) == (0.0, 1.0)


def test_rounding_moves_ends_in_one_step_and_meets_in_points():
    narrow = rounded(between(1 + 2.0**-30, 1 + 2.0**-29), "bfloat16")
    assert narrow.is_point
    assert narrow.lo == 1.0
    either = rounded(point(1 + 2.0**-9), "bfloat16", optional=True)
    assert (float(either.lo), float(either.hi)) == (1.0, 1 + 2.0**-9)
    assert rounded(point(1.5), "bfloat16", optional=True).is_point


def test_rounding_to_a_format_without_infinity():
    a = between([400.0, 500.0, 1.0, -600.0], [600.0, 600.0, 2.0, 600.0])
    lost = rounded(a, "float8_e4m3fn", overflow="nan")
    assert lost.nan.tolist() == [MAYBE, MUST, NEVER, MAYBE]
    assert lost.lo[0] == 384.0
    assert lost.hi[0] == 448.0
    cut = rounded(a, "float8_e4m3fn", overflow="saturate")
    assert cut.hi.tolist() == [448.0, 448.0, 2.0, 448.0]
    assert (cut.nan == NEVER).all()


def test_widening_admits_exactly_the_values_within_the_error():
    one = interval.widened(point(1.0), 1.0, "float32")
    assert (float(one.lo), float(one.hi)) == (1 - 2.0**-23, 1 + 2.0**-23)
    third = interval.widened(between(1 / 3, 1 / 3), 0.5, "float32")
    nearest = float(np.float32(1 / 3))
    assert (float(third.lo), float(third.hi)) == (nearest, nearest)
    ends = interval.widened(point([0.0, -0.0, np.inf, 3.4028235e38]), 2.0, "float32")
    assert ends.lo.tolist()[:3] == [0.0, -0.0, np.inf]
    assert np.signbit(ends.lo).tolist()[:2] == [False, True]
    assert ends.hi[3] == np.inf
    assert ends.lo[3] < round_to(3.4028235e38, "float32")
    below = interval.widened(point(-3.4028235e38), 2.0, "float32")
    assert below.lo == -np.inf
    absolute = interval.widened(point(0.0), 1.0, "float32", absolute=2.0**-20)
    assert (float(absolute.lo) < -(2.0**-20) + 1e-12, float(absolute.hi) > 9.5e-7) == (True, True)


def test_outward_moves_zeros_too():
    lo, hi = interval.outward(np.array([0.0, 1.0]), np.array([0.0, 1.0]), relative=2.0**-40)
    assert (lo < [0.0, 1.0]).all()
    assert (hi > [0.0, 1.0]).all()
