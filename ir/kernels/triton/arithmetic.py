"""Functions of float32 that kernels share: they round the same on each GPU and interpreted.

Triton's own exp, division and rsqrt are approximations whose error differs between back ends,
and its casts to float8 exist on some GPUs only.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_offset(row, n1, n2, s0, s1, s2):
    """Elements from a tensor's start to its row `row`, in 64 bits: they may exceed 2^31."""
    row = row.to(tl.int64)
    return row // (n1 * n2) * s0 + row // n2 % n1 * s1 + row % n2 * s2


@triton.jit
def divide(a, b):
    """a / b, rounded to nearest."""
    return tl.div_rn(a, b)


@triton.jit
def mean(s, n):
    """s / n for a sum s and a count n, rounded to nearest."""
    return tl.div_rn(s, n.to(tl.float32))


@triton.jit
def exp(x):
    """e^x within 1.5 ulp where the result is normal; NaN stays.

    x = k ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts of which k times the first is exact, and
    a polynomial of degree 7 in r: Moshier, Cephes Math Library, expf.
    """
    # Beyond these bounds the result is infinity or zero anyway, and k must fit two exponents.
    x = tl.where(x > 90.0, 90.0, tl.where(x < -105.0, -105.0, x))
    k = tl.floor(x * 1.4426950408889634 + 0.5)
    r = x - k * 0.693359375
    r = r - k * -2.12194440e-4
    p = r * 1.9875691500e-4 + 1.3981999507e-3
    p = p * r + 8.3334519073e-3
    p = p * r + 4.1665795894e-2
    p = p * r + 1.6666665459e-1
    p = p * r + 5.0000001201e-1
    p = p * r * r + r + 1.0
    # 2^k may be beyond the format where p * 2^k is not: two factors.
    i = k.to(tl.int32)
    half = i >> 1
    first = ((half + 127) << 23).to(tl.float32, bitcast=True)
    second = ((i - half + 127) << 23).to(tl.float32, bitcast=True)
    return p * first * second


@triton.jit
def rsqrt(x):
    """1 / sqrt(x), rounded twice."""
    return tl.div_rn(tl.full(x.shape, 1.0, tl.float32), tl.sqrt_rn(x))


@triton.jit
def silu(z):
    """z / (1 + e^-z)."""
    return tl.div_rn(z, exp(-z) + 1.0)


@triton.jit
def gelu_erf(z):
    """z/2 (1 + erf(z / sqrt 2))."""
    return 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))


@triton.jit
def gelu_tanh(z):
    """z/2 (1 + tanh(c)), c = sqrt(2/pi) (z + 0.044715 z^3), as z / (1 + e^-2c).

    This form loses nothing to cancellation where tanh nears -1.
    """
    c = 0.7978845608028654 * (z + 0.044715 * (z * z * z))
    return tl.div_rn(z, exp(-2.0 * c) + 1.0)


@triton.jit
def absmax(x, axis: tl.constexpr):
    """The largest |x| of float32 along an axis; a NaN anywhere gives NaN.

    The order of magnitudes is that of their bits, where NaN is above infinity. (tl.max of floats
    drops NaN.)
    """
    bits = tl.max(tl.abs(x).to(tl.int32, bitcast=True), axis=axis)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def next_power_of_two(x):
    """The smallest power of two >= x for normal positive float32; infinity and NaN stay."""
    below = (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    power = tl.where(below < x, below * 2.0, below)
    return tl.where(x != x, x, power)


@triton.jit
def e4m3fn_bits(x, scale):
    """The bits of float8_e4m3fn nearest to x / scale clamped to +-448, ties to even.

    Written with integers: the cast exists on GPUs with float8 only, and saturates or not by
    version. NaN stays NaN, a zero keeps its sign.
    """
    q = tl.div_rn(x, scale)
    q = tl.where(q > 448.0, 448.0, tl.where(q < -448.0, -448.0, q))
    bits = q.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # 20 bits of significand go; 120 is the difference of the exponents' biases.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    # Below 2^-6 the format's step is 2^-9, which is that of float32 next to 2^14 = 0x46800000.
    shifted = magnitude.to(tl.float32, bitcast=True) + 16384.0
    subnormal = shifted.to(tl.int32, bitcast=True) - 0x46800000
    code = tl.where(magnitude < 0x3C800000, subnormal, normal)
    code = tl.where(magnitude > 0x7F800000, 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)
