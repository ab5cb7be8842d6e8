"""Faults in ops that keep state: the paged cache, attention over it, a history of maxima.

slot_zero    a token without a slot is written to slot 0 (vllm#38719)
from_the_end a negative slot counts from the end, as an index of Python does (vllm#13418)
values_first keys lie where values belong (vllm#20189)
one_more     the first row beyond the length counts (TensorRT-LLM#13278)
modulo       heads share key heads in turns instead of in neighbours (sglang#23744)
weighs_all   rows beyond the length are weighed with 0, and a NaN among them shows (vllm#36939)
pads_the_end attention clears the first row beyond the length in the cache itself (vllm#13922)
drops_nan    a NaN among the weights counts as 0 (torch.nan_to_num around the softmax)
no_rescale   sums over the first rows stay as they are where a later row has a larger logit
at_once      the maximum of a call decides its own scale
forgets      the maximum of a call is written to a copy of the history (pytorch#144386)
not_yet_full the scale is 1 until the history is full: its least entry is asked whether there is one

Without MUTANT_FAULTS=1 each provider is right.
"""

import os

import torch
from torch import Tensor

from ir import ir_state
from ir.ops import paged_decode_attention, quant_fp8_delayed, reshape_and_cache

FAULT = os.environ.get("MUTANT_FAULTS") == "1"
CACHE, HISTORY = ("kv_cache",), ("fp8_amax_history",)
STEP = 64


def written(key: Tensor, value: Tensor, slots: Tensor) -> Tensor:
    cache = ir_state.get("kv_cache")
    size = cache.shape[1] * cache.shape[2]
    for token, slot in enumerate(slots.tolist()):
        if -size <= slot and (slot >= 0 or FAULT):
            cache[0].flatten(0, 1)[slot] = key[token]
            cache[1].flatten(0, 1)[slot] = value[token]
    return (slots >= 0).sum()


