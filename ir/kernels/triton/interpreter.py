"""A correction of the low-precision arithmetic of Triton's interpreter.

The interpreter of Triton 3.7 truncates float32 to bfloat16, is up to 5 % off in casts to
float8_e4m3fn, and adds bfloat16 values as if their bits were integers. A verdict about a kernel
must not rest on that. The corrected casts round to nearest even through ml_dtypes; arithmetic on
bfloat16 is done in float32 and rounded, as a GPU does it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import triton
import triton.language as tl
from triton._C.libtriton import ir as _ir
from triton.runtime import interpreter as _interpreter

# Releases of Triton whose interpreter was read and measured with this correction.
KNOWN = ("3.7.1",)

_E4M3FN_MAX = 448.0
_WIDEN: dict[Any, np.dtype[Any]] = {
    tl.bfloat16: np.dtype(ml_dtypes.bfloat16),
    tl.float8e4nv: np.dtype(ml_dtypes.float8_e4m3fn),
    tl.float16: np.dtype(np.float16),
    tl.float32: np.dtype(np.float32),
}
_LOW = (tl.bfloat16, tl.float8e4nv)

_state: list[str] = []


def correction() -> str | None:
    """Why results of the interpreter in bfloat16 and float8 are not to be trusted, or None."""
    if not _state:
        return "the interpreter's casts are not corrected: TRITON_INTERPRET is not 1"
    return _state[0] or None


def correct() -> None:
    """Correct the interpreter of this process, once, where its version is known."""
    if _state:
        return
    if triton.__version__ not in KNOWN:
        _state.append(
            f"the interpreter's casts are not corrected: Triton {triton.__version__} is unknown, "
            f"known: {', '.join(KNOWN)}"
        )
        return
    _patch(_interpreter.InterpreterBuilder)
    _state.append("")


def to_float32(data: np.ndarray, dtype: Any) -> np.ndarray:
    """The values of an array of bits of a Triton dtype; exact for every format up to float32."""
    return data.view(_WIDEN[dtype]).astype(np.float32)


def from_float32(values: np.ndarray, dtype: Any) -> np.ndarray:
    """float32 rounded to nearest even to a Triton dtype, as the array the interpreter stores.

    float8_e4m3fn saturates, infinities too, as the conversion of NVIDIA GPUs does; NaN stays.
    """
    with np.errstate(all="ignore"):
        if dtype == tl.float8e4nv:
            values = np.clip(values, -_E4M3FN_MAX, _E4M3FN_MAX)
        # ml_dtypes rounds once from float32; only from float64 would it round twice.
        return values.astype(_WIDEN[dtype]).view(_interpreter._get_np_dtype(dtype))


def _corrected_cast(src: Any, dst_type: Any) -> Any | None:
    source, target = src.dtype.scalar, dst_type.scalar
    if source == target or not {source, target} & set(_LOW):
        return None
    if source in _WIDEN and target in _WIDEN:
        data = from_float32(to_float32(src.data, source), target)
    elif source in _WIDEN:
        # To an integer or float64: exact through float32.
        data = to_float32(src.data, source).astype(_interpreter._get_np_dtype(target))
    elif source.is_int() and source.primitive_bitwidth <= 16:
        data = from_float32(src.data.astype(np.float32), target)
    else:
        return None
    return _interpreter.TensorHandle(data, target)


def _patch(builder: Any) -> None:
    cast_impl, fp_to_fp = builder.cast_impl, builder.create_fp_to_fp
    binary_op, create_dot, create_fma = builder.binary_op, builder.create_dot, builder.create_fma

    @functools.wraps(cast_impl)
    def corrected_cast_impl(self: Any, src: Any, dst_type: Any) -> Any:
        # A handle is false where any of its data is, so only None tells.
        cast = _corrected_cast(src, dst_type)
        return cast_impl(self, src, dst_type) if cast is None else cast

    @functools.wraps(fp_to_fp)
    def corrected_fp_to_fp(self: Any, src: Any, dst_type: Any, rounding_mode: Any) -> Any:
        nearest = rounding_mode in (None, _ir.ROUNDING_MODE.RTNE)
        cast = _corrected_cast(src, dst_type) if nearest else None
        return fp_to_fp(self, src, dst_type, rounding_mode) if cast is None else cast

    @functools.wraps(binary_op)
    def corrected_binary_op(self: Any, lhs: Any, rhs: Any, op: Callable[..., Any]) -> Any:
        dtype = lhs.dtype.scalar
        if dtype != tl.bfloat16 or rhs.dtype.scalar != tl.bfloat16:
            return binary_op(self, lhs, rhs, op)
        result = op(to_float32(lhs.data, dtype), to_float32(rhs.data, dtype))
        data = result if result.dtype == np.bool_ else from_float32(result, dtype)
        return _interpreter.TensorHandle(data, dtype)

    @functools.wraps(create_fma)
    def corrected_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        if z.dtype.scalar != tl.bfloat16:
            return create_fma(self, x, y, z)
        # The product of two bfloat16 is exact in float32, and their sum with one in float64.
        a, b, c = (to_float32(t.data, tl.bfloat16).astype(np.float64) for t in (x, y, z))
        data = from_float32((a * b + c).astype(np.float32), tl.bfloat16)
        return _interpreter.TensorHandle(data, tl.bfloat16)

    @functools.wraps(create_dot)
    def corrected_dot(
        self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any
    ) -> Any:
        def wide(t: Any) -> Any:
            if t.dtype.scalar not in _LOW:
                return t
            data = to_float32(t.data, t.dtype.scalar)
            return _interpreter.TensorHandle(data, tl.float32)

        return create_dot(self, wide(a), wide(b), d, input_precision, max_num_imprecise_acc)

    builder.cast_impl = corrected_cast_impl
    builder.create_fp_to_fp = corrected_fp_to_fp
    builder.binary_op = corrected_binary_op
    builder.create_fma = corrected_fma
    builder.create_dot = corrected_dot
