"""Who reads what from whom: the tensor-parallel mapping between two engines.

Everything follows from one rule: rank r of T holds units ``r * N // T`` and following of an axis
of N units, ``max(1, N // T)`` of them. Keys and values split by KV heads, a latent has one unit,
and states split by their own heads and groups, so that in one page each part may come from other
ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

from .geometry import EngineGeometry, first_held, held
from .groups import CacheGroup, Part


@dataclass(frozen=True, slots=True)
class Source:
    """`count` units of a part, read from producer rank `rank`.

    `take` is the first of them among the units of the producer's rank, `put` its slot among those
    of the consumer's.
    """

    rank: int
    take: int
    put: int
    count: int


def ranks_facing(producer_tp: int, consumer_tp: int, consumer_rank: int) -> range:
    """The producer ranks that a consumer rank may read from, and that it notifies.

    With more producers each consumer faces a run of its own; otherwise several consumers face one.
    """
    if producer_tp <= consumer_tp:
        rank = consumer_rank * producer_tp // consumer_tp
        return range(rank, rank + 1)
    ratio = producer_tp // consumer_tp
    return range(consumer_rank * ratio, (consumer_rank + 1) * ratio)


def consumers_of(producer_tp: int, consumer_tp: int) -> int:
    """How many ranks of one consumer stage notify each producer rank."""
    return consumer_tp // producer_tp or 1


def sources_of(
    part: Part, *, producer_tp: int, consumer_tp: int, consumer_rank: int
) -> tuple[Source, ...]:
    """The reads that fill a part on one consumer rank, in the order of its units.

    Of producer ranks with the same units the first is read, so that nothing is read twice.
    """
    wanted = first_held(part, consumer_tp, consumer_rank)
    if producer_tp <= consumer_tp:
        rank = consumer_rank * producer_tp // consumer_tp
        take = wanted - first_held(part, producer_tp, rank)
        return (Source(rank, take, 0, held(part, consumer_tp)),)
    count = held(part, producer_tp)
    facing = ranks_facing(producer_tp, consumer_tp, consumer_rank)
    # Neighbouring ranks hold copies of one unit where there are more ranks than units.
    copies = max(1, producer_tp // part.units)
    return tuple(
        [
            Source(rank, 0, first_held(part, producer_tp, rank) - wanted, count)
            for rank in facing[:: min(copies, len(facing))]
        ]
    )


@dataclass(frozen=True, slots=True)
class TpMapping:
    """Of one consumer rank: the sources of each part of each group, and whom it notifies.

    `sources` is indexed by group and part. `facing` are all producer ranks that must hear from
    this rank, read or not; each of them expects `consumers` notifications per consumer stage.
    """

    sources: tuple[tuple[tuple[Source, ...], ...], ...]
    facing: tuple[int, ...]
    consumers: int

    def ranks_read(self, group: int) -> tuple[int, ...]:
        """The producer ranks that a group is read from, in order."""
        return tuple(sorted({s.rank for part in self.sources[group] for s in part}))


def tp_mapping(
    groups: tuple[CacheGroup, ...], *, producer_tp: int, consumer_tp: int, consumer_rank: int
) -> TpMapping:
    """The mapping of one consumer rank. The TP sizes must have passed `check_engines`."""
    sources = []
    for group in groups:
        # Keys and values, and other parts of a group with equally many units, come alike.
        known: dict[int, tuple[Source, ...]] = {}
        for part in group.parts:
            if part.units not in known:
                known[part.units] = sources_of(
                    part,
                    producer_tp=producer_tp,
                    consumer_tp=consumer_tp,
                    consumer_rank=consumer_rank,
                )
        sources.append(tuple([known[part.units] for part in group.parts]))
    return TpMapping(
        tuple(sources),
        tuple(ranks_facing(producer_tp, consumer_tp, consumer_rank)),
        consumers_of(producer_tp, consumer_tp),
    )


def notifications_per_producer(
    producer: EngineGeometry, consumer: EngineGeometry
) -> dict[tuple[int, int], int]:
    """How many notifications each producer (stage, rank) awaits per request before it frees.

    A consumer stage notifies the producer stages with whose layers it has some in common.
    """
    per_stage = consumers_of(producer.tp, consumer.tp)
    return {
        (stage, rank): per_stage
        * sum(stages_share(producer, stage, consumer, s) for s in range(len(consumer.stage_layers)))
        for stage in range(len(producer.stage_layers))
        for rank in range(producer.tp)
    }


def stages_share(
    producer: EngineGeometry, producer_stage: int, consumer: EngineGeometry, consumer_stage: int
) -> bool:
    """Whether two pipeline stages hold a cached layer in common."""
    return any(
        set(producer.layers_of(producer_stage, group))
        & set(consumer.layers_of(consumer_stage, group))
        for group in producer.model.groups
    )
