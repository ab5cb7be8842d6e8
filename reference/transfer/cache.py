"""Shards and pages by definition: repeat and split the unsharded cache, cut it into blocks.

Arrays of all ranks of a stage have the ranks as their first axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from reference.model.transfer import CachedGroup, CachedPart, Engine

from .codes import Codes, full_part


def shards(full: Codes, *, tp: int) -> list[Codes]:
    """What each of `tp` ranks holds of (positions, units, bytes): an even split of the units.

    Where there are more ranks than units, every unit is first repeated until there are enough, so
    that copies lie on neighbouring ranks.
    """
    repeated = np.repeat(full, max(1, tp // full.shape[1]), axis=1)
    return np.split(repeated, tp, axis=1)


@lru_cache(maxsize=256)
def coded_shards(
    part: CachedPart, *, request: int = 0, layer: int, index: int, positions: int, tp: int
) -> Codes:
    """The codes of one part of one layer: (ranks, positions, units held, bytes). Read-only."""
    full = full_part(part, request=request, layer=layer, index=index, positions=positions)
    found = np.stack(shards(full, tp=tp))
    found.flags.writeable = False
    return found


def block_pages(parts: list[Codes], engine: Engine) -> list[Codes]:
    """The pages of an attention group's layer: for each tensor (..., blocks, bytes).

    `parts` are each (..., tokens, heads, bytes), with a whole number of blocks.
    """
    kernel_blocks = []
    for part in parts:
        *ranks, tokens, heads, size = part.shape
        kernels = tokens // engine.kernel_tokens
        blocks = part.reshape(*ranks, kernels, engine.kernel_tokens, heads, size)
        if engine.layout == "HND":
            blocks = blocks.swapaxes(-3, -2)
        kernel_blocks.append(blocks.reshape(*ranks, kernels, engine.kernel_tokens * heads * size))
    if engine.blocks_first:
        kernel_blocks = [np.concatenate(kernel_blocks, axis=-1)]
    per_page = engine.block_tokens // engine.kernel_tokens
    return [
        tensor.reshape(*tensor.shape[:-2], tensor.shape[-2] // per_page, -1)
        if tensor.shape[-2]
        else tensor.reshape(*tensor.shape[:-2], 0, per_page * tensor.shape[-1])
        for tensor in kernel_blocks
    ]


def state_pages(parts: list[Codes]) -> list[Codes]:
    """The pages of a state group's layer: one tensor (..., states, bytes), part after part."""
    flat = [part.reshape(*part.shape[:-2], part.shape[-2] * part.shape[-1]) for part in parts]
    return [np.concatenate(flat, axis=-1)]


def page_sizes(group: CachedGroup, engine: Engine) -> list[int]:
    """Bytes of a group's page on each of its tensors, padding not counted."""

    def shard(part: CachedPart, positions: int) -> Codes:
        """The first rank's, without contents."""
        units = part.units * max(1, engine.tp // part.units) // engine.tp
        return np.zeros((positions, units, part.unit_bytes), dtype=np.uint64)

    positions = 1 if group.is_state else engine.block_tokens
    of_rank = [shard(part, positions) for part in group.parts]
    pages = state_pages(of_rank) if group.is_state else block_pages(of_rank, engine)
    return [page.shape[1] for page in pages]


@lru_cache(maxsize=256)
def tensors_of(
    groups: tuple[CachedGroup, ...], engine: Engine, stage: int
) -> tuple[Mapping[tuple[int, int], int], tuple[int, ...]]:
    """For each (group, layer) on a stage its first tensor, and the page length of each tensor.

    Tensors follow the groups and their layers; shared ones are as long as their longest page.
    """
    first: dict[tuple[int, int], int] = {}
    lengths: list[int] = []
    for g, group in enumerate(groups):
        sizes = [size + engine.page_padding for size in page_sizes(group, engine)]
        layers = [layer for layer in group.layers if engine.stage_of(layer) == stage]
        for i, layer in enumerate(layers):
            at = i * len(sizes) if engine.shares_tensors else len(lengths)
            first[g, layer] = at
            for tensor, size in enumerate(sizes, start=at):
                if tensor < len(lengths):
                    lengths[tensor] = max(lengths[tensor], size)
                else:
                    lengths.append(size)
    return MappingProxyType(first), tuple(lengths)
