"""Writes to the paged cache: one program a token and block of its row, keys and values alike."""

from __future__ import annotations

import sys

import torch
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
from ir.ops import kv_cache
from ir.ops.kv_cache import KV_CACHE
from ir.state import ir_state

# Integers as wide as an element: bits are copied, so that a NaN keeps its own.
_BITS = {2: torch.int16, 4: torch.int32}


@triton.jit(do_not_specialize=["ks0", "vs0", "ss", "slots"])
def _write_kernel(
    key, value, slot_mapping, keys, values, ks0, ks1, ks2, vs0, vs1, vs2, ss, slots,
    head_size, width, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    head = columns // head_size
    element = columns % head_size
    slot = tl.load(slot_mapping + token * ss).to(tl.int64)
    # A slot that the cache does not have is the caller's fault, and no reason to write elsewhere.
    mask = (columns < width) & (slot >= 0) & (slot < slots)
    k = tl.load(key + token * ks0 + head * ks1 + element * ks2, mask=mask, other=0)
    v = tl.load(value + token * vs0 + head * vs1 + element * vs2, mask=mask, other=0)
    tl.store(keys + slot * width + columns, k, mask=mask)
    tl.store(values + slot * width + columns, v, mask=mask)


def _fake_write(key: Tensor, value: Tensor, slot_mapping: Tensor, cache: Tensor) -> None:
    return None


@opaque(_fake_write, mutates=("cache",))
def _write_(key: Tensor, value: Tensor, slot_mapping: Tensor, cache: Tensor) -> None:
    tokens, heads, head_size = key.shape
    width = heads * head_size
    kind = _BITS[key.element_size()]
    bits = cache.view(kind)
    block = min(power_of_two(width), BLOCK)
    launch(
        _write_kernel, (tokens, blocks(width, block)), key.device,
        key.view(kind), value.view(kind), slot_mapping, bits[0], bits[1],
        *key.stride(), *value.stride(), slot_mapping.stride(0), cache.shape[1] * cache.shape[2],
        head_size, width, BLOCK=block, num_warps=warps(block),
    )  # fmt: skip


def _supports_reshape_and_cache(key: Tensor, value: Tensor, slot_mapping: Tensor) -> bool:
    return runs_on(key) and ir_state.get(KV_CACHE).is_contiguous()


@kv_cache.reshape_and_cache.register_impl(
    "triton",
    supported=why_unavailable() is None,
    supports_args=_supports_reshape_and_cache,
    depends_on=(sys.modules[__name__], triton),
    state=(KV_CACHE,),
)
def reshape_and_cache(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    _write_(key, value, slot_mapping, ir_state.get(KV_CACHE))
    return (slot_mapping >= 0).sum()
