"""Elementary functions: their exact values with a float64 margin, and what libraries may err.

A result in float32 may differ from the exact value by the allowance of a library. A backend is
one library or a device, which stands for the loosest of the libraries used on it. Where a
function is commonly composed of others (silu, gelu), it is composed here of the same steps, in
every usual form, so that one interval admits them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

import numpy as np

from reference import arithmetic, interval
from reference.dtypes import Float64
from reference.interval import Interval, between, hull, point, rounded, widened

F32 = "float32"
# Half the spacing of float32 at 1: the largest relative error of one rounding.
UNIT = 2.0**-24


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Error of one float32 library function: |computed - exact| <= ulps * ulp + absolute.

    ``argument`` is the relative error of the argument the function sees, in units of 2**-24 (an
    exponential computed as a power of two multiplies it by log2 e first).
    """

    ulps: float
    absolute: float = 0.0
    argument: float = 0.0
    source: str


# Two libraries spell tanh(x) as 2 / (1 + exp(-2 x)) - 1. With e the exponential and a relative
# error d of it, e / (1 + e)**2 <= 1/4 turns it into at most d / 2; rounding 1 + e and the quotient
# (at most 2) adds 4 u, the last subtraction u / 2: with d <= 2 u together below 6 u.
_TANH_BY_EXP = 6 * UNIT

# ATen/cpu/vec computes erf by Abramowitz and Stegun 7.1.26, whose own error is 1.5e-7. Rounding,
# in units u = 2**-24, with t = 1 / (1 + p |x|) and E = exp(-x * x), erf = 1 - E P(t): t is off by
# 3 u t (p, fma, division), which moves P(t) = t r(t) by 3 u t |P'(t)|; the four fma of r add
# u (|s1| t**3 + |s2| t**2 + |s3| t + |r|), its five constants u sum |p_i| t**i, both times t; E is
# off by (2 + x * x) u relative, its product with t by u. E times all that is largest at x = 0,
# 20.98 u (a test evaluates it); the last fma adds u / 2.
_ERF_BY_7_1_26 = 1.5e-7 + 21.5 * UNIT

_SLEEF_U10 = "SLEEF 3 documents 1.0 ulp for its u10 functions; glibc's single ones stay below it"
_CUDA = "CUDA C++ Programming Guide, appendix on mathematical functions, single precision"
_NUMPY = "NumPy float32 loops: SIMD exp documented at 2.52 ulp, SVML at 4 ulp"
_FORM = "composed: the square root of this table, then a correctly rounded reciprocal"

TABLE: Mapping[tuple[str, str], Allowance] = MappingProxyType(
    {
        ("exp", "cpu"): Allowance(ulps=1.0, source=_SLEEF_U10),
        ("exp", "cuda-libm"): Allowance(ulps=2.0, source=_CUDA),
        # ex2.approx.ftz.f32 after a multiplication by log2 e: PTX ISA gives 2**-22.5 relative
        # (2 ulp of the full range), the rounded constant and product 2 units of the argument.
        ("exp", "cuda-ex2"): Allowance(
            ulps=3.0, argument=2.0, source="PTX ISA, ex2.approx.ftz.f32; tl.exp multiplies first"
        ),
        ("exp", "interpreter"): Allowance(ulps=2.52, source=_NUMPY),
        ("erf", "cpu"): Allowance(
            ulps=1.0,
            absolute=_ERF_BY_7_1_26,
            source="ATen/cpu/vec: Abramowitz and Stegun 7.1.26; scalar tails use std::erf",
        ),
        ("erf", "cuda"): Allowance(ulps=2.0, source=_CUDA),
        # math.erf in float64, one rounding to float32.
        ("erf", "interpreter"): Allowance(
            ulps=0.5 + 2.0**-20, source="math.erf, then one rounding"
        ),
        ("tanh", "cpu"): Allowance(ulps=1.0, absolute=_TANH_BY_EXP, source=_SLEEF_U10),
        ("tanh", "cuda"): Allowance(
            ulps=2.0,
            # As above, with the exponential of 2 x by ex2.approx: d <= (6 + 2 |2 x|) u, and
            # |x| e / (1 + e)**2 < 0.23 where e = exp(-2 x).
            absolute=(_TANH_BY_EXP + 4 * UNIT),
            source=_CUDA + "; 2 / (1 + exp(-2 x)) - 1 in Triton",
        ),
        ("tanh", "interpreter"): Allowance(ulps=4.0, absolute=_TANH_BY_EXP, source=_NUMPY),
        # The two roundings are evaluated as such; nothing is left to allow.
        ("rsqrt", "cpu"): Allowance(ulps=0.0, source=_FORM),
        ("rsqrt", "interpreter"): Allowance(ulps=0.0, source=_FORM),
        ("rsqrt", "cuda"): Allowance(ulps=2.0, source=_CUDA + ": rsqrtf 2 ulp over the full range"),
        # torch.sqrt on x86 goes through MKL's vector library, which is not correctly rounded.
        ("sqrt", "cpu"): Allowance(ulps=1.0, source="MKL VML documents below 1 ulp for vsSqrt"),
        ("sqrt", "interpreter"): Allowance(ulps=0.5, source="IEEE 754: correctly rounded"),
        # sqrt.approx.f32, which Triton emits unless sqrt_rn is asked for.
        ("sqrt", "cuda"): Allowance(ulps=1.0, source="PTX ISA, sqrt.approx.f32: 2**-23 relative"),
    }
)

BACKENDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"cpu": ("cpu",), "cuda": ("cuda", "cuda-libm", "cuda-ex2"), "interpreter": ("interpreter",)}
)
"""Device -> the libraries that may compute on it."""


def allowances(function: str, backend: str) -> tuple[Allowance, ...]:
    """The allowances of ``function`` on a device or in one named library."""
    libraries = BACKENDS.get(backend, (backend,))
    if backend.startswith("cuda-"):
        libraries = (backend, "cuda")
    found = tuple(TABLE[function, name] for name in libraries if (function, name) in TABLE)
    if not found:
        known = sorted({name for entry, name in TABLE if entry == function} | set(BACKENDS))
        raise ValueError(
            f"no error bound of {function!r} on backend {backend!r}; known: {', '.join(known)}"
        )
    return found


# float64 functions of glibc and NumPy stay within 4 ulp (NumPy's own bound for SVML loops);
# 2**-49 is twice that.
_MARGIN = 2.0**-49

_ERF = np.frompyfunc(math.erf, 1, 1)


def _erf_float64(values: Float64) -> Float64:
    return np.asarray(_ERF(values), dtype=np.float64)


def _increasing(
    a: Interval, function: Callable[[Float64], Float64], least: float, most: float
) -> Interval:
    """An increasing function with values in [least, most] of an interval, margin included."""
    with np.errstate(all="ignore"):
        low = function(a.lo)
        high = low if a.is_point else function(a.hi)
        lo, hi = interval.outward(low, high, relative=_MARGIN)
        # Zero stays zero with its sign (erf and tanh of a zero).
        lo = np.where(a.lo == 0, low, np.maximum(lo, least))
        hi = np.where(a.hi == 0, high, np.minimum(hi, most))
        # Limits at infinity are exact.
        lo = np.where(np.isinf(a.lo), low, lo)
        hi = np.where(np.isinf(a.hi), high, hi)
    return Interval(lo, hi, a.nan)


def exact_exp(a: Interval) -> Interval:
    """e**a: 0 at -inf, inf at inf."""
    return _increasing(a, np.exp, 0.0, np.inf)


def exact_erf(a: Interval) -> Interval:
    return _increasing(a, _erf_float64, -1.0, 1.0)


def exact_tanh(a: Interval) -> Interval:
    return _increasing(a, np.tanh, -1.0, 1.0)


def exact_rsqrt(a: Interval) -> Interval:
    """1 / sqrt(a): inf at +0, NaN below zero."""
    return arithmetic.divide(point(np.ones(())), arithmetic.sqrt(a))


def _allowed(
    function: str, a: Interval, exact: Callable[[Interval], Interval], backend: str
) -> Interval:
    admitted = []
    for allowance in allowances(function, backend):
        seen = a
        if allowance.argument:
            reach = allowance.argument * UNIT
            seen = arithmetic.multiply(a, between(1 - reach, 1 + reach))
        ideal = exact(seen)
        one = widened(ideal, allowance.ulps, F32, absolute=allowance.absolute)
        # Limits at infinity are exact in every library of the table.
        infinite = np.isinf(a.lo) & np.isinf(a.hi)
        if infinite.any():
            one = interval.where(infinite, ideal, one)
        admitted.append(one)
    return reduce(hull, admitted)


def exp(a: Interval, backend: str) -> Interval:
    """exp as a float32 library computes it."""
    return _allowed("exp", a, exact_exp, backend)


def _within_one(a: Interval) -> Interval:
    # Every library named in the table saturates: 1 minus or plus a positive term, or a clamp.
    return interval.clamp(a, -1.0, 1.0)


