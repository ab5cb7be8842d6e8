"""Laws of the elementary functions: enclosures hold the exact value, allowances the libraries."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch

from reference import elementary
from reference.elementary import TABLE, UNIT
from reference.interval import MUST, between, point

GRID = np.concatenate([np.linspace(-12, 12, 4801), np.logspace(-30, 2, 400), [88.0, -100.0]])
GRID = GRID.astype(np.float32).astype(np.float64)


def decimal_exp(value: float) -> Fraction:
    with localcontext() as context:
        context.prec = 60
        return Fraction(Decimal(value).exp())


def series_erf(value: float) -> Fraction:
    """The Maclaurin series of erf in exact rationals, times 2 / sqrt(pi) to 50 digits."""
    x = Fraction(value)
    term, total = x, x
    for n in range(1, 160):
        term *= -x * x / n
        total += term / (2 * n + 1)
    two_over_root_pi = Fraction("1.12837916709551257389615890312154517168810125865799")
    return total * two_over_root_pi


@pytest.mark.parametrize("value", [0.5, -0.5, 1.0, 3.25, -7.125, 20.0, -80.0, 1e-8])
def test_exact_functions_hold_the_exact_value_narrowly(value):
    e = decimal_exp(value)
    squared = e * e
    for enclosure, exact in (
        (elementary.exact_exp(point(value)), e),
        (elementary.exact_tanh(point(value)), (squared - 1) / (squared + 1)),
    ):
        assert Fraction(float(enclosure.lo)) <= exact <= Fraction(float(enclosure.hi))
        assert float(enclosure.hi - enclosure.lo) <= abs(float(exact)) * 2.0**-47
    if abs(value) < 4:
        enclosure = elementary.exact_erf(point(value))
        assert Fraction(float(enclosure.lo)) <= series_erf(value) <= Fraction(float(enclosure.hi))
    if value > 0:
        enclosure = elementary.exact_rsqrt(point(value))
        assert Fraction(float(enclosure.lo)) ** 2 * Fraction(value) <= 1
        assert Fraction(float(enclosure.hi)) ** 2 * Fraction(value) >= 1


def test_special_values_are_exact():
    e = elementary.exp(point([-np.inf, np.inf]), "cuda")
    assert e.lo.tolist() == [0.0, np.inf]
    assert e.hi.tolist() == [0.0, np.inf]
    for function in (elementary.erf, elementary.tanh):
        ends = function(point([-np.inf, np.inf]), "cpu")
        assert ends.lo.tolist() == ends.hi.tolist() == [-1.0, 1.0]
        assert function(point([np.nan]), "cpu").nan[0] == MUST
    root = elementary.rsqrt(point([0.0, np.inf, -1.0]), "cpu")
    assert root.lo.tolist()[:2] == [np.inf, 0.0]
    assert root.nan.tolist() == [0, 0, MUST]


def test_zero_keeps_its_sign_under_odd_functions():
    for function in (elementary.exact_erf, elementary.exact_tanh):
        zero = function(point([-0.0, 0.0]))
        assert np.signbit(zero.lo).tolist() == np.signbit(zero.hi).tolist() == [True, False]


@pytest.mark.parametrize("name", ["exp", "erf", "tanh", "sqrt", "rsqrt"])
def test_torch_on_cpu_stays_within_the_allowance(name):
    values = np.abs(GRID) if "sqrt" in name else GRID
    got = getattr(torch, name)(torch.tensor(values, dtype=torch.float32)).double().numpy()
    admitted = getattr(elementary, name)(point(values), "cpu")
    assert ((admitted.lo <= got) & (got <= admitted.hi)).all()


def test_torch_silu_and_gelu_stay_within_the_allowance():
    x = torch.tensor(GRID, dtype=torch.float32)
    functional = torch.nn.functional
    for got, admitted in (
        (functional.silu(x), elementary.silu(point(GRID), "cpu")),
        (x * torch.sigmoid(x), elementary.silu(point(GRID), "cpu")),
        (functional.gelu(x), elementary.gelu(point(GRID), "none", "cpu")),
        (functional.gelu(x, approximate="tanh"), elementary.gelu(point(GRID), "tanh", "cpu")),
    ):
        values = got.double().numpy()
        assert ((admitted.lo <= values) & (values <= admitted.hi)).all()


def test_numpy_float32_stays_within_the_interpreters_allowance():
    x = GRID.astype(np.float32)
    with np.errstate(over="ignore"):
        for got, admitted in (
            (np.exp(x), elementary.exp(point(GRID), "interpreter")),
            (np.tanh(x), elementary.tanh(point(GRID), "interpreter")),
            (np.array([math.erf(v) for v in GRID], np.float32),
             elementary.erf(point(GRID), "interpreter")),
        ):  # fmt: skip
            assert ((admitted.lo <= got) & (got <= admitted.hi)).all()


def test_rsqrt_admits_one_rounding_and_two_and_nothing_else():
    values = np.abs(GRID) + 2.0**-20
    values = values.astype(np.float32).astype(np.float64)
    once = (1 / np.sqrt(values)).astype(np.float32)
    twice = np.float32(1) / np.sqrt(values.astype(np.float32))
    admitted = elementary.rsqrt(point(values), "interpreter")
    assert np.array_equal(admitted.lo, np.minimum(once, twice))
    assert np.array_equal(admitted.hi, np.maximum(once, twice))
    for backend in ("cpu", "cuda"):
        loose = elementary.rsqrt(point(values), backend)
        assert (loose.lo <= admitted.lo).all()
        assert (loose.hi >= admitted.hi).all()
        assert (loose.hi > loose.lo).any()


def test_torch_reciprocal_of_its_own_square_root_is_admitted():
    values = np.abs(GRID) + 2.0**-20
    values = values.astype(np.float32).astype(np.float64)
    got = (1 / torch.sqrt(torch.tensor(values, dtype=torch.float32))).double().numpy()
    admitted = elementary.rsqrt(point(values), "cpu")
    assert ((admitted.lo <= got) & (got <= admitted.hi)).all()


def test_a_device_admits_what_each_of_its_libraries_does():
    x = point(np.array([-30.0, 0.3, 12.0]))
    device = elementary.exp(x, "cuda")
    for library in ("cuda-libm", "cuda-ex2"):
        one = elementary.exp(x, library)
        assert (device.lo <= one.lo).all()
        assert (device.hi >= one.hi).all()
    # A library that has no bound of its own for a function has the device's.
    assert elementary.sqrt(x, "cuda-ex2").hi[2] == elementary.sqrt(x, "cuda").hi[2]


def test_silu_is_zero_or_exact_where_the_exponential_overflows():
    z = np.array([-89.0, -104.0, -1e30])
    admitted = elementary.silu(point(z), "cpu")
    assert np.signbit(admitted.hi).all()
    assert (admitted.hi == 0).all()
    assert admitted.lo[0] <= -89.0 * math.exp(-89.0)
    assert admitted.lo[1] <= -104.0 * math.exp(-104.0)
    assert admitted.lo[0] > -1e-35


def test_gelu_of_an_interval_holds_its_points():
    for approximate in ("none", "tanh"):
        spread = elementary.gelu(between(1.0, 1.25), approximate, "cpu")
        for value in (1.0, 1.1, 1.25):
            one = elementary.gelu(point(value), approximate, "cpu")
            assert spread.lo <= one.lo
            assert one.hi <= spread.hi


def test_gelu_of_float32_subnormals_admits_either_order_of_products():
    tiny = 3 * 2.0**-149
    admitted = elementary.gelu(point([tiny, -tiny, 0.0]), "none", "cpu")
    assert admitted.lo[0] <= 2.0**-149 <= admitted.hi[0]
    assert admitted.lo[2] == admitted.hi[2] == 0.0


def test_the_derivation_of_the_erf_allowance_adds_up():
    p, *rest = 0.3275911, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429
    a = np.array(rest)
    x = np.linspace(0, 5, 100001)
    t, e = 1 / (1 + p * x), np.exp(-x * x)
    s1 = a[4] * t + a[3]
    s2 = s1 * t + a[2]
    s3 = s2 * t + a[1]
    r = s3 * t + a[0]
    powers = t[:, None] ** np.arange(5)
    slope = (powers * a * np.arange(1, 6)).sum(axis=1)
    fma = abs(s1) * t**3 + abs(s2) * t**2 + abs(s3) * t + abs(r)
    constants = (powers * abs(a)).sum(axis=1)
    error = e * (3 * t * abs(slope) + t * (fma + constants) + (2 + x * x) * t * r + t * r)
    assert error.max() == pytest.approx(20.98, abs=0.01)
    assert np.abs(1 - e * t * r - np.vectorize(math.erf)(x)).max() <= 1.5e-7
    assert TABLE["erf", "cpu"].absolute >= 1.5e-7 + (error.max() + 0.5) * UNIT


def test_every_entry_names_its_source_and_unknown_ones_are_refused():
    assert all(entry.source for entry in TABLE.values())
    with pytest.raises(ValueError, match="no error bound of 'exp' on backend 'tpu'; known: cpu"):
        elementary.exp(point(1.0), "tpu")
    with pytest.raises(ValueError, match="approximate='fast' is unknown; accepted: 'none', 'tanh'"):
        elementary.gelu(point(1.0), "fast", "cpu")
