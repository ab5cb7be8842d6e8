"""Shards and pages by definition: repeat and split the unsharded cache, cut it into blocks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from .codes import Codes, full_part
from .geometry import CachedGroup, CachedPart, Engine


def shards(full: Codes, *, tp: int) -> list[Codes]:
    """What each of `tp` ranks holds of (positions, units, bytes): an even split of the units.

    Where there are more ranks than units, every unit is first repeated until there are enough, so
    that copies lie on neighbouring ranks.
    """
    repeated = np.repeat(full, max(1, tp // full.shape[1]), axis=1)
    return np.split(repeated, tp, axis=1)


@lru_cache(maxsize=256)
def coded_shards(
    part: CachedPart, *, layer: int, index: int, positions: int, tp: int
) -> tuple[Codes, ...]:
    """The codes of one part of one layer on each rank; kept, since all ranks of a case ask."""
    found = shards(full_part(part, layer=layer, index=index, positions=positions), tp=tp)
    for of_rank in found:
        of_rank.flags.writeable = False
    return tuple(found)


def block_pages(parts_of_rank: list[Codes], engine: Engine) -> list[Codes]:
    """The pages of an attention group's layer: for each tensor (blocks, bytes).

    `parts_of_rank` are each (tokens, heads, bytes), with a whole number of blocks.
    """
    parts = []
    for of_rank in parts_of_rank:
        tokens, heads, size = of_rank.shape
        blocks = of_rank.reshape(tokens // engine.kernel_tokens, engine.kernel_tokens, heads, size)
        if engine.layout == "HND":
            blocks = blocks.transpose(0, 2, 1, 3)
        parts.append(blocks.reshape(len(blocks), -1))
    tensors = [np.concatenate(parts, axis=1)] if engine.blocks_first else parts
    kernels = engine.block_tokens // engine.kernel_tokens
    return [tensor.reshape(len(tensor) // kernels, -1) for tensor in tensors]


def state_pages(parts_of_rank: list[Codes]) -> list[Codes]:
    """The pages of a state group's layer: one tensor (states, bytes), part after part."""
    return [np.concatenate([part.reshape(len(part), -1) for part in parts_of_rank], axis=1)]


def page_sizes(group: CachedGroup, engine: Engine) -> list[int]:
    """Bytes of a group's page on each of its tensors, padding not counted."""

    def empty(part: CachedPart, positions: int) -> Codes:
        return np.zeros((positions, part.units, part.unit_bytes), dtype=np.uint64)

    positions = 1 if group.is_state else engine.block_tokens
    of_rank = [shards(empty(part, positions), tp=engine.tp)[0] for part in group.parts]
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
