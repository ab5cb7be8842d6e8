"""Gated activations: a row is split into blocks, except where its statistics are needed."""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton import arithmetic
from ir.kernels.triton.arithmetic import gelu_erf, gelu_tanh, mean, row_offset, silu
from ir.kernels.triton.launch import (
    BLOCK,
    MAX_WIDTH,
    blocks,
    launch,
    opaque,
    power_of_two,
    rows_of,
    runs_on,
    warps,
    why_unavailable,
)
from ir.ops import activation
from ir.ops.layout import empty_dense

_VARYING = ["n1", "n2", "xs0", "xs1", "xs2", "ys0", "ys1", "ys2"]


@triton.jit
def _activate(z, ACT: tl.constexpr):
    if ACT == "silu":
        a = silu(z)
    elif ACT == "tanh":
        a = gelu_tanh(z)
    else:
        a = gelu_erf(z)
    return a


@triton.jit(do_not_specialize=_VARYING)
def _gated_kernel(
    x, y, n1, n2, xs0, xs1, xs2, xs3, ys0, ys1, ys2, ys3, d,
    ACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2)
    gate = tl.load(source + columns * xs3, mask=in_row, other=0.0)
    up = tl.load(source + (columns + d) * xs3, mask=in_row, other=0.0).to(tl.float32)
    a = _activate(gate.to(tl.float32), ACT).to(gate.dtype).to(tl.float32)
    target = y + row_offset(row, n1, n2, ys0, ys1, ys2) + columns * ys3
    tl.store(target, (a * up).to(gate.dtype), mask=in_row)


@triton.jit(do_not_specialize=_VARYING)
def _sparse_kernel(
    x, y, n1, n2, xs0, xs1, xs2, xs3, ys0, ys1, ys2, ys3, d, std_multiplier,
    ACT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK).to(tl.int64)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2)
    gate = tl.load(source + columns * xs3, mask=in_row, other=0.0)
    up = tl.load(source + (columns + d) * xs3, mask=in_row, other=0.0).to(tl.float32)
    z = gate.to(tl.float32)
    center = mean(tl.sum(z, axis=0), d)
    deviation = tl.where(in_row, z - center, 0.0)
    variance = mean(tl.sum(deviation * deviation, axis=0), d)
    std = tl.sqrt_rn(variance).to(gate.dtype).to(tl.float32)
    margin = (std * tl.full((), std_multiplier, tl.float32)).to(gate.dtype).to(tl.float32)
    cut = (center.to(gate.dtype).to(tl.float32) + margin).to(gate.dtype).to(tl.float32)
    excess = (z - cut).to(gate.dtype).to(tl.float32)
    kept = tl.where(excess < 0.0, 0.0, excess)
    a = _activate(kept, ACT).to(gate.dtype).to(tl.float32)
    target = y + row_offset(row, n1, n2, ys0, ys1, ys2) + columns * ys3
    tl.store(target, (a * up).to(gate.dtype), mask=in_row)


@opaque(lambda x, act: activation.fake_silu_and_mul(x))
def _gated(x: Tensor, act: str) -> Tensor:
    d = x.shape[-1] // 2
    y = empty_dense(x, last=d)
    rows, sizes, strides = rows_of(x)
    block = min(power_of_two(d), BLOCK)
    launch(
        _gated_kernel, (rows, blocks(d, block)), x.device,
        x, y, *sizes, *strides, *rows_of(y)[2], d,
        ACT=act, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    return y


@opaque(activation.fake_gelu_and_mul_sparse)
def _sparse(x: Tensor, std_multiplier: float, approximate: str) -> Tensor:
    d = x.shape[-1] // 2
    y = empty_dense(x, last=d)
    rows, sizes, strides = rows_of(x)
    block = power_of_two(d)
    launch(
        _sparse_kernel, (rows,), x.device,
        x, y, *sizes, *strides, *rows_of(y)[2], d, std_multiplier,
        ACT=approximate, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    return y


_DEPENDS_ON = (sys.modules[__name__], arithmetic, triton)
_SUPPORTED = why_unavailable() is None


def _supports_gelu_and_mul_sparse(
    x: Tensor, std_multiplier: float, approximate: str = "none"
) -> bool:
    return runs_on(x) and x.shape[-1] <= 2 * MAX_WIDTH


@activation.gelu_and_mul_sparse.register_impl(
    "triton",
    supported=_SUPPORTED,
    supports_args=_supports_gelu_and_mul_sparse,
    depends_on=_DEPENDS_ON,
)
def gelu_and_mul_sparse(x: Tensor, std_multiplier: float, approximate: str = "none") -> Tensor:
    return _sparse(x, std_multiplier, approximate)


def _supports_silu_and_mul(x: Tensor) -> bool:
    return runs_on(x)


@activation.silu_and_mul.register_impl(
    "triton", supported=_SUPPORTED, supports_args=_supports_silu_and_mul, depends_on=_DEPENDS_ON
)
def silu_and_mul(x: Tensor) -> Tensor:
    return _gated(x, "silu")


def _supports_gelu_and_mul(x: Tensor, approximate: str = "none") -> bool:
    return runs_on(x)


@activation.gelu_and_mul.register_impl(
    "triton", supported=_SUPPORTED, supports_args=_supports_gelu_and_mul, depends_on=_DEPENDS_ON
)
def gelu_and_mul(x: Tensor, approximate: str = "none") -> Tensor:
    return _gated(x, approximate)
