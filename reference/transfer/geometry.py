"""Engines and what they cache, as the reference speaks of them. Sizes are in bytes and tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CachedPart:
    """A sub-tensor with an axis of `units` (heads, groups or channels) of `unit_bytes` each.

    For attention that is per token, for a state once.
    """

    name: str
    units: int
    unit_bytes: int


@dataclass(frozen=True, slots=True)
class CachedGroup:
    """Layers with one list of blocks. `window` (tokens) limits how far back must be there."""

    is_state: bool
    layers: tuple[int, ...]
    parts: tuple[CachedPart, ...]
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How an engine splits and lays out a cache.

    `stage_layers` counts the layers of each pipeline stage. `layout` is "HND" or "NHD", the order
    inside a kernel block; `blocks_first` puts the parts of a kernel block one after the other
    into one tensor, otherwise each part has its own. `shares_tensors` puts the i-th layers of all
    groups on the same tensors. Every page ends with `page_padding` unused bytes.
    """

    tp: int
    stage_layers: tuple[int, ...]
    num_blocks: int
    block_tokens: int
    kernel_tokens: int
    layout: str
    blocks_first: bool
    shares_tensors: bool = False
    page_padding: int = 0

    def stage_of(self, layer: int) -> int:
        """The pipeline stage that holds a layer."""
        stages = [s for s, count in enumerate(self.stage_layers) for _ in range(count)]
        return stages[layer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One request: what both sides call it, its tokens, and its blocks by group and position.

    Entry i of a list of an attention group holds the tokens from ``i * block_tokens`` on; block 0
    stands for none. Entries of a state group are states, with zeros for none.
    """

    producer_request: str
    consumer_request: str
    prompt_tokens: int
    cached_tokens: int
    producer_blocks: tuple[tuple[int, ...], ...]
    consumer_blocks: tuple[tuple[int, ...], ...]
