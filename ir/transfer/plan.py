"""The plan of one consumer rank for one producer engine, made once, when the two meet.

It holds a *channel* per producer rank that is read from: two lists of descriptors that pair up
block by block, one of the consumer's memory and one of the producer's. Binding a request to the
plan is arithmetic on block numbers and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .compatibility import check_bases, check_engines
from .descriptors import (
    Axis,
    Grid,
    Ids,
    Piece,
    Row,
    Rows,
    check_rows,
    ids_of,
    pack,
    pieces_of,
    unit_grid,
)
from .geometry import EngineGeometry, Layout, Worker, held
from .groups import CacheGroup, Part
from .mapping import Source, TpMapping, stages_share, tp_mapping
from .request import TransferRequest, pair_units


@dataclass(frozen=True, slots=True)
class GroupRows:
    """Where the rows of one group begin in a channel's lists, and how its units spread over them.

    `pieces` counts the pieces of all layers and parts; the first id on each side is that of unit 0
    of the first piece.
    """

    group: int
    pieces: int
    consumer_first: int
    producer_first: int
    consumer_grid: Grid
    producer_grid: Grid


@dataclass(frozen=True, eq=False, slots=True)
class Channel:
    """All that one consumer rank reads from one producer rank.

    `consumer_rows` and `producer_rows` are (N, 5) uint64 arrays of (address, length, device,
    stride, count).
    """

    source: Worker
    consumer_rows: Rows
    producer_rows: Rows
    groups: tuple[GroupRows, ...]


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
        bound = []
        for channel in self.channels:
            consumer_ids, producer_ids = [], []
            for rows in channel.groups:
                of_consumer, of_producer = units[rows.group]
                if not len(of_consumer):
                    continue
                consumer_ids.append(
                    ids_of(
                        rows.consumer_grid,
                        of_consumer,
                        first=rows.consumer_first,
                        pieces=rows.pieces,
                    )
                )
                producer_ids.append(
                    ids_of(
                        rows.producer_grid,
                        of_producer,
                        first=rows.producer_first,
                        pieces=rows.pieces,
                    )
                )
            if consumer_ids:
                bound.append(
                    BoundTransfer(
                        channel.source, np.concatenate(consumer_ids), np.concatenate(producer_ids)
                    )
                )
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
        builder = _ChannelBuilder(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChannelBuilder:
    producer: EngineGeometry
    consumer: EngineGeometry
    worker: Worker
    source: Worker
    consumer_bases: Sequence[int]
    producer_bases: Sequence[int]
    consumer_device: int
    producer_device: int

    def build(self, mapping: TpMapping) -> Channel | None:
        groups: list[GroupRows] = []
        rows: tuple[list[Row], list[Row]] = ([], [])
        bounds: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        firsts = [0, 0]
        for g, group in enumerate(self.producer.model.groups):
            layers = self._shared_layers(group)
            reads = [
                (p, source)
                for p, sources in enumerate(mapping.sources[g])
                for source in sources
                if source.rank == self.source.rank
            ]
            if not layers or not reads:
                continue
            # Pieces of a group share one grid unless the padding or the lengths of their tensors
            # differ; rows are batched so that one broadcast covers each batch.
            batches: dict[tuple[Grid, Grid], list[tuple[int, int, tuple[Piece, ...]]]] = {}
            for layer in layers:
                for p, read in reads:
                    part = group.parts[p]
                    found = (layer, p, self._pieces(part, group, read))
                    batches.setdefault(self._grids(g, group, layer, p), []).append(found)
            for grids, batch in batches.items():
                for layer, p, pieces in batch:
                    for piece in pieces:
                        self._append(rows, bounds, grids, (g, layer, p), piece)
                count = sum(len(pieces) for _, _, pieces in batch)
                groups.append(GroupRows(g, count, firsts[0], firsts[1], *grids))
                for side in (0, 1):
                    firsts[side] += count * grids[side].blocks_per_piece
        if not groups:
            return None
        check_rows(rows[0], bounds[0], what=f"consumer {self.consumer.engine_id!r} {self.worker}")
        check_rows(rows[1], bounds[1], what=f"producer {self.producer.engine_id!r} {self.source}")
        return Channel(self.source, pack(rows[0]), pack(rows[1]), tuple(groups))

    def _shared_layers(self, group: CacheGroup) -> tuple[int, ...]:
        theirs = set(self.producer.layers_of(self.source.stage, group))
        ours = self.consumer.layers_of(self.worker.stage, group)
        return tuple(layer for layer in ours if layer in theirs)

    def _grids(self, g: int, group: CacheGroup, layer: int, p: int) -> tuple[Grid, Grid]:
        unit = min(self.producer.kernel_tokens, self.consumer.kernel_tokens)
        return (
            _grid(self.consumer, self.worker.stage, group, (g, layer, p), unit),
            _grid(self.producer, self.source.stage, group, (g, layer, p), unit),
        )

    def _append(
        self,
        rows: tuple[list[Row], list[Row]],
        bounds: tuple[list[tuple[int, int]], list[tuple[int, int]]],
        grids: tuple[Grid, Grid],
        where: tuple[int, int, int],
        piece: Piece,
    ) -> None:
        g, layer, p = where
        sides = (
            (self.consumer, self.worker.stage, self.consumer_bases, self.consumer_device),
            (self.producer, self.source.stage, self.producer_bases, self.producer_device),
        )
        for side, (engine, stage, bases, device) in enumerate(sides):
            place = engine.places(stage, g, layer)[p]
            base = bases[place.tensor]
            size = engine.page_strides(stage)[place.tensor] * engine.num_blocks
            offset = place.offset + (piece.target, piece.source)[side]
            grid = grids[side]
            for inner in grid.inner:
                rows[side].append(
                    (base + offset + inner, piece.length, device, grid.stride, grid.count)
                )
                bounds[side].append((base, base + size))

    def _pieces(self, part: Part, group: CacheGroup, read: Source) -> tuple[Piece, ...]:
        """Contiguous runs of one unit of a part, as offsets into its block on both sides."""
        if group.kind.is_state:
            return pieces_of(
                part.unit_bytes * read.count,
                (),
                source=read.take * part.unit_bytes,
                target=read.put * part.unit_bytes,
            )
        source_head, source_token = _steps(self.producer, part)
        target_head, target_token = _steps(self.consumer, part)
        unit = min(self.producer.kernel_tokens, self.consumer.kernel_tokens)
        return pieces_of(
            part.unit_bytes,
            (
                Axis(read.count, source_head, target_head),
                Axis(unit, source_token, target_token),
            ),
            source=read.take * source_head,
            target=read.put * target_head,
        )


def _steps(engine: EngineGeometry, part: Part) -> tuple[int, int]:
    """Bytes from head to head and from token to token inside a kernel block."""
    if engine.layout is Layout.HND:
        return engine.kernel_tokens * part.unit_bytes, part.unit_bytes
    return part.unit_bytes, held(part, engine.tp) * part.unit_bytes


def _grid(
    engine: EngineGeometry, stage: int, group: CacheGroup, where: tuple[int, int, int], unit: int
) -> Grid:
    g, layer, p = where
    place = engine.places(stage, g, layer)[p]
    stride = engine.page_strides(stage)[place.tensor]
    if group.kind.is_state:
        return Grid(engine.num_blocks, 1, (0,), stride)
    _, token = _steps(engine, group.parts[p])
    return unit_grid(
        pages=engine.num_blocks,
        page_stride=stride,
        kernels=engine.grain_per_page,
        kernel_stride=place.kernel_stride,
        subs=engine.kernel_tokens // unit,
        sub_stride=token * unit,
    )
