"""A paged model whose weights lie in shards, a rank each, as tensor parallelism cuts them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ir import ops
from ir.connector.errors import ConnectorError
from ir.connector.model import ModelSize, PagedModel


class TensorParallelModel(PagedModel):
    """`PagedModel` in `tp` ranks of one process, with the weights of the same seed.

    A rank has the columns of q, k, v, gate and up of its heads and neurons, and the rows of out
    and down that go with them; the ranks' partial sums are added in order. Rank r's KV are heads
    ``r * heads / tp`` and following of each cache. Raises `ConnectorError` where `tp` does not
    divide the heads.
    """

    def __init__(
        self, size: ModelSize, *, tp: int, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        super().__init__(size, dtype=dtype, seed=seed)
        if tp < 1 or size.heads % tp:
            raise ConnectorError("tp", str(tp), f"a divisor of the {size.heads} heads")
        self.tp = tp
        h = size.hidden
        self.qkv = _parameters(
            shard.reshape(h, -1)
            for w in self.qkv
            for shard in w.view(h, 3, size.heads, -1).chunk(tp, dim=2)
        )
        self.gate_up = _parameters(
            shard.reshape(h, -1)
            for w in self.gate_up
            for shard in w.view(h, 2, 2 * h).chunk(tp, dim=2)
        )
        self.out = _parameters(shard for w in self.out for shard in w.chunk(tp))
        self.down = _parameters(shard for w in self.down for shard in w.chunk(tp))

    def _shards(self, weights: nn.ParameterList, layer: int) -> list[Tensor]:
        return [weights[layer * self.tp + rank] for rank in range(self.tp)]

    def _projected(self, i: int, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed = ops.rms_norm(x, self.norm, 1e-6)
        shape = (x.shape[0], 3, -1, self.size.head_size)
        parts = [(normed @ shard).view(shape) for shard in self._shards(self.qkv, i)]
        q, k, v = torch.cat(parts, dim=2).unbind(1)
        return self._rotated(q, position), self._rotated(k, position), v.clone()

    def after(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        heads = attended.chunk(self.tp, dim=1)
        x = x + _summed(heads, self._shards(self.out, i))
        normed = ops.rms_norm(x, self.norm, 1e-6)
        neurons = [ops.silu_and_mul(normed @ shard) for shard in self._shards(self.gate_up, i)]
        return x + _summed(neurons, self._shards(self.down, i))


def _parameters(shards: Iterable[Tensor]) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(shard.clone(), requires_grad=False) for shard in shards)


def _summed(inputs: Iterable[Tensor], shards: Iterable[Tensor]) -> Tensor:
    """What an all-reduce gives: every rank's product, added in the order of the ranks."""
    return functools.reduce(torch.add, [x @ w for x, w in zip(inputs, shards, strict=True)])
