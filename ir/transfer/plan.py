"""The plan of one consumer rank for one producer engine, made once, when the two meet.

It holds a *channel* per producer rank that is read from: two lists of descriptors that pair up
block by block, one of the consumer's memory and one of the producer's. Binding a request to the
plan is arithmetic on block numbers and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .channel import Channel, ChannelBuilder, GroupRows
from .compatibility import check_bases, check_engines
from .descriptors import Ids, all_ids
from .geometry import EngineGeometry, Worker
from .mapping import TpMapping, stages_share, tp_mapping
from .request import TransferRequest, pair_units


@dataclass(frozen=True, eq=False, slots=True)
class BoundTransfer:
    """The blocks of one request on one channel, as ids of paired descriptors (int64)."""

    source: Worker
    consumer_ids: Ids
    producer_ids: Ids


@dataclass(frozen=True, slots=True)
class Notification:
    """What a producer rank must be told when a request's blocks have been read."""

    source: Worker
    request: str


@dataclass(frozen=True, eq=False, slots=True)
class EngineTransferPlan:
    """What one consumer rank reads from one producer engine, and whom it notifies."""

    producer: EngineGeometry
    consumer: EngineGeometry
    worker: Worker
    mapping: TpMapping
    channels: tuple[Channel, ...]
    facing: tuple[Worker, ...]

    def bind(self, request: TransferRequest) -> tuple[BoundTransfer, ...]:
        """The ids to transfer for `request`, one item per channel that has something to read.

        Raises `RequestError`; the plan stays good for other requests.
        """
        units = pair_units(self.producer, self.consumer, request)
        bound: list[BoundTransfer] = []
        # Channels whose lists are laid out alike share their ids: all of a plain model's do.
        made: dict[tuple[GroupRows, ...], tuple[Ids, Ids]] = {}
        for channel in self.channels:
            reads = tuple(rows for rows in channel.groups if len(units[rows.group][0]))
            if not reads:
                continue
            if reads not in made:
                made[reads] = (
                    all_ids(
                        (r.consumer_grid, units[r.group][0], r.consumer_first, r.pieces)
                        for r in reads
                    ),
                    all_ids(
                        (r.producer_grid, units[r.group][1], r.producer_first, r.pieces)
                        for r in reads
                    ),
                )
            bound.append(BoundTransfer(channel.source, *made[reads]))
        return tuple(bound)

    def notifications(self, request: TransferRequest) -> tuple[Notification, ...]:
        """Every producer rank that faces this one hears of the request by the producer's own id.

        That holds for ranks that nothing was read from, and where nothing was left to read.
        """
        return tuple(Notification(source, request.producer_request) for source in self.facing)


def plan_transfer(
    producer: EngineGeometry,
    consumer: EngineGeometry,
    worker: Worker,
    *,
    producer_bases: Mapping[Worker, Sequence[int]],
    consumer_bases: Sequence[int],
    devices: Mapping[Worker, int] | None = None,
    consumer_device: int = 0,
) -> EngineTransferPlan:
    """The plan of the consumer rank `worker`.

    Bases are the addresses of each tensor, for all producer ranks that this one faces. `devices`
    are the producer ranks' device numbers, 0 where not given. Raises `IncompatibleEnginesError`,
    `GeometryError` or `DescriptorError`.
    """
    check_engines(producer, consumer)
    check_bases(consumer, worker, consumer_bases)
    mapping = tp_mapping(
        consumer.model.groups,
        producer_tp=producer.tp,
        consumer_tp=consumer.tp,
        consumer_rank=worker.rank,
    )
    facing = tuple(
        Worker(stage, rank)
        for stage in range(len(producer.stage_layers))
        if stages_share(producer, stage, consumer, worker.stage)
        for rank in mapping.facing
    )
    channels = []
    for source in facing:
        bases = producer_bases[source]
        check_bases(producer, source, bases)
        builder = ChannelBuilder(
            producer=producer,
            consumer=consumer,
            worker=worker,
            source=source,
            consumer_bases=consumer_bases,
            producer_bases=bases,
            consumer_device=consumer_device,
            producer_device=(devices or {}).get(source, 0),
        )
        channel = builder.build(mapping)
        if channel is not None:
            channels.append(channel)
    return EngineTransferPlan(producer, consumer, worker, mapping, tuple(channels), facing)
