"""The formats of the reference: storage bytes, one-step rounding, and the order of their values.

Everything is computed in float64, which holds every value of every narrower format exactly.
Rounding is done here and not by ``astype``, because ml_dtypes (and torch) round float64 to
bfloat16 and to the 8-bit formats twice, through float32: 1 + 2**-8 + 2**-40 becomes 1.0 there,
while its correct rounding is 1 + 2**-7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

Overflow: TypeAlias = Literal["inf", "nan", "saturate"]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]

_MANTISSA = 52
_BIAS = 1023
_ABS = np.int64(0x7FFF_FFFF_FFFF_FFFF)
# 64 Ki float64 are 512 KiB: the working set of one block stays in the second-level cache.
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One storage format.

    ``size`` is in bytes. For floats ``precision`` counts the significand bits with the hidden
    one, ``emin`` is the exponent of the smallest normal number, ``max`` the largest finite value,
    and ``overflow`` lists the overflow rules a rounding may name (the first is the default when
    it is the only one). Integers and bool have precision 0.
    """

    name: str
    size: int
    kind: Literal["float", "int", "bool"]
    dtype: np.dtype
    precision: int = 0
    emin: int = 0
    max: float = 0.0
    overflow: tuple[Overflow, ...] = ()

    @property
    def min_normal(self) -> float:
        return 2.0**self.emin

    @property
    def min_subnormal(self) -> float:
        return 2.0 ** (self.emin - self.precision + 1)

    @property
    def has_inf(self) -> bool:
        return self.kind == "float" and "inf" in self.overflow


def _float(
    name: str,
    dtype: npt.DTypeLike,
    precision: int,
    emin: int,
    largest: float,
    overflow: tuple[Overflow, ...] = ("inf",),
) -> Format:
    storage = np.dtype(dtype)
    return Format(
        name=name,
        size=storage.itemsize,
        kind="float",
        dtype=storage,
        precision=precision,
        emin=emin,
        max=largest,
        overflow=overflow,
    )


def _integer(name: str, dtype: npt.DTypeLike, kind: Literal["int", "bool"] = "int") -> Format:
    storage = np.dtype(dtype)
    return Format(name=name, size=storage.itemsize, kind=kind, dtype=storage)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _float("float64", np.float64, 53, -1022, float(np.finfo(np.float64).max)),
            _float("float32", np.float32, 24, -126, float(np.finfo(np.float32).max)),
            _float("float16", np.float16, 11, -14, 65504.0),
            _float("bfloat16", ml_dtypes.bfloat16, 8, -126, (2 - 2.0**-7) * 2.0**127),
            _float("float8_e5m2", ml_dtypes.float8_e5m2, 3, -14, 57344.0),
            _float("float8_e4m3fn", ml_dtypes.float8_e4m3fn, 4, -6, 448.0, ("nan", "saturate")),
            _integer("int64", np.int64),
            _integer("int32", np.int32),
            _integer("uint8", np.uint8),
            _integer("bool", np.bool_, "bool"),
        )
    }
)


def format_of(name: str) -> Format:
    """The table's entry for ``name``; ValueError names what is known."""
    found = FORMATS.get(name)
    if found is None:
        raise ValueError(f"format {name!r} is unknown; known are {', '.join(FORMATS)}")
    return found


