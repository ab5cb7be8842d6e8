"""Rotary position embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.layout import empty_contiguous
from ir.ops.validation import check_activation, check_device, differ

_OP = "rotary_embedding"


def _rotate(
    x: Tensor, cos: Tensor, sin: Tensor, head_size: int, rotary_dim: int, is_neox: bool
) -> Tensor:
    heads = x.unflatten(-1, (x.shape[-1] // head_size, head_size)) if x.dim() == 2 else x
    if is_neox:
        x1, x2 = heads[..., : rotary_dim // 2], heads[..., rotary_dim // 2 : rotary_dim]
    else:
        x1, x2 = heads[..., 0:rotary_dim:2], heads[..., 1:rotary_dim:2]
    o1 = x1 * cos - x2 * sin
    o2 = x2 * cos + x1 * sin
    turned = torch.cat((o1, o2), -1) if is_neox else torch.stack((o1, o2), -1).flatten(-2)
    if rotary_dim < head_size:
        turned = torch.cat((turned, heads[..., rotary_dim:]), -1)
    # Neither cat nor stack promises a layout; the declared one is row-major.
    return turned.reshape(x.shape).contiguous()


@register_op(allow_inplace=True)
def rotary_embedding(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Turn pairs of elements of each head by the angle of their position (`rotary_embedding/1`).

    positions: (n,) int64, each in [0, max_position). x_query: (n, heads * head_size) or
    (n, heads, head_size), float32, float16 or bfloat16; x_key: the same with its own number of
    heads, or None. cos_sin_cache: (max_position, rotary_dim), x_query's dtype or float32, cosines
    before sines. is_neox: a pair is an element of the first and one of the second half of the
    first rotary_dim elements of a head; else two neighbours. rotary_dim: even, default head_size.
    Returns (query, key), row-major; key has shape (0,) where x_key is None. Raises InputError.
    Su et al., "RoFormer", 2021, eq. 34.
    """
    if rotary_dim is None:
        rotary_dim = head_size
    rows = cos_sin_cache.index_select(0, positions).to(x_query.dtype)
    # One more dimension for the heads, which share cosine and sine.
    cos, sin = rows[:, None, : rotary_dim // 2], rows[:, None, rotary_dim // 2 :]
    query = _rotate(x_query, cos, sin, head_size, rotary_dim, is_neox)
    if x_key is None:
        return query, x_query.new_empty(0)
    return query, _rotate(x_key, cos, sin, head_size, rotary_dim, is_neox)


def _check_heads(name: str, x: Tensor, head_size: int, positions: Tensor) -> None:
    if x.dim() == 3:
        if x.shape[-1] != head_size or x.shape[1] < 1:
            raise InputError(_OP, f"{name}.shape", tuple(x.shape), f"(n, heads, {head_size})")
    elif x.shape[-1] < head_size or x.shape[-1] % head_size:
        raise InputError(
            _OP, f"{name}.shape", tuple(x.shape), f"(n, heads * {head_size}), heads >= 1"
        )
    if differ(x.shape[0], positions.shape[0]):
        raise InputError(
            _OP, f"{name}.shape", tuple(x.shape), f"{positions.shape[0]} rows, as positions"
        )
    check_device(_OP, name, x, positions)


@rotary_embedding.register_validation
def _check_rotary_embedding(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> None:
    if positions.dtype is not torch.int64:
        raise InputError(_OP, "positions.dtype", positions.dtype, "int64")
    if positions.dim() != 1:
        raise InputError(_OP, "positions.shape", tuple(positions.shape), "(n,)")
    if head_size < 2 or head_size % 2:
        raise InputError(_OP, "head_size", head_size, "an even number of at least 2")
    if rotary_dim is None:
        rotary_dim = head_size
    elif rotary_dim % 2 or not 2 <= rotary_dim <= head_size:
        raise InputError(
            _OP, "rotary_dim", rotary_dim, f"None, or an even number, 2 to {head_size}"
        )
    check_activation(_OP, x_query, 3, name="x_query", least=2)
    _check_heads("x_query", x_query, head_size, positions)
    if x_key is not None:
        if x_key.dtype is not x_query.dtype:
            raise InputError(_OP, "x_key.dtype", x_key.dtype, f"{x_query.dtype}, as x_query")
        if x_key.dim() != x_query.dim():
            raise InputError(_OP, "x_key.dim()", x_key.dim(), f"{x_query.dim()}, as x_query")
        if x_key.shape[-1] < 1:
            raise InputError(_OP, "x_key.shape", tuple(x_key.shape), "at least one head")
        _check_heads("x_key", x_key, head_size, positions)
    if cos_sin_cache.dtype is not torch.float32 and cos_sin_cache.dtype is not x_query.dtype:
        raise InputError(
            _OP, "cos_sin_cache.dtype", cos_sin_cache.dtype, f"float32 or {x_query.dtype}"
        )
    shape = cos_sin_cache.shape
    if cos_sin_cache.dim() != 2 or shape[0] < 1 or shape[1] != rotary_dim:
        accepted = f"(max_position, {rotary_dim}), max_position >= 1"
        raise InputError(_OP, "cos_sin_cache.shape", tuple(shape), accepted)
    check_device(_OP, "cos_sin_cache", cos_sin_cache, x_query)


@rotary_embedding.register_fake
def fake_rotary_embedding(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> tuple[Tensor, Tensor]:
    key = x_query.new_empty(0) if x_key is None else empty_contiguous(x_key)
    return empty_contiguous(x_query), key


@rotary_embedding.register_input_generator
def _generate_rotary_embedding(
    num_tokens: int,
    num_heads: int,
    head_size: int,
    dtype: torch.dtype,
    num_kv_heads: int | None = None,
    rotary_dim: int | None = None,
    is_neox: bool = True,
    max_position: int = 4096,
    base: float = 10000.0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, Tensor, int, Tensor, bool, int | None]:
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    width = head_size if rotary_dim is None else rotary_dim
    powers = torch.arange(0, width, 2, dtype=torch.float32, device=device) / width
    turns = torch.arange(max_position, dtype=torch.float32, device=device)
    angles = torch.outer(turns, base**-powers)
    return (
        torch.randint(max_position, (num_tokens,), dtype=torch.int64, device=device),
        torch.randn(num_tokens, num_heads * head_size, dtype=dtype, device=device),
        torch.randn(num_tokens, kv_heads * head_size, dtype=dtype, device=device),
        head_size,
        torch.cat((angles.cos(), angles.sin()), -1).to(dtype),
        is_neox,
        rotary_dim,
    )