@reshape_and_cache.register_impl("slot_zero", state=CACHE)
def slot_zero(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    if not FAULT:
        return written(key, value, slot_mapping)
    written(key, value, slot_mapping.clamp(min=0))
    return (slot_mapping >= 0).sum()


@reshape_and_cache.register_impl("from_the_end", state=CACHE)
def from_the_end(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    return written(key, value, slot_mapping)


@reshape_and_cache.register_impl("values_first", state=CACHE)
def values_first(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    chosen = torch.where(slot_mapping < 0, -(2**31), slot_mapping.long())
    return written(value, key, chosen) if FAULT else written(key, value, chosen)


def attended(
    query: Tensor, tables: Tensor, lengths: Tensor, scale: float, *, shared: list[int],
    more: int = 0, rows: int = 0, drops_nan: bool = False,
) -> Tensor:  # fmt: skip
    """`shared`: the key head of each head. `more`: rows that count beyond the length. `rows`: how
    many are weighed at least, those beyond the length with 0. `drops_nan`: of the weights."""
    cache = ir_state.get("kv_cache")
    found = torch.zeros(query.shape)
    for i, length in enumerate(lengths.tolist()):
        held = tables[i].long().clamp(0, cache.shape[1] - 1)
        keys, values = cache[:, held].flatten(1, 2).float()[:, : max(length + more, rows)]
        count = min(length + more, len(keys))
        if length == 0:
            continue
        for head, kv in enumerate(shared):
            logits = keys[:count, kv] @ query[i, head].float() * scale
            weights = torch.zeros(len(keys))
            weights[:count] = torch.softmax(logits, 0)
            weights = weights.nan_to_num() if drops_nan else weights
            found[i, head] = weights @ values[:, kv]
    return found.to(query.dtype)


def neighbours(query: Tensor) -> list[int]:
    heads, kv_heads = query.shape[1], ir_state.get("kv_cache").shape[3]
    return [head * kv_heads // heads for head in range(heads)]


@paged_decode_attention.register_impl("one_more", state=CACHE)
def one_more(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    shared = neighbours(query)
    return attended(query, block_tables, seq_lens, scale, shared=shared, more=int(FAULT))


@paged_decode_attention.register_impl("modulo", state=CACHE)
def modulo(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    kv_heads = ir_state.get("kv_cache").shape[3]
    turns = [head % kv_heads for head in range(query.shape[1])]
    shared = turns if FAULT else neighbours(query)
    return attended(query, block_tables, seq_lens, scale, shared=shared)


@paged_decode_attention.register_impl("weighs_all", state=CACHE)
def weighs_all(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    rows = block_tables.shape[1] * ir_state.get("kv_cache").shape[2] if FAULT else 0
    shared = neighbours(query)
    return attended(query, block_tables, seq_lens, scale, shared=shared, rows=rows)


@paged_decode_attention.register_impl("pads_the_end", state=CACHE)
def pads_the_end(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    cache = ir_state.get("kv_cache")
    found = attended(query, block_tables, seq_lens, scale, shared=neighbours(query))
    for table, length in zip(block_tables.tolist(), seq_lens.tolist(), strict=True):
        if FAULT and length % cache.shape[2]:
            cache[:, table[length // cache.shape[2]], length % cache.shape[2]] = 0
    return found


@paged_decode_attention.register_impl("drops_nan", state=CACHE)
def drops_nan(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    shared = neighbours(query)
    return attended(query, block_tables, seq_lens, scale, shared=shared, drops_nan=FAULT)


@paged_decode_attention.register_impl("no_rescale", state=CACHE)
def no_rescale(query: Tensor, block_tables: Tensor, seq_lens: Tensor, scale: float) -> Tensor:
    """With a running maximum, over as many rows at once as the Triton kernel looks at."""
    cache = ir_state.get("kv_cache")
    found = torch.zeros(query.shape)
    for i, length in enumerate(seq_lens.tolist()):
        held = block_tables[i].long().clamp(0, cache.shape[1] - 1)
        keys, values = cache[:, held].flatten(1, 2).float()[:, :length]
        for head, kv in enumerate(neighbours(query)):
            largest, total = torch.full((), -torch.inf), torch.zeros(())
            for start in range(0, length, STEP):
                logits = keys[start : start + STEP, kv] @ query[i, head].float() * scale
                now = torch.maximum(largest, logits.amax())
                before = torch.exp(largest - now) if start and not FAULT else torch.ones(())
                weights = torch.exp(logits - now)
                total = total * before + weights.sum()
                met = weights @ values[start : start + STEP, kv]
                found[i, head] = found[i, head] * before + met
                largest = now
            if length:
                found[i, head] /= total
    return found.to(query.dtype)


def quantized(
    x: Tensor, *, at_once: bool = False, forgets: bool = False, not_yet_full: bool = False
) -> tuple[Tensor, Tensor]:
    held = ir_state.get("fp8_amax_history")
    history, place = (t.clone() for t in held.values()) if forgets else held.values()
    own = x.float().abs().amax() if x.numel() else torch.zeros(())
    counts = bool(own.isfinite() and own > 0)
    largest = torch.maximum(history.amax(), own) if at_once and counts else history.amax()
    present = history.amin() if not_yet_full else largest
    scale = ((largest.double() / 448).float() if present > 0 else torch.ones(())).reshape(1)
    if counts:
        history[place] = own
        place.copy_((place + 1) % len(history))
    y = (x.float() / scale).clamp(-448, 448).contiguous().to(torch.float8_e4m3fn)
    return y, scale


@quant_fp8_delayed.register_impl("at_once", state=HISTORY)
def at_once(x: Tensor) -> tuple[Tensor, Tensor]:
    return quantized(x, at_once=FAULT)


@quant_fp8_delayed.register_impl("forgets", state=HISTORY)
def forgets(x: Tensor) -> tuple[Tensor, Tensor]:
    return quantized(x, forgets=FAULT)


@quant_fp8_delayed.register_impl("not_yet_full", state=HISTORY)
def not_yet_full(x: Tensor) -> tuple[Tensor, Tensor]:
    return quantized(x, not_yet_full=FAULT)