def _float_format(name: str) -> Format:
    found = format_of(name)
    if found.kind != "float":
        floats = [entry.name for entry in FORMATS.values() if entry.kind == "float"]
        raise ValueError(f"format {name!r} does not round; accepted are {', '.join(floats)}")
    return found


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy (or ml_dtypes) dtype whose items are the storage of ``name``."""
    return format_of(name).dtype


def _as_storage(buffer: bytes | bytearray | memoryview | np.ndarray, fmt: Format) -> np.ndarray:
    if not isinstance(buffer, np.ndarray):
        return np.frombuffer(buffer, dtype=fmt.dtype)
    if buffer.dtype == fmt.dtype:
        return buffer
    if buffer.dtype.kind in "uiV" and buffer.dtype.itemsize == fmt.size and fmt.kind == "float":
        return buffer.view(fmt.dtype)
    raise ValueError(
        f"storage of {fmt.name} cannot be read from an array of {buffer.dtype}; accepted are "
        f"bytes, {fmt.dtype}, or unsigned integers of {fmt.size} bytes"
    )


_BYTE_VALUES: Mapping[str, Float64] = MappingProxyType(
    {
        name: np.arange(256, dtype=np.uint8).view(FORMATS[name].dtype).astype(np.float64)
        for name in ("float8_e4m3fn", "float8_e5m2")
    }
)


def decode(buffer: bytes | bytearray | memoryview | np.ndarray, name: str) -> Float64:
    """Storage of format ``name`` as exact float64 values, same shape (bytes give one dimension).

    An int64 beyond 2**53 in magnitude that float64 cannot hold is refused with ValueError.
    """
    fmt = format_of(name)
    raw = _as_storage(buffer, fmt)
    if name in _BYTE_VALUES:
        return _BYTE_VALUES[name][raw.view(np.uint8)]
    if name == "bfloat16":
        wide = raw.view(np.uint16).astype(np.uint32)
        wide <<= 16
        raw = wide.view(np.float32)
    with np.errstate(invalid="ignore"):
        values = raw.astype(np.float64)
    # Compared in float64, 2**53 + 1 already reads 2**53, so the limit itself is refused too.
    if name == "int64" and values.size and float(np.abs(values).max()) >= 2.0**53:
        raise ValueError("an int64 of magnitude 2**53 or more has no exact float64 value")
    return values


def encode(values: npt.ArrayLike, name: str) -> np.ndarray:
    """Exactly representable float64 values as storage of format ``name``, same shape.

    Every NaN becomes the format's quiet NaN. A value that ``name`` cannot hold is refused with
    ValueError: rounding is ``round_to``'s job, where the overflow rule is named.
    """
    fmt = format_of(name)
    exact = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = exact.astype(fmt.dtype)
        back = stored.astype(np.float64)
    kept = (back == exact) | (np.isnan(exact) & np.isnan(back))
    if not kept.all():
        first = float(exact[~kept][0])
        raise ValueError(f"{first!r} is not a value of {name}; round it with round_to first")
    return stored


def _overflow_rule(fmt: Format, overflow: Overflow | None) -> Overflow:
    if overflow is None and len(fmt.overflow) == 1:
        return fmt.overflow[0]
    if overflow is None or overflow not in fmt.overflow:
        accepted = " or ".join(fmt.overflow)
        raise ValueError(f"overflow={overflow!r} is no rule of {fmt.name}; accepted: {accepted}")
    return overflow


def _round_block(values: Float64, out: Float64, fmt: Format, overflow: Overflow) -> None:
    drop = _MANTISSA + 1 - fmt.precision
    bits = values.view(np.int64)
    rounded = out.view(np.int64)
    # Sign and magnitude share one integer, so adding half an ulp (less one unit, plus the lowest
    # kept bit) and cutting rounds to nearest even, and a carry moves into the exponent rightly.
    np.right_shift(bits, drop, out=rounded)
    np.bitwise_and(rounded, 1, out=rounded)
    np.add(rounded, bits, out=rounded)
    np.add(rounded, (1 << (drop - 1)) - 1, out=rounded)
    np.bitwise_and(rounded, -1 << drop, out=rounded)
    magnitude = np.abs(values)
    tiny = magnitude < fmt.min_normal
    if tiny.any():
        # In [2**52, 2**53) units of the smallest subnormal float64 itself rounds to whole units.
        shift = fmt.min_subnormal * 2.0**_MANTISSA
        small = values[tiny]
        out[tiny] = np.copysign((np.abs(small) + shift) - shift, small)
    # Written so that NaN, which fails every comparison, takes the branch too.
    if not (magnitude <= fmt.max).all():
        beyond = np.abs(out) > fmt.max
        limit = {"inf": np.inf, "nan": np.nan, "saturate": fmt.max}[overflow]
        out[beyond] = np.copysign(limit, values[beyond])
        out[np.isnan(values)] = np.nan


def round_to(values: npt.ArrayLike, name: str, *, overflow: Overflow | None = None) -> Float64:
    """float64 values rounded once, to nearest even, to format ``name``; float64, same shape.

    Subnormals, signed zeros and NaN are kept. ``overflow`` says what becomes of a value that
    would round beyond the largest finite one (IEEE 754-2019, 4.3.1: decided after rounding with
    unbounded exponent): ``inf`` is the only rule of the formats that have one; ``float8_e4m3fn``
    has none, so the caller must name ``nan`` or ``saturate`` (both apply to infinities as well).
    """
    fmt = _float_format(name)
    rule = _overflow_rule(fmt, overflow)
    exact = np.ascontiguousarray(values, dtype=np.float64).reshape(np.shape(values))
    if name == "float64":
        return exact.copy()
    if name == "float32":
        # The one narrowing that hardware does in a single correct step.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return exact.astype(np.float32).astype(np.float64)
    out = np.empty_like(exact)
    flat_in, flat_out = exact.reshape(-1), out.reshape(-1)
    for start in range(0, flat_in.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        _round_block(flat_in[part], flat_out[part], fmt, rule)
    return out


def _spacing(values: Float64, fmt: Format) -> Float64:
    size = np.abs(values)
    np.clip(size, fmt.min_normal, fmt.max, out=size)
    exponent = size.view(np.int64)
    # Only the exponent field is kept: the power of two at or below each value.
    np.bitwise_and(exponent, 0x7FF << _MANTISSA, out=exponent)
    size *= 2.0 ** (1 - fmt.precision)
    return size


def ulp(values: npt.ArrayLike, name: str) -> Float64:
    """The spacing of format ``name`` in the binade of each value (its top binade for inf)."""
    fmt = _float_format(name)
    exact = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(exact), np.nan, _spacing(np.atleast_1d(exact), fmt)).reshape(
        exact.shape
    )


def _directed(values: npt.ArrayLike, name: str, whole: np.ufunc) -> Float64:
    fmt = _float_format(name)
    exact = np.asarray(values, dtype=np.float64)
    flat = np.atleast_1d(exact)
    if name == "float64":
        return exact.copy()
    # Scaling by a power of two is exact here: the spacing never leaves float64's normal range.
    spacing = _spacing(flat, fmt)
    out = whole(flat / spacing)
    out *= spacing
    if not (np.abs(out) <= fmt.max).all():
        up = whole is np.ceil
        out[out > fmt.max] = np.inf if up else fmt.max
        out[out < -fmt.max] = -fmt.max if up else -np.inf
        infinite = np.isinf(flat)
        out[infinite] = flat[infinite]
    return out.reshape(exact.shape)


def round_up(values: npt.ArrayLike, name: str) -> Float64:
    """The smallest value of the format at or above each one; inf above the largest finite."""
    return _directed(values, name, np.ceil)


def round_down(values: npt.ArrayLike, name: str) -> Float64:
    """The largest value of the format at or below each one; -inf below the smallest finite."""
    return _directed(values, name, np.floor)


def _top(fmt: Format) -> int:
    """The ordinal of the format's largest value: inf where it has one."""
    last = int(np.float64(fmt.max).view(np.int64)) >> (_MANTISSA + 1 - fmt.precision)
    return last - ((fmt.emin + _BIAS - 1) << (fmt.precision - 1)) + fmt.has_inf


