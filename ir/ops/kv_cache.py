"""Keys and values of tokens, kept in blocks: a paged cache for each layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.validation import check_device, differ
from ir.state import ir_state

KV_CACHE = "kv_cache"
CACHE_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def _unconfigured() -> Tensor:
    raise InputError(KV_CACHE, "its shape", "not known", "configure_kv_cache(...) before its use")


ir_state.register_type(KV_CACHE, _unconfigured, per=("layer",))


def configure_kv_cache(
    *,
    num_blocks: int,
    block_size: int,
    kv_heads: int,
    head_size: int,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
) -> None:
    """Say what the cache of a layer is; those of before are dropped.

    State `kv_cache`, by the scope key layer: (2, num_blocks, block_size, kv_heads, head_size),
    keys before values, zeros at first. Slot s of the cache is token s % block_size of block
    s // block_size. Raises InputError, SealedError.
    """
    shape = (2, num_blocks, block_size, kv_heads, head_size)
    if min(shape) < 1:
        raise InputError(KV_CACHE, "shape", shape, "sizes of at least 1")
    if dtype not in CACHE_DTYPES:
        raise InputError(KV_CACHE, "dtype", dtype, "float32, float16 or bfloat16")

    def create() -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    ir_state.register_type(KV_CACHE, create, per=("layer",), replace=True)


def check_cached(op: str, name: str, t: Tensor, cache: Tensor) -> None:
    """Refuse rows of heads that the cache of the layer cannot hold. Raises InputError."""
    if t.dtype is not cache.dtype:
        raise InputError(op, f"{name}.dtype", t.dtype, f"{cache.dtype}, as the cache")
    check_device(op, name, t, cache)
    if t.dim() != 3 or t.shape[2] != cache.shape[4]:
        accepted = f"(tokens, heads, {cache.shape[4]})"
        raise InputError(op, f"{name}.shape", tuple(t.shape), accepted)


@register_op(activations=[], token_args=["key", "value", "slot_mapping"], state=(KV_CACHE,))
def reshape_and_cache(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    """Write the keys and values of tokens to their slots in the cache of the layer.

    key, value: (tokens, kv_heads, head_size) of the cache's dtype. slot_mapping: (tokens,), int64
    or int32: the slot of each token, each slot at most once; a token with a negative slot is
    written nowhere. Returns how many were written, int64 (): what must come after the write may
    depend on it. Raises InputError.
    """
    cache = ir_state.get(KV_CACHE)
    real = slot_mapping >= 0
    # Tokens without a slot repeat a token that has one: every write to a slot is then the same.
    first = torch.cat([real, real.new_zeros(1)]).to(torch.int32).argmax()
    place = torch.arange(real.shape[0], device=key.device)
    source = torch.where(real, place, first)
    written = real.sum()
    target = torch.where(written > 0, slot_mapping[source], 0).to(torch.int64)
    for kept, rows in ((cache[0], key), (cache[1], value)):
        slots = kept.view(-1, *kept.shape[2:])
        slots.index_copy_(0, target, torch.where(written > 0, rows[source], slots[:1]))
    return written


@reshape_and_cache.register_validation
def _check_reshape_and_cache(key: Tensor, value: Tensor, slot_mapping: Tensor) -> None:
    op = "reshape_and_cache"
    cache = ir_state.get(KV_CACHE)
    for name, t in (("key", key), ("value", value)):
        check_cached(op, name, t, cache)
        if t.shape[1] != cache.shape[3]:
            accepted = f"(tokens, {cache.shape[3]}, {cache.shape[4]})"
            raise InputError(op, f"{name}.shape", tuple(t.shape), accepted)
    check_index(op, "slot_mapping", slot_mapping, 1, key)
    for name, t in (("value", value), ("slot_mapping", slot_mapping)):
        if differ(t.shape[0], key.shape[0]):
            accepted = f"as many tokens as key, {key.shape[0]}"
            raise InputError(op, f"{name}.shape", tuple(t.shape), accepted)


def check_index(op: str, name: str, t: Tensor, rank: int, like: Tensor) -> None:
    """Refuse a tensor that is not int32 or int64 of a rank, beside `like`. Raises InputError."""
    if t.dtype not in (torch.int32, torch.int64):
        raise InputError(op, f"{name}.dtype", t.dtype, "int32 or int64")
    if t.dim() != rank:
        raise InputError(op, f"{name}.dim()", t.dim(), str(rank))
    check_device(op, name, t, like)


@reshape_and_cache.register_fake
def fake_reshape_and_cache(key: Tensor, value: Tensor, slot_mapping: Tensor) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=key.device)
