"""Root-mean-square norms: one program a row, which it holds whole."""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton import arithmetic
from ir.kernels.triton.arithmetic import mean, row_offset, rsqrt
from ir.kernels.triton.launch import (
    MAX_WIDTH,
    launch,
    opaque,
    power_of_two,
    rows_of,
    runs_on,
    warps,
    why_unavailable,
)
from ir.ops import layernorm
from ir.ops.layout import empty_dense, is_dense

# Token counts and row strides: a kernel for each of their divisors would only cost compilations.
_VARYING = ["n1", "n2", "xs0", "xs1", "xs2", "ys0", "ys1", "ys2"]


@triton.jit
def _norm(
    s, keep, weight, columns, in_row, ws, d, variance_size, epsilon, HAS_WEIGHT: tl.constexpr
):
    """The norm of a row `s` (float32) before its last rounding; `keep` masks the mean square."""
    mean_square = mean(tl.sum(tl.where(keep, s * s, 0.0), axis=0), variance_size)
    # As a tensor, so that a number beyond float32's normal range is rounded and not promoted.
    root = rsqrt(mean_square + tl.full((), epsilon, tl.float32))
    normed = s * root
    if HAS_WEIGHT:
        w = tl.load(weight + columns * ws, mask=in_row, other=0.0)
        product = normed.to(w.dtype).to(tl.float32) * w.to(tl.float32)
        normed = product.to(w.dtype).to(tl.float32)
    return normed


@triton.jit(do_not_specialize=_VARYING)
def _rms_norm_kernel(
    x, weight, y, n1, n2, xs0, xs1, xs2, xs3, ys0, ys1, ys2, ys3, ws, d, variance_size, epsilon,
    HAS_WEIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK).to(tl.int64)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    s = tl.load(source, mask=in_row, other=0.0).to(tl.float32)
    keep = columns < variance_size
    normed = _norm(s, keep, weight, columns, in_row, ws, d, variance_size, epsilon, HAS_WEIGHT)
    target = y + row_offset(row, n1, n2, ys0, ys1, ys2) + columns * ys3
    tl.store(target, normed.to(y.dtype.element_ty), mask=in_row)


@triton.jit(do_not_specialize=_VARYING[:5])
def _fused_add_rms_norm_kernel(
    x, residual, weight, n1, n2, xs0, xs1, xs2, xs3, ws, d, variance_size, epsilon,
    HAS_WEIGHT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK).to(tl.int64)
    in_row = columns < d
    place = row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    a = tl.load(x + place, mask=in_row, other=0.0).to(tl.float32)
    s = a + tl.load(residual + place, mask=in_row, other=0.0).to(tl.float32)
    tl.store(residual + place, s.to(residual.dtype.element_ty), mask=in_row)
    keep = columns < variance_size
    normed = _norm(s, keep, weight, columns, in_row, ws, d, variance_size, epsilon, HAS_WEIGHT)
    tl.store(x + place, normed.to(x.dtype.element_ty), mask=in_row)


@opaque(layernorm.fake_rms_norm)
def _rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None
) -> Tensor:
    y = empty_dense(x)
    rows, sizes, strides = rows_of(x)
    d = x.shape[-1]
    block = power_of_two(d)
    launch(
        _rms_norm_kernel, (rows,), x.device,
        x, x if weight is None else weight, y, *sizes, *strides, *rows_of(y)[2],
        0 if weight is None else weight.stride(0), d, d if variance_size is None else variance_size,
        epsilon, HAS_WEIGHT=weight is not None, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    return y


def _fake_fused_add(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None
) -> None:
    return None


@opaque(_fake_fused_add, mutates=("x", "x_residual"))
def _fused_add_rms_norm_(
    x: Tensor, x_residual: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None
) -> None:
    rows, sizes, strides = rows_of(x)
    d = x.shape[-1]
    block = power_of_two(d)
    launch(
        _fused_add_rms_norm_kernel, (rows,), x.device,
        x, x_residual, x if weight is None else weight, *sizes, *strides,
        0 if weight is None else weight.stride(0), d, d if variance_size is None else variance_size,
        epsilon, HAS_WEIGHT=weight is not None, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip


_DEPENDS_ON = (sys.modules[__name__], arithmetic, triton)


def _supports_rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> bool:
    return runs_on(x) and x.shape[-1] <= MAX_WIDTH


@layernorm.rms_norm.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_rms_norm,
    depends_on=_DEPENDS_ON,
)
def rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return _rms_norm(x, weight, epsilon, variance_size)


def _supports_fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    # Outputs lie where the inputs did, so these must be laid out as outputs are declared to be.
    return (
        runs_on(x)
        and x.shape[-1] <= MAX_WIDTH
        and x.stride() == x_residual.stride()
        and is_dense(x)
    )


@layernorm.fused_add_rms_norm.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_fused_add_rms_norm,
    inplace=True,
    depends_on=_DEPENDS_ON,
)
def fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    _fused_add_rms_norm_(x, x_residual, weight, epsilon, variance_size)
    return x, x_residual