def ordinal(values: npt.ArrayLike, name: str) -> Int64:
    """The place of each value in the format's total order, int64: +0 is 0, -0 is -1.

    Neighbours differ by one, so a difference counts ulps. The values must belong to the format
    (others take the place of the neighbour towards zero); NaN has no place and is refused.
    """
    fmt = _float_format(name)
    exact = np.asarray(values, dtype=np.float64)
    if np.isnan(exact).any():
        raise ValueError("NaN has no place in the order of a format; mask it out first")
    magnitude = np.abs(exact)
    drop = _MANTISSA + 1 - fmt.precision
    first = np.int64((fmt.emin + _BIAS - 1) << (fmt.precision - 1))
    normal = (magnitude.view(np.int64) >> drop) - first
    small = np.minimum(magnitude, fmt.min_normal)
    # Two factors, because 1 / min_subnormal of float64 is beyond float64.
    subnormal = (small * 2.0**_MANTISSA * (2.0**-_MANTISSA / fmt.min_subnormal)).astype(np.int64)
    place = np.where(magnitude < fmt.min_normal, subnormal, normal)
    place = np.minimum(place, _top(fmt))
    return np.where(np.signbit(exact), -1 - place, place)


def from_ordinal(places: npt.ArrayLike, name: str) -> Float64:
    """The inverse of ``ordinal``; places beyond the ends of the order take the end's value."""
    fmt = _float_format(name)
    place = np.asarray(places, dtype=np.int64)
    top = _top(fmt)
    steps = np.minimum(np.where(place < 0, -1 - place, place), top)
    drop = _MANTISSA + 1 - fmt.precision
    first = np.int64((fmt.emin + _BIAS - 1) << (fmt.precision - 1))
    subnormal = steps.astype(np.float64) * fmt.min_subnormal
    normal = ((np.maximum(steps, 1 << (fmt.precision - 1)) + first) << drop).view(np.float64)
    magnitude = np.where(steps < 1 << (fmt.precision - 1), subnormal, normal)
    if fmt.has_inf:
        magnitude = np.where(steps == top, np.inf, magnitude)
    return np.where(place < 0, -magnitude, magnitude)


def _neighbour(values: npt.ArrayLike, name: str, step: int) -> Float64:
    exact = np.asarray(values, dtype=np.float64)
    absent = np.isnan(exact)
    moved = from_ordinal(ordinal(np.where(absent, 0.0, exact), name) + step, name)
    return np.where(absent, np.nan, moved)


def next_up(values: npt.ArrayLike, name: str) -> Float64:
    """The next larger value of the format: +0 follows -0; the largest and NaN stay."""
    return _neighbour(values, name, 1)


def next_down(values: npt.ArrayLike, name: str) -> Float64:
    """The next smaller value of the format: -0 comes before +0; the smallest and NaN stay."""
    return _neighbour(values, name, -1)
