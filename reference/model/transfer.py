"""A case of the transfer kind: a model's cache, two engines that hold it, and what is to move.

Sizes are in bytes and tokens. Nothing here is checked: a case may describe engines or requests
that must be refused, and `reference.transfer.legal` says which.
"""

from __future__ import annotations

from dataclasses import dataclass

STATE_KINDS = ("mamba1", "mamba2", "gdn")
GROUP_KINDS = ("full", "sliding", "mla", *STATE_KINDS)
FAULTS = ("kill", "stop", "restart", "garble", "abort")


@dataclass(frozen=True, slots=True)
class CachedPart:
    """A sub-tensor with an axis of `units` (heads, groups or channels) of `unit_bytes` each.

    For attention that is per token, for a state once. With more ranks than units the ranks hold
    copies, unless the part is `always_sharded`.
    """

    name: str
    units: int
    unit_bytes: int
    always_sharded: bool = False


@dataclass(frozen=True, slots=True)
class CachedGroup:
    """Layers with one list of blocks. `kind` is one of `GROUP_KINDS`.

    `window` (tokens) limits how far back must be there.
    """

    kind: str
    layers: tuple[int, ...]
    parts: tuple[CachedPart, ...]
    window: int | None = None

    @property
    def is_state(self) -> bool:
        """A page holds the state of one request, not the keys of some tokens."""
        return self.kind in STATE_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """What a model caches, and the query heads that its TP size must divide."""

    query_heads: int
    groups: tuple[CachedGroup, ...]

    @property
    def num_layers(self) -> int:
        """One more than the largest layer number: layers without a cache count too."""
        return 1 + max(layer for group in self.groups for layer in group.layers)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCase:
    """Two engines that meet, and the requests that the consumer then pulls, in order.

    `consumer_model` is what the consumer serves where that is not `model`. `fault` is one of
    `FAULTS`, what befalls the producer while the first request moves, or "". With `push` the
    producer writes what the consumer else reads.
    """

    model: CachedModel
    producer: Engine
    consumer: Engine
    requests: tuple[Transfer, ...]
    producer_id: str = "P"
    consumer_id: str = "D"
    consumer_model: CachedModel | None = None
    fault: str = ""
    push: bool = False

    @property
    def op(self) -> str:
        """What ``--op`` calls cases of this kind."""
        return "transfer"
