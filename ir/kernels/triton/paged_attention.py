"""Attention of one token over the paged cache: a sequence in parts, whose results are combined.

FlashDecoding: one program a sequence, key head and part keeps a running maximum and sum, for all
heads that share the key head, over blocks of positions; a second kernel weights the parts by
exp(maximum - largest maximum). The parts meet in the workspace. All arithmetic is float32, element
by element: products of float32 matrices would be rounded to TF32 on some GPUs.
"""

from __future__ import annotations

import sys

import torch
import triton
import triton.language as tl
from torch import Tensor

from ir.kernels.triton import arithmetic
from ir.kernels.triton.arithmetic import divide, exp
from ir.kernels.triton.launch import (
    BLOCK,
    launch,
    opaque,
    power_of_two,
    runs_on,
    warps,
    why_unavailable,
)
from ir.ops import paged_attention
from ir.ops.kv_cache import KV_CACHE
from ir.ops.paged_attention import SPLITS, WORKSPACE, fake_paged_decode_attention, workspace_numel
from ir.state import ir_state

# Positions that a program looks at together, at most.
_POSITIONS = 64


@triton.jit
def _weight(x, largest):
    """exp(x - largest), and 0 where x is -inf: nothing was there."""
    return tl.where(x == float("-inf"), 0.0, exp(x - tl.where(x == float("-inf"), 0.0, largest)))


@triton.jit(do_not_specialize=["qs0", "bs0", "bs1", "ls", "num_blocks"])
def _part_kernel(
    query, keys, values, block_tables, seq_lens, room, qs0, qs1, qs2, bs0, bs1, ls,
    num_blocks, block_size, heads, kv_heads, head_size, softmax_scale,
    PARTS: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2).to(tl.int64)
    group = heads // kv_heads
    g = tl.arange(0, BLOCK_G)
    head = kv_head * group + g
    d = tl.arange(0, BLOCK_D)
    in_head = d < head_size
    of_group = (g < group)[:, None] & in_head[None, :]
    place = query + sequence * qs0 + head[:, None] * qs1 + d[None, :] * qs2
    q = tl.load(place, mask=of_group, other=0.0).to(tl.float32)
    factor = tl.full((), softmax_scale, tl.float32)
    length = tl.load(seq_lens + sequence * ls).to(tl.int64)
    span = (length + PARTS - 1) // PARTS
    stop = tl.minimum((part + 1) * span, length)
    largest = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    summed = tl.zeros((BLOCK_G, BLOCK_D), tl.float32)
    # No `for`: the interpreter of Triton 3.6 makes no Python range of tensors.
    start = part * span
    while start < stop:
        position = start + tl.arange(0, BLOCK_N)
        live = position < stop
        table = block_tables + sequence * bs0 + position // block_size * bs1
        block = tl.load(table, mask=live, other=0).to(tl.int64)
        # A block that the cache does not have is the caller's fault, and no reason to read beyond.
        held = live & (block >= 0) & (block < num_blocks)
        row = ((block * block_size + position % block_size) * kv_heads + kv_head) * head_size
        mask = held[:, None] & in_head[None, :]
        k = tl.load(keys + row[:, None] + d[None, :], mask=mask, other=0.0).to(tl.float32)
        logits = tl.sum(q[:, None, :] * k[None, :, :], axis=2) * factor
        logits = tl.where(live[None, :], logits, float("-inf"))
        # tl.max drops a NaN, which stays in its own weight and so in the sums.
        now = tl.maximum(largest, tl.max(logits, axis=1))
        weights = _weight(logits, now[:, None])
        before = _weight(largest, now)
        v = tl.load(values + row[:, None] + d[None, :], mask=mask, other=0.0).to(tl.float32)
        total = total * before + tl.sum(weights, axis=1)
        met = tl.sum(weights[:, :, None] * v[None, :, :], axis=1)
        summed = summed * before[:, None] + met
        largest = now
        start += BLOCK_N
    row = room + ((part * tl.num_programs(0) + sequence) * heads + head) * (head_size + 2)
    tl.store(row[:, None] + d[None, :], summed, mask=of_group)
    tl.store(row + head_size, largest, mask=g < group)
    tl.store(row + head_size + 1, total, mask=g < group)


@triton.jit(do_not_specialize=["ls"])
def _combine_kernel(
    room, out, seq_lens, ls, heads, head_size,
    PARTS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    in_head = d < head_size
    part = tl.arange(0, BLOCK_P).to(tl.int64)
    present = part < PARTS
    row = room + ((part * tl.num_programs(0) + sequence) * heads + head) * (head_size + 2)
    maxima = tl.load(row + head_size, mask=present, other=float("-inf"))
    factors = _weight(maxima, tl.max(maxima, axis=0))
    totals = tl.load(row + head_size + 1, mask=present, other=0.0)
    total = tl.sum(totals * factors, axis=0)
    mask = present[:, None] & in_head[None, :]
    sums = tl.load(row[:, None] + d[None, :], mask=mask, other=0.0)
    summed = tl.sum(sums * factors[:, None], axis=0)
    result = divide(summed, tl.zeros((BLOCK_D,), tl.float32) + total)
    # No token at all. Of tokens whose logits are all -inf the total is 0, too, and 0 / 0 right.
    result = tl.where(tl.load(seq_lens + sequence * ls) == 0, 0.0, result)
    target = out + (sequence * heads + head) * head_size + d
    tl.store(target, result.to(out.dtype.element_ty), mask=in_head)


def _fake_attend(
    query: Tensor, cache: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float, room: Tensor
) -> Tensor:
    return fake_paged_decode_attention(query, block_tables, seq_lens, scale)


@opaque(_fake_attend, mutates=("room",))
def _attend_(
    query: Tensor, cache: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float, room: Tensor
) -> Tensor:
    sequences, heads, head_size = query.shape
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    _, num_blocks, block_size, kv_heads, _ = cache.shape
    block_d = power_of_two(head_size)
    block_g = power_of_two(heads // kv_heads)
    block_n = max(min(_POSITIONS, BLOCK // (block_g * block_d)), 1)
    launch(
        _part_kernel, (sequences, kv_heads, SPLITS), query.device,
        query, cache[0], cache[1], block_tables, seq_lens, room,
        *query.stride(), *block_tables.stride(), seq_lens.stride(0),
        num_blocks, block_size, heads, kv_heads, head_size, scale,
        PARTS=SPLITS, BLOCK_G=block_g, BLOCK_N=block_n, BLOCK_D=block_d,
        num_warps=warps(block_g * block_n * block_d),
    )  # fmt: skip
    launch(
        _combine_kernel, (sequences, heads), query.device,
        room, out, seq_lens, seq_lens.stride(0), heads, head_size,
        PARTS=SPLITS, BLOCK_P=power_of_two(SPLITS), BLOCK_D=block_d,
        num_warps=warps(power_of_two(SPLITS) * block_d),
    )  # fmt: skip
    return out


def _supports_paged_decode_attention(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> bool:
    return (
        runs_on(query)
        and query.shape[2] <= BLOCK
        and ir_state.get(KV_CACHE).is_contiguous()
        and paged_attention.has_room(query)
    )


@paged_attention.paged_decode_attention.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_paged_decode_attention,
    depends_on=(sys.modules[__name__], arithmetic, triton),
    state=(KV_CACHE, WORKSPACE),
)
def paged_decode_attention(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> Tensor:
    room = ir_state.get(WORKSPACE)[: workspace_numel(*query.shape)]
    return _attend_(query, ir_state.get(KV_CACHE), block_tables, seq_lens, scale, room)
