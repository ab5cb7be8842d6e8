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
from .pair import EnginePair
from .request import TransferRequest, pair_units


@dataclass(frozen=True, eq=False, slots=True)
class BoundTransfer:
    """The blocks of one request on one channel, as ids of paired descriptors (int64)."""

    source: Worker
    consumer_ids: Ids
    producer_ids: Ids


class RequestIds:
    """The ids of one request on the channels of two engines.

    Channels whose lists are laid out alike share their ids: all of a plain model's do, on every
    rank. Raises `RequestError` where the request cannot be.
    """

    __slots__ = ("_made", "_units")

    def __init__(
        self, producer: EngineGeometry, consumer: EngineGeometry, request: TransferRequest
    ) -> None:
        self._units = pair_units(producer, consumer, request)
        self._made: dict[tuple[GroupRows, ...], tuple[Ids, Ids]] = {}

    def of(self, channel: Channel) -> tuple[Ids, Ids] | None:
        """The ids on the consumer's and the producer's side; None where nothing is to be read."""
        units = self._units
        reads = tuple([rows for rows in channel.groups if len(units[rows.group][0])])
        if not reads:
            return None
        found = self._made.get(reads)
        if found is None:
            ours = all_ids(
                (r.consumer_grid, units[r.group][0], r.consumer_first, r.pieces) for r in reads
            )
            theirs = all_ids(
                (r.producer_grid, units[r.group][1], r.producer_first, r.pieces) for r in reads
            )
            found = self._made[reads] = (ours, theirs)
        return found


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

    def bind(
        self, request: TransferRequest, *, ids: RequestIds | None = None
    ) -> tuple[BoundTransfer, ...]:
        """The ids to transfer for `request`, one item per channel that has something to read.

        `ids` is the request's, where several ranks bind it. Raises `RequestError`; the plan stays
        good for other requests.
        """
        if ids is None:
            ids = RequestIds(self.producer, self.consumer, request)
        bound = []
        for channel in self.channels:
            found = ids.of(channel)
            if found is not None:
                bound.append(BoundTransfer(channel.source, *found))
        return tuple(bound)

    def notifications(self, request: TransferRequest) -> tuple[Notification, ...]:
        """Every producer rank that faces this one hears of the request by the producer's own id.

        That holds for ranks that nothing was read from, and where nothing was left to read.
        """
        return tuple(Notification(source, request.producer_request) for source in self.facing)


def meet(producer: EngineGeometry, consumer: EngineGeometry) -> EnginePair:
    """Two engines whose ranks are to be planned. Raises `IncompatibleEnginesError`."""
    check_engines(producer, consumer)
    return EnginePair(producer, consumer)


def plan_transfer(
    producer: EngineGeometry,
    consumer: EngineGeometry,
    worker: Worker,
    *,
    pair: EnginePair | None = None,
    producer_bases: Mapping[Worker, Sequence[int]],
    consumer_bases: Sequence[int],
    devices: Mapping[Worker, int] | None = None,
    consumer_device: int = 0,
) -> EngineTransferPlan:
    """The plan of the consumer rank `worker`.

    `pair` is what `meet` gave for these engines, where several ranks are planned. Bases are the
    addresses of each tensor, for all producer ranks that this one faces. `devices` are the producer
    ranks' device numbers, 0 where not given. Raises `IncompatibleEnginesError`, `GeometryError` or
    `DescriptorError`.
    """
    if pair is None:
        pair = meet(producer, consumer)
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
            pair=pair,
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
