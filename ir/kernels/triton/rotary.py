"""Rotary position embedding, in place: one program a token and block of heads."""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton.launch import (
    BLOCK,
    blocks,
    launch,
    opaque,
    power_of_two,
    runs_on,
    warps,
    why_unavailable,
)
from ir.ops import rotary


@triton.jit(do_not_specialize=["ps"])
def _rotary_kernel(
    positions, x, cache, ps, cs0, cs1, heads, head_size, pairs,
    IS_NEOX: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    pair = tl.arange(0, BLOCK_P)
    position = tl.load(positions + token * ps)
    angle = cache + position * cs0 + pair.to(tl.int64) * cs1
    cos = tl.load(angle, mask=pair < pairs, other=0.0)
    sin = tl.load(angle + pairs.to(tl.int64) * cs1, mask=pair < pairs, other=0.0)
    dtype = x.dtype.element_ty
    cos = cos.to(tl.float32).to(dtype).to(tl.float32)[None, :]
    sin = sin.to(tl.float32).to(dtype).to(tl.float32)[None, :]
    if IS_NEOX:
        first = x + head[:, None] * head_size + pair[None, :]
        second = first + pairs
    else:
        first = x + head[:, None] * head_size + pair[None, :] * 2
        second = first + 1
    row = token * heads * head_size
    mask = (head < heads)[:, None] & (pair < pairs)[None, :]
    x1 = tl.load(first + row, mask=mask, other=0.0).to(tl.float32)
    x2 = tl.load(second + row, mask=mask, other=0.0).to(tl.float32)
    # Each product is rounded to the dtype before the sum, which must not be contracted.
    o1 = (x1 * cos).to(dtype).to(tl.float32) - (x2 * sin).to(dtype).to(tl.float32)
    o2 = (x2 * cos).to(dtype).to(tl.float32) + (x1 * sin).to(dtype).to(tl.float32)
    tl.store(first + row, o1.to(dtype), mask=mask)
    tl.store(second + row, o2.to(dtype), mask=mask)


def _fake_rotary(
    positions: Tensor, x: Tensor, head_size: int, cos_sin_cache: Tensor, is_neox: bool
) -> None:
    return None


@opaque(_fake_rotary, mutates=("x",))
def _rotary_(
    positions: Tensor, x: Tensor, head_size: int, cos_sin_cache: Tensor, is_neox: bool
) -> None:
    tokens = x.shape[0]
    heads = x.shape[1] if x.dim() == 3 else x.shape[1] // head_size
    pairs = cos_sin_cache.shape[1] // 2
    block_p = power_of_two(pairs)
    block_h = min(power_of_two(heads), max(BLOCK // block_p, 1))
    launch(
        _rotary_kernel, (tokens, blocks(heads, block_h)), x.device,
        positions, x, cos_sin_cache, positions.stride(0), *cos_sin_cache.stride(),
        heads, head_size, pairs,
        IS_NEOX=is_neox, BLOCK_H=block_h, BLOCK_P=block_p, num_warps=warps(block_h * block_p),
    )  # fmt: skip


def _supports_rotary_embedding(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> bool:
    # Outputs are declared row-major and lie where the inputs did.
    return (
        runs_on(x_query)
        and head_size <= BLOCK
        and x_query.is_contiguous()
        and (x_key is None or x_key.is_contiguous())
    )


@rotary.rotary_embedding.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_rotary_embedding,
    inplace=True,
    depends_on=(sys.modules[__name__], triton),
)
def rotary_embedding(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> tuple[Tensor, Tensor]:
    _rotary_(positions, x_query, head_size, cos_sin_cache, is_neox)
    if x_key is None:
        return x_query, x_query.new_empty(0)
    _rotary_(positions, x_key, head_size, cos_sin_cache, is_neox)
    return x_query, x_key
