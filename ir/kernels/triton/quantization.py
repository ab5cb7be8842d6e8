"""Quantization to float8_e4m3fn: bits are stored, so that no GPU's cast is relied on."""

from __future__ import annotations

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton import arithmetic
from ir.kernels.triton.arithmetic import (
    absmax,
    divide,
    e4m3fn_bits,
    next_power_of_two,
    row_offset,
)
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
from ir.ops import quantization
from ir.ops.layout import empty_contiguous
from ir.ops.quantization import FP8, GROUP_ABSMAX_FLOOR, TOKEN_SCALE_FLOOR, empty_group_scale

_VARYING = ["n1", "n2", "xs0", "xs1", "xs2"]


@triton.jit(do_not_specialize=_VARYING)
def _static_kernel(x, scale, y, n1, n2, xs0, xs1, xs2, xs3, d, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    z = tl.load(source, mask=in_row, other=0.0).to(tl.float32)
    tl.store(y + row.to(tl.int64) * d + columns, e4m3fn_bits(z, tl.load(scale)), mask=in_row)


@triton.jit(do_not_specialize=_VARYING)
def _token_kernel(
    x, scale_ub, y, scale, n1, n2, xs0, xs1, xs2, xs3, d, floor,
    HAS_BOUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK).to(tl.int64)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    z = tl.load(source, mask=in_row, other=0.0).to(tl.float32)
    largest = absmax(z, 0)
    if HAS_BOUND:
        bound = tl.load(scale_ub)
        # Written so that a NaN on either side stays.
        largest = tl.where((bound < largest) | (bound != bound), bound, largest)
    s = divide(largest, tl.full((), 448.0, tl.float32))
    least = tl.full((), floor, tl.float32)
    s = tl.where(s < least, least, s)
    tl.store(scale + row, s)
    tl.store(y + row * d + columns, e4m3fn_bits(z, s), mask=in_row)


@triton.jit(do_not_specialize=[*_VARYING, "ss0", "ss1", "ss2", "ss3"])
def _group_kernel(
    x, y, scale, n1, n2, xs0, xs1, xs2, xs3, ss0, ss1, ss2, ss3, groups, group_size, floor,
    UE8M0: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1).to(tl.int64) * BLOCK_G + tl.arange(0, BLOCK_G)
    element = tl.arange(0, BLOCK_E)
    columns = group[:, None] * group_size + element[None, :]
    mask = (group < groups)[:, None] & (element < group_size)[None, :]
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    z = tl.load(source, mask=mask, other=0.0).to(tl.float32)
    largest = absmax(z, 1)
    least = tl.full((), floor, tl.float32)
    largest = tl.where(largest < least, least, largest)
    s = divide(largest, tl.full((), 448.0, tl.float32))
    if UE8M0:
        s = next_power_of_two(s)
    place = scale + row_offset(row, n1, n2, ss0, ss1, ss2) + group * ss3
    tl.store(place, s, mask=group < groups)
    target = y + row * (groups * group_size) + columns
    tl.store(target, e4m3fn_bits(z, s[:, None]), mask=mask)


@opaque(quantization.fake_static_quant_fp8)
def _static_quant_fp8(x: Tensor, scale: Tensor) -> Tensor:
    y = empty_contiguous(x, FP8)
    rows, sizes, strides = rows_of(x)
    d = x.shape[-1]
    block = min(power_of_two(d), BLOCK)
    launch(
        _static_kernel, (rows, blocks(d, block)), x.device,
        x, scale, y.view(torch.uint8), *sizes, *strides, d, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    return y


@opaque(quantization.fake_dynamic_per_token_quant_fp8)
def _dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None) -> tuple[Tensor, Tensor]:
    y = empty_contiguous(x, FP8)
    scale = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
    rows, sizes, strides = rows_of(x)
    d = x.shape[-1]
    block = power_of_two(d)
    launch(
        _token_kernel, (rows,), x.device,
        x, scale if scale_ub is None else scale_ub, y.view(torch.uint8), scale,
        *sizes, *strides, d, TOKEN_SCALE_FLOOR,
        HAS_BOUND=scale_ub is not None, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    return y, scale


@opaque(quantization.fake_per_token_group_quant_fp8)
def _per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool, ue8m0: bool
) -> tuple[Tensor, Tensor]:
    y = empty_contiguous(x, FP8)
    scale = empty_group_scale(x, group_size, column_major_scales)
    rows, sizes, strides = rows_of(x)
    groups = x.shape[-1] // group_size
    block_e = power_of_two(group_size)
    block_g = min(power_of_two(groups), max(BLOCK // block_e, 1))
    launch(
        _group_kernel, (rows, blocks(groups, block_g)), x.device,
        x, y.view(torch.uint8), scale, *sizes, *strides, *rows_of(scale)[2],
        groups, group_size, GROUP_ABSMAX_FLOOR,
        UE8M0=ue8m0, BLOCK_G=block_g, BLOCK_E=block_e, num_warps=warps(block_g * block_e),
    )  # fmt: skip
    return y, scale


_DEPENDS_ON = (sys.modules[__name__], arithmetic, triton)
_SUPPORTED = why_unavailable() is None


def _supports_static_quant_fp8(x: Tensor, scale: Tensor) -> bool:
    return runs_on(x)


@quantization.static_quant_fp8.register_impl(
    "triton",
    supported=_SUPPORTED,
    supports_args=_supports_static_quant_fp8,
    depends_on=_DEPENDS_ON,
)
def static_quant_fp8(x: Tensor, scale: Tensor) -> Tensor:
    return _static_quant_fp8(x, scale)


def _supports_dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None = None) -> bool:
    return runs_on(x) and x.shape[-1] <= MAX_WIDTH


@quantization.dynamic_per_token_quant_fp8.register_impl(
    "triton",
    supported=_SUPPORTED,
    supports_args=_supports_dynamic_per_token_quant_fp8,
    depends_on=_DEPENDS_ON,
)
def dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return _dynamic_per_token_quant_fp8(x, scale_ub)


def _supports_per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
) -> bool:
    return runs_on(x) and group_size <= MAX_WIDTH


@quantization.per_token_group_quant_fp8.register_impl(
    "triton",
    supported=_SUPPORTED,
    supports_args=_supports_per_token_group_quant_fp8,
    depends_on=_DEPENDS_ON,
)
def per_token_group_quant_fp8(
    x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
) -> tuple[Tensor, Tensor]:
    return _per_token_group_quant_fp8(x, group_size, column_major_scales, ue8m0)
