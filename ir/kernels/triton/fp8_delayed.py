"""Quantization with the scale of earlier calls: one pass over x, which finds its maximum too."""

from __future__ import annotations

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton import arithmetic
from ir.kernels.triton.arithmetic import absmax, divide, e4m3fn_bits, row_offset
from ir.kernels.triton.launch import (
    BLOCK,
    blocks,
    launch,
    opaque,
    power_of_two,
    rows_of,
    runs_on,
    warps,
    why_unavailable,
)
from ir.ops import fp8_delayed
from ir.ops.fp8_delayed import HISTORY, HISTORY_LENGTH
from ir.ops.layout import empty_contiguous
from ir.ops.quantization import FP8
from ir.state import ir_state


@triton.jit
def _scale_kernel(history, scale, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    held = tl.load(history + place, mask=place < LENGTH, other=0.0)
    largest = tl.max(held, axis=0)
    share = divide(largest, tl.full((), 448.0, tl.float32))
    tl.store(scale, tl.where(largest > 0.0, share, 1.0))


@triton.jit(do_not_specialize=["n1", "n2", "xs0", "xs1", "xs2"])
def _quantize_kernel(x, scale, y, seen, n1, n2, xs0, xs1, xs2, xs3, d, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    in_row = columns < d
    source = x + row_offset(row, n1, n2, xs0, xs1, xs2) + columns * xs3
    z = tl.load(source, mask=in_row, other=0.0).to(tl.float32)
    tl.store(y + row.to(tl.int64) * d + columns, e4m3fn_bits(z, tl.load(scale)), mask=in_row)
    # Magnitudes are ordered as their bits are, NaN above all.
    tl.atomic_max(seen, absmax(z, 0).to(tl.int32, bitcast=True))


@triton.jit
def _record_kernel(seen, history, following, LENGTH: tl.constexpr):
    bits = tl.load(seen)
    place = tl.load(following)
    # A call counts whose maximum is neither 0 nor infinite nor NaN.
    counts = (bits > 0) & (bits < 0x7F800000)
    tl.store(history + place, bits.to(tl.float32, bitcast=True), mask=counts)
    tl.store(following, (place + 1) % LENGTH, mask=counts)


def _fake_quantize(x: Tensor, history: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
    return fp8_delayed.fake_quant_fp8_delayed(x)


@opaque(_fake_quantize, mutates=("history", "following"))
def _quantize_(x: Tensor, history: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
    y = empty_contiguous(x, FP8)
    scale = torch.empty(1, dtype=torch.float32, device=x.device)
    seen = torch.zeros(1, dtype=torch.int32, device=x.device)
    launch(
        _scale_kernel, (1,), x.device, history, scale,
        LENGTH=HISTORY_LENGTH, BLOCK=power_of_two(HISTORY_LENGTH), num_warps=1,
    )  # fmt: skip
    rows, sizes, strides = rows_of(x)
    d = x.shape[-1]
    block = min(power_of_two(d), BLOCK)
    launch(
        _quantize_kernel, (rows, blocks(d, block)), x.device,
        x, scale, y.view(torch.uint8), seen, *sizes, *strides, d,
        BLOCK=block, num_warps=warps(block),
    )  # fmt: skip
    launch(
        _record_kernel, (1,), x.device, seen, history, following,
        LENGTH=HISTORY_LENGTH, num_warps=1,
    )  # fmt: skip
    return y, scale


def _supports_quant_fp8_delayed(x: Tensor) -> bool:
    return runs_on(x)


@fp8_delayed.quant_fp8_delayed.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_quant_fp8_delayed,
    depends_on=(sys.modules[__name__], arithmetic, triton),
    state=(HISTORY,),
)
def quant_fp8_delayed(x: Tensor) -> tuple[Tensor, Tensor]:
    held = ir_state.get(HISTORY)
    y, scale = _quantize_(x, held["amax"], held["next"])
    return y, scale
