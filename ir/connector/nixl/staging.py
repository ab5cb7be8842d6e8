"""Memory that other engines may read, and that may land late: never the model's own caches.

The contract frees a request's blocks as soon as it is saved or has failed. A consumer may read
later than that, and data of a request that has failed may still land. So KV goes through blocks of
the connector's own, which it gives away only when nothing can reach them any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ir.connector.errors import ConnectorError
from ir.transfer import EngineGeometry, Layout, ModelCache, Worker
from ir.transfer.geometry import first_held, held
from ir.transfer.groups import attention


def geometry_of(
    engine_id: str, caches: Mapping[str, Tensor], *, model: str, tp: int, blocks: int
) -> EngineGeometry:
    """The geometry of `blocks` staged blocks, and the null block, for caches by layer.

    A cache is (2, blocks, block size, heads, head size). Raises `ConnectorError` where the layers
    differ or there are none, `GeometryError` where the heads cannot be divided.
    """
    shapes = {(*cache.shape[2:], cache.dtype) for cache in caches.values()}
    if len(shapes) != 1 or any(cache.dim() != 5 for cache in caches.values()):
        raise ConnectorError(
            "the caches of the layers",
            str(sorted(map(str, shapes))),
            "at least one layer, all with one block size, heads, head size and dtype",
        )
    cache = next(iter(caches.values()))
    block_size, heads, head_size = cache.shape[2:]
    group = attention(
        range(len(caches)), kv_heads=heads, head_size=head_size, itemsize=cache.element_size()
    )
    return EngineGeometry(
        engine_id=engine_id,
        # The dtype is in the name: two kinds of two bytes would pass for one another.
        model=ModelCache(f"{model} {cache.dtype}", heads, (group,)),
        tp=tp,
        num_blocks=blocks + 1,
        block_tokens=block_size,
        kernel_tokens=block_size,
        layout=Layout.NHD,
    )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Shard:
    """One rank's heads of one layer: (2, blocks, block size, heads of the rank, head size)."""

    worker: Worker
    heads: slice
    memory: Tensor


class Staging:
    """Blocks of every layer on every rank, in host memory, and which of them are free."""

    def __init__(self, geometry: EngineGeometry, caches: Mapping[str, Tensor]) -> None:
        self.geometry = geometry
        self._shards: dict[str, tuple[_Shard, ...]] = {}
        part = geometry.model.groups[0].parts[0]
        count = held(part, geometry.tp)
        for layer, cache in caches.items():
            shards = []
            for worker in geometry.workers:
                first = first_held(part, geometry.tp, worker.rank)
                shape = (2, geometry.num_blocks, cache.shape[2], count, cache.shape[4])
                memory = torch.zeros(shape, dtype=cache.dtype)
                shards.append(
                    _Shard(worker=worker, heads=slice(first, first + count), memory=memory)
                )
            self._shards[layer] = tuple(shards)
        self._free = list(range(1, geometry.num_blocks))

    @property
    def free(self) -> int:
        """Blocks that nobody has."""
        return len(self._free)

    def regions(self, worker: Worker) -> list[tuple[int, int]]:
        """(address, bytes) of a rank's tensors, keys before values, layer after layer."""
        return [
            (half.data_ptr(), half.numel() * half.element_size())
            for shards in self._shards.values()
            for shard in shards
            if shard.worker == worker
            for half in shard.memory
        ]

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.geometry.block_tokens)

    def take(self, tokens: int) -> tuple[int, ...] | None:
        """Blocks for so many tokens, or None where there is no room."""
        count = self.blocks_for(tokens)
        if count > len(self._free):
            return None
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        return taken

    def give(self, blocks: tuple[int, ...]) -> None:
        """Blocks that nothing can reach any more."""
        self._free.extend(blocks)

    def put(self, layer: str, cache: Tensor, slots: Tensor, blocks: tuple[int, ...]) -> None:
        """Copy the KV at `slots` of a cache into staged blocks, each rank its heads."""
        here = cache.flatten(1, 2)[:, slots]
        at = self._at(blocks, len(slots))
        for shard in self._shards[layer]:
            shard.memory.flatten(1, 2)[:, at] = here[:, :, shard.heads].to(shard.memory.device)

    def get(self, layer: str, cache: Tensor, slots: Tensor, blocks: tuple[int, ...]) -> None:
        """Copy staged blocks to `slots` of a cache; what else it holds stays."""
        at = self._at(blocks, len(slots))
        there = cache.flatten(1, 2)
        for shard in self._shards[layer]:
            got = shard.memory.flatten(1, 2)[:, at].to(cache.device)
            there[:, slots, shard.heads] = got

    def _at(self, blocks: tuple[int, ...], tokens: int) -> Tensor:
        size = self.geometry.block_tokens
        starts = torch.tensor(blocks, dtype=torch.int64)[:, None] * size
        return (starts + torch.arange(size)).flatten()[:tokens]
