"""Attention of one new token per sequence over the paged cache of the layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.kv_cache import KV_CACHE, check_cached, check_index
from ir.ops.validation import differ
from ir.state import IrContext, ir_state

WORKSPACE = "attention_workspace"
SPLITS = 4


def _workspace() -> Tensor:
    # Enough for nothing: whoever wants the work of a sequence split reserves room for it.
    return torch.zeros(0, dtype=torch.float32, device=IrContext.get_scope("device"))


ir_state.register_type(WORKSPACE, _workspace, per=("device",))


def workspace_numel(tokens: int, heads: int, head_size: int) -> int:
    """float32 numbers that `split_k` needs: a partial output, maximum and sum for each split."""
    return SPLITS * tokens * heads * (head_size + 2)


def reserve_workspace(*, tokens: int, heads: int, head_size: int) -> None:
    """Grow the workspace of the device in scope to what so many sequences need.

    Before a graph is captured: afterwards it raises SealedError where it would have to grow.
    """
    ir_state.grow(WORKSPACE, workspace_numel(tokens, heads, head_size))


@register_op(activations=[], token_args=["query", "block_tables", "seq_lens"], state=(KV_CACHE,))
def paged_decode_attention(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> Tensor:
    """softmax(scale * query . keys) . values over the first tokens of each sequence.

    query: (sequences, heads, head_size) of the cache's dtype; heads is a multiple of the cache's
    kv_heads, and consecutive heads share one. block_tables: (sequences, blocks), int32 or int64:
    the blocks of a sequence in order; entries beyond its length are not read. seq_lens:
    (sequences,), int32 or int64: how many tokens of it count; 0 gives zeros, and a NaN among them
    stays, as does that of a softmax whose largest logit is infinite. Computed in float32, rounded
    once. Returns query's shape, row-major. Raises InputError.
    """
    keys, values, live = _gathered(query, block_tables, seq_lens)
    logits = _logits(query, keys, live, scale)
    # The softmax over no token is NaN, and so is that over a NaN, which stays.
    some = live.any(-1)[:, None, None, None]
    weights = torch.where(some, torch.softmax(logits, dim=-1), 0.0)
    return _weighted(weights, values).to(query.dtype)


def _gathered(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values as float32 (sequences, kv_heads, positions, head_size), and which count."""
    cache = ir_state.get(KV_CACHE)
    block_size = cache.shape[2]
    positions = torch.arange(block_tables.shape[1] * block_size, device=query.device)
    live = positions[None, :] < seq_lens[:, None]
    # What lies beyond a sequence is no block number, and what is there may be anything.
    held = live.unflatten(1, (block_tables.shape[1], block_size)).any(-1)
    blocks = torch.where(held, block_tables, 0).to(torch.int64)
    found: list[Tensor] = []
    for kept in (cache[0], cache[1]):
        rows = kept[blocks].flatten(1, 2).to(torch.float32)
        rows = torch.where(live[:, :, None, None], rows, 0.0)
        found.append(rows.permute(0, 2, 1, 3))
    return found[0], found[1], live


def _logits(query: Tensor, keys: Tensor, live: Tensor, scale: float) -> Tensor:
    """(sequences, kv_heads, heads of each, positions); -inf where a position does not count."""
    grouped = query.to(torch.float32).unflatten(1, (keys.shape[1], query.shape[1] // keys.shape[1]))
    logits = torch.matmul(grouped, keys.transpose(-1, -2)) * scale
    return logits.masked_fill(~live[:, None, None, :], float("-inf"))


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    return torch.matmul(weights, values).flatten(1, 2).contiguous()


@paged_decode_attention.register_validation
def _check_paged_decode_attention(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> None:
    op = "paged_decode_attention"
    cache = ir_state.get(KV_CACHE)
    check_cached(op, "query", query, cache)
    heads, kv_heads = query.shape[1], cache.shape[3]
    if heads < kv_heads or heads % kv_heads:
        raise InputError(op, "heads of query", heads, f"a multiple of the cache's {kv_heads}")
    check_index(op, "block_tables", block_tables, 2, query)
    check_index(op, "seq_lens", seq_lens, 1, query)
    for name, t in (("block_tables", block_tables), ("seq_lens", seq_lens)):
        if differ(t.shape[0], query.shape[0]):
            accepted = f"as many sequences as query, {query.shape[0]}"
            raise InputError(op, f"{name}.shape", tuple(t.shape), accepted)
    if block_tables.shape[1] < 1:
        raise InputError(op, "block_tables.shape", tuple(block_tables.shape), "one block or more")
    if not 0.0 < scale < float("inf"):
        raise InputError(op, "scale", scale, "a finite number above 0")


@paged_decode_attention.register_fake
def fake_paged_decode_attention(
    query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float
) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)


def has_room(query: Tensor) -> bool:
    """Whether the workspace of the device holds the parts of so many sequences."""
    needed = workspace_numel(query.shape[0], query.shape[1], query.shape[2])
    room = ir_state.get(WORKSPACE)
    return room.device == query.device and bool(needed <= room.numel())


def _supports_split_k(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> bool:
    return has_room(query)


@paged_decode_attention.register_impl(
    "split_k", supports_args=_supports_split_k, state=(KV_CACHE, WORKSPACE)
)
def split_k(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    """Each sequence in 4 parts, whose results meet in the workspace.

    The combination is that of FlashDecoding: parts are weighted by exp(max - largest max).
    """
    keys, values, live = _gathered(query, block_tables, seq_lens)
    n, heads, size = query.shape
    room = ir_state.get(WORKSPACE)[: workspace_numel(n, heads, size)]
    room = room.view(SPLITS, n, heads, size + 2)
    length = -(-live.shape[1] // SPLITS)
    for part in range(SPLITS):
        span = slice(part * length, min((part + 1) * length, live.shape[1]))
        logits = _logits(query, keys[:, :, span], live[:, span], scale)
        room[part, ..., size : size + 1] = _largest(logits).flatten(1, 2)
        weights = torch.exp(logits - _shift(_largest(logits)))
        room[part, ..., size + 1 :] = weights.sum(-1, keepdim=True).flatten(1, 2)
        room[part, ..., :size] = _weighted(weights, values[:, :, span])
    largest = room[..., size : size + 1]
    factor = torch.exp(largest - _shift(largest.amax(0)))
    total = (room[..., size + 1 :] * factor).sum(0)
    summed = (room[..., :size] * factor).sum(0)
    # No token at all. Of tokens whose logits are all -inf the total is 0, too, and 0 / 0 right.
    none = (seq_lens == 0)[:, None, None]
    return torch.where(none, 0.0, summed / total).to(query.dtype)


def _shift(largest: Tensor) -> Tensor:
    """What to subtract from logits: their largest, and 0 where there are none."""
    return largest.masked_fill(largest == float("-inf"), 0.0)


def _largest(logits: Tensor) -> Tensor:
    if logits.shape[-1] == 0:
        return logits.new_full((*logits.shape[:-1], 1), float("-inf"))
    return logits.amax(-1, keepdim=True)
