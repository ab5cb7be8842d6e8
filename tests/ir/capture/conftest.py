"""What the tests capture: a small decoder layer with a KV cache, and memory that shows its use."""

import ctypes
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn


class DecoderLayer(nn.Module):
    """rms, matmul, rope, KV write by slot, gather by block table, masked attention, silu MLP.

    Rows are single query tokens. Slot -1 writes nothing; block 0 is the null block.
    """

    kv: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, dtype: torch.dtype, hidden: int = 32, heads: int = 4, blocks: int = 6):
        super().__init__()
        g = torch.Generator().manual_seed(11)

        def weight(*shape: int) -> nn.Parameter:
            w = torch.randn(*shape, generator=g) / math.sqrt(shape[0])
            return nn.Parameter(w.to(dtype), requires_grad=False)

        self.heads, self.size, self.block = heads, hidden // heads, 4
        self.norm, self.qkv = weight(hidden), weight(hidden, 3 * hidden)
        self.out, self.gate_up = weight(hidden, hidden), weight(hidden, 4 * hidden)
        self.down = weight(2 * hidden, hidden)
        cache = torch.zeros(2, blocks * self.block, heads, self.size, dtype=dtype)
        self.register_buffer("kv", cache, persistent=False)
        angles = torch.arange(64.0)[:, None] / 10 ** torch.linspace(0, 2, self.size // 2)
        self.register_buffer("cos", angles.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angles.sin().to(dtype), persistent=False)
        self.steps = torch.zeros(1, dtype=torch.int64)

    def _rms(self, x: Tensor) -> Tensor:
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.norm

    def _rope(self, x: Tensor, position: Tensor) -> Tensor:
        cos, sin = self.cos[position][:, None], self.sin[position][:, None]
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def forward(self, x: Tensor, position: Tensor, slot: Tensor, table: Tensor) -> Tensor:
        n = x.shape[0]
        q, k, v = (self._rms(x) @ self.qkv).view(n, 3, self.heads, self.size).unbind(1)
        q, k = self._rope(q, position), self._rope(k, position)
        # Slot -1: what the null block holds is written back to it.
        at, real = slot.clamp(min=0), (slot >= 0)[:, None, None]
        for cache, new in ((self.kv[0], k), (self.kv[1], v)):
            cache.index_put_((at,), torch.where(real, new, cache[at]))
        slots = (
            table[:, :, None] * self.block + torch.arange(self.block, device=x.device)
        ).flatten(1)
        seen = torch.arange(slots.shape[1], device=x.device)[None] <= position[:, None]
        keys, values = (self.kv[i][slots].transpose(1, 2) for i in (0, 1))
        a = nn.functional.scaled_dot_product_attention(
            q[:, :, None], keys, values, attn_mask=seen[:, None, None]
        )
        x = x + a.reshape(n, -1) @ self.out
        gate, up = (self._rms(x) @ self.gate_up).chunk(2, dim=-1)
        self.steps.add_(1)
        return x + (nn.functional.silu(gate) * up) @ self.down


def batch(step: int, n: int, dtype: torch.dtype, hidden: int = 32) -> tuple[Tensor, ...]:
    """Inputs of one step: row i decodes position step in block i + 1."""
    x = torch.randn(n, hidden, generator=torch.Generator().manual_seed(step)).to(dtype)
    position = torch.full((n,), step)
    slot = (torch.arange(n) + 1) * 4 + step
    return x, position, slot, (torch.arange(n) + 1)[:, None]


@pytest.fixture
def decoder() -> type[DecoderLayer]:
    return DecoderLayer


@pytest.fixture
def step_inputs():
    return batch


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def poisoned_fresh_memory() -> Iterator[None]:
    """What malloc hands out, and what is freed, holds 0x5A (mallopt(3), M_PERTURB)."""
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    mallopt(-6, 0x5A ^ 0xFF)
    yield
    mallopt(-6, 0)
