"""A plan as data to show: everything here was read off descriptors, none of it planned again."""

from __future__ import annotations

from dataclasses import dataclass

Rank = tuple[int, int]
"""Pipeline stage and rank within tensor parallelism."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """One engine, sizes in tokens and bytes; `stage_layers` counts the layers of each stage."""

    name: str
    tp: int
    stage_layers: tuple[int, ...]
    layout: str
    placement: str
    block_tokens: int
    kernel_tokens: int
    num_blocks: int
    shares_tensors: bool

    @property
    def physical_per_logical(self) -> int:
        """Kernel blocks in one logical block."""
        return self.block_tokens // self.kernel_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """A part of a group: its units in the whole model, and on a rank of each engine.

    `producer_first` gives for each producer rank the first unit that it holds.
    """

    name: str
    units: int
    unit_bytes: int
    producer_slots: int
    consumer_slots: int
    producer_first: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Read:
    """`count` neighbouring units that one consumer rank reads from one producer rank.

    They come from the slots from `take` on of the producer's part `from_part` and go to those from
    `put` on of `part`. Offsets are bytes from the start of a kernel block (of a state's page) to
    the first of them, `piece_bytes` the length of one descriptor.
    """

    consumer: int
    part: int
    put: int
    producer: int
    from_part: int
    take: int
    count: int
    source_offset: int
    target_offset: int
    piece_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Reads that are the same between some stages: (producer stage, consumer stage, layers)."""

    stages: tuple[tuple[int, int, int], ...]
    reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Move:
    """One unit of a request: `tokens` from `consumer_at`, in these blocks, or one state.

    Positions are tokens of the prompt (entries of the list of a state group) on each side.
    """

    consumer_at: int
    consumer_block: int
    producer_at: int
    producer_block: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """One cache group: what is read from whom, and the last of the units that a request moves."""

    name: str
    kind: str
    is_state: bool
    layers: int
    window: int | None
    parts: tuple[PartView, ...]
    patterns: tuple[Pattern, ...]
    moves: tuple[Move, ...]
    units: int
    """Units that the request moves in each layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """What one consumer rank reads from one producer rank for the request.

    `rows` are the strided descriptors prepared once, `descriptors` the blocks of a transfer.
    """

    producer: Rank
    bytes: int
    descriptors: int
    rows: int
    producer_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankView:
    """One consumer rank: its sources, and the producer ranks that it notifies."""

    consumer: Rank
    sources: tuple[SourceView, ...]
    notifies: tuple[Rank, ...]

    @property
    def bytes(self) -> int:
        return sum(source.bytes for source in self.sources)

    @property
    def descriptors(self) -> int:
        return sum(source.descriptors for source in self.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """A plan between two engines and what one request of `prompt_tokens` costs on it.

    `unit_tokens` is the smaller kernel block: what moves as one. `awaited` says how many
    notifications free a request on each producer rank.
    """

    model: str
    source: str
    query_heads: int
    producer: EngineView
    consumer: EngineView
    prompt_tokens: int
    cached_tokens: int
    unit_tokens: int
    groups: tuple[GroupView, ...]
    ranks: tuple[RankView, ...]
    awaited: tuple[tuple[Rank, int], ...]