def erf(a: Interval, backend: str) -> Interval:
    """erf as a float32 library computes it."""
    return _within_one(_allowed("erf", a, exact_erf, backend))


def tanh(a: Interval, backend: str) -> Interval:
    """tanh as a float32 library computes it."""
    return _within_one(_allowed("tanh", a, exact_tanh, backend))


def sqrt(a: Interval, backend: str) -> Interval:
    """sqrt in float32."""
    if all(allowance.ulps == 0.5 for allowance in allowances("sqrt", backend)):
        return rounded(arithmetic.sqrt(a), F32)
    return _allowed("sqrt", a, arithmetic.sqrt, backend)


def rsqrt(a: Interval, backend: str) -> Interval:
    """1 / sqrt in float32: rounded once, from the library's square root, or by the library."""
    one = point(np.ones(()))
    twice = rounded(arithmetic.divide(one, sqrt(a, backend)), F32)
    out = hull(twice, rounded(exact_rsqrt(a), F32))
    for allowance in allowances("rsqrt", backend):
        if allowance.ulps:
            out = hull(out, widened(exact_rsqrt(a), allowance.ulps, F32))
    return out


def silu(z: Interval, backend: str) -> Interval:
    """z / (1 + exp(-z)), or z times the rounded sigmoid, in float32.

    Where exp(-z) may overflow float32, everything from the exact value to -0 is admitted.
    """
    one = point(np.ones(()))
    e = exp(arithmetic.negate(z), backend)
    d = rounded(arithmetic.add(one, e), F32)
    quotient = rounded(arithmetic.divide(z, d), F32)
    product = rounded(arithmetic.multiply(z, rounded(arithmetic.divide(one, d), F32)), F32)
    out = hull(quotient, product)
    overflows = (e.hi == np.inf) & np.isfinite(z.lo)
    if overflows.any():
        # In float64 the exponential overflows only where the exact value is below any float32.
        exact = arithmetic.divide(z, arithmetic.add(one, exact_exp(arithmetic.negate(z))))
        tail = hull(out, Interval(exact.lo, np.full(exact.shape, -0.0), out.nan))
        out = interval.where(overflows, tail, out)
    return out


def gelu(z: Interval, approximate: str, backend: str) -> Interval:
    """0.5 z (1 + erf(z / sqrt 2)), or its tanh form, in float32; ValueError for another name."""
    if approximate == "none":
        inner = erf(_over_root_two(z), backend)
    elif approximate == "tanh":
        inner = tanh(_tanh_argument(z), backend)
    else:
        raise ValueError(f"approximate={approximate!r} is unknown; accepted: 'none', 'tanh'")
    d = rounded(arithmetic.add(point(np.ones(())), inner), F32)
    half = arithmetic.multiply(z, point(np.full((), 0.5)))
    out = rounded(arithmetic.multiply(half, d), F32)
    # 0.5 z is exact unless z is near float32's subnormals: the order of the two products then
    # matters by one unit of the last place.
    tiny = (np.abs(z.lo) < 2.0**-124) & (z.lo != 0)
    return interval.where(tiny, widened(out, 1.0, F32), out) if tiny.any() else out


def _over_root_two(z: Interval) -> Interval:
    # Times float32(sqrt 1/2) or divided by float32(sqrt 2): either constant is within one unit.
    coefficient = between(math.sqrt(0.5) * (1 - UNIT), math.sqrt(0.5) * (1 + UNIT))
    return rounded(arithmetic.multiply(z, coefficient), F32)


def _tanh_argument(z: Interval) -> Interval:
    """sqrt(2/pi) (z + 0.044715 z**3) with the errors of float32, in any usual form.

    z and z**3 have one sign, so relative errors do not grow: three products, an addition, a
    product and two constants, at most one unit each (7); z (1 + 0.044715 z**2) needs as many.
    The eighth covers the second order and float64. Where z**3 overflows or underflows in
    float32, tanh is at its limit or 1 + tanh rounds to 1 all the same.
    """
    with np.errstate(all="ignore"):
        lo, hi = (
            math.sqrt(2 / math.pi) * (end + 0.044715 * (end * end * end)) for end in (z.lo, z.hi)
        )
        low, high = interval.outward(lo, hi, relative=8 * UNIT)
    low = np.where(np.isfinite(lo) & (lo != 0), low, lo)
    high = np.where(np.isfinite(hi) & (hi != 0), high, hi)
    return Interval(low, high, z.nan)
