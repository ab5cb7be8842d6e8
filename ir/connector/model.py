"""A paged-attention model of a few layers, small enough to read, cut where its attention is.

Each row is one query token with its own position, slot and block table, so that prefill and
decode are the same rows. Block 0 is the null block: rows that pad a batch read it and, with slot
-1, write nothing. Slot = block * block size + offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ir import ops

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Sizes of a `PagedModel`; `blocks` counts the null block."""

    vocabulary: int = 64
    hidden: int = 32
    heads: int = 4
    layers: int = 3
    blocks: int = 16
    block_size: int = 4
    blocks_per_request: int = 4

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    @property
    def longest(self) -> int:
        """Tokens of a request at most."""
        return self.blocks_per_request * self.block_size


class PagedModel(nn.Module):
    """Pieces 0 to `layers`, with an attention between each and the next.

    Piece 0 gives the residual stream and q, k, v of layer 0, piece i those of layer i, the last
    one logits. Weights follow from `seed`.
    """

    def __init__(self, size: ModelSize, *, dtype: torch.dtype = torch.float32, seed: int = 0):
        super().__init__()
        self.size = size
        generator = torch.Generator().manual_seed(seed)

        def weight(*shape: int) -> nn.Parameter:
            w = torch.randn(*shape, generator=generator) / math.sqrt(shape[0])
            return nn.Parameter(w.to(dtype), requires_grad=False)

        h, n = size.hidden, size.layers
        self.embedding = weight(size.vocabulary, h)
        self.qkv = nn.ParameterList([weight(h, 3 * h) for _ in range(n)])
        self.out = nn.ParameterList([weight(h, h) for _ in range(n)])
        self.gate_up = nn.ParameterList([weight(h, 4 * h) for _ in range(n)])
        self.down = nn.ParameterList([weight(2 * h, h) for _ in range(n)])
        self.norm = nn.Parameter(torch.ones(h, dtype=dtype), requires_grad=False)
        shape = (2, size.blocks, size.block_size, size.heads, size.head_size)
        self.caches = {f"layer.{i}": torch.zeros(shape, dtype=dtype) for i in range(n)}
        rates = 1 / 10 ** torch.linspace(0, 2, size.head_size // 2)
        angles = torch.arange(float(size.longest))[:, None] * rates
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        # Offsets within a block, of one request's positions, made once: graphs own no factories.
        self.offsets = torch.arange(size.block_size)
        self.positions = torch.arange(size.longest)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.caches)

    def _rotated(self, x: Tensor, position: Tensor) -> Tensor:
        cos, sin = self.cos[position][:, None], self.sin[position][:, None]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def _projected(self, i: int, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed = ops.rms_norm(x, self.norm, 1e-6)
        shape = (x.shape[0], 3, self.size.heads, self.size.head_size)
        q, k, v = (normed @ self.qkv[i]).view(shape).unbind(1)
        return self._rotated(q, position), self._rotated(k, position), v.clone()

    def first(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """(rows,) tokens and positions -> residual stream (rows, hidden); q, k, v of layer 0."""
        x = self.embedding[tokens]
        return x, *self._projected(0, x, position)

    def after(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of layer i after its attention: residual stream (rows, hidden)."""
        x = x + attended @ self.out[i]
        gate_up = ops.rms_norm(x, self.norm, 1e-6) @ self.gate_up[i]
        return x + ops.silu_and_mul(gate_up) @ self.down[i]

    def middle(self, i: int, x: Tensor, attended: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        """From the attention of layer i - 1 to that of layer i."""
        x = self.after(i - 1, x, attended)
        return x, *self._projected(i, x, position)

    def last(self, x: Tensor, attended: Tensor) -> Tensor:
        """Logits (rows, vocabulary)."""
        x = self.after(self.size.layers - 1, x, attended)
        return ops.rms_norm(x, self.norm, 1e-6) @ self.embedding.t()

    def attend(
        self, i: int, qkv: tuple[Tensor, ...], position: Tensor, slot: Tensor, table: Tensor
    ) -> Tensor:
        """Write k and v at `slot`, then attend to positions 0 to `position` of each row's table.

        table: (rows, blocks per request). Returns (rows, hidden).
        """
        q, k, v = qkv
        cache = self.caches[f"layer.{i}"].flatten(1, 2)
        at, real = slot.clamp(min=0), (slot >= 0)[:, None, None]
        for half, new in ((cache[0], k), (cache[1], v)):
            half.index_put_((at,), torch.where(real, new, half[at]))
        slots = (table[:, :, None] * self.size.block_size + self.offsets).flatten(1)
        keys, values = (half[slots].transpose(1, 2) for half in (cache[0], cache[1]))
        seen = (self.positions[None] <= position[:, None])[:, None, None]
        # Rows behind a query's position may hold anything, NaN included, which a mask of -inf
        # would let through values.
        values = torch.where(seen.transpose(2, 3), values, torch.zeros_like(values))
        keys = torch.where(seen.transpose(2, 3), keys, torch.zeros_like(keys))
        return self.mixed(q, keys, values, seen)

    def mixed(self, q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
        """Attention of each row: (rows, hidden).

        q: (rows, heads, head size); keys, values: (rows, heads, positions, head size), zeros
        where `seen` (rows, 1, 1, positions) is false.
        """
        a = nn.functional.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=seen)
        return a.reshape(q.shape[0], -1)
