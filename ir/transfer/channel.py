"""What one consumer rank reads from one producer rank: two lists of descriptors that pair up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .descriptors import Axis, Grid, Piece, Rows, Span, block_rows, pieces_of, unit_grid
from .geometry import EngineGeometry, Layout, Worker, held
from .groups import CacheGroup, Part
from .mapping import Source, TpMapping


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelBuilder:
    """Two ranks and the addresses of their tensors, about to become a channel."""

    producer: EngineGeometry
    consumer: EngineGeometry
    worker: Worker
    source: Worker
    consumer_bases: Sequence[int]
    producer_bases: Sequence[int]
    consumer_device: int
    producer_device: int

    def build(self, mapping: TpMapping) -> Channel | None:
        """The channel, or None where nothing is read. Raises `DescriptorError`."""
        groups: list[GroupRows] = []
        rows: tuple[list[Rows], list[Rows]] = ([], [])
        firsts = [0, 0]
        for g, group in enumerate(self.producer.model.groups):
            for (grids, pieces), bases in self._batches(g, group, mapping).items():
                for side, whose in enumerate(self._names()):
                    device = (self.consumer_device, self.producer_device)[side]
                    offsets = [(piece.target, piece.source)[side] for piece in pieces]
                    rows[side].append(
                        block_rows(
                            [pair[side] for pair in bases],
                            offsets,
                            grids[side],
                            length=pieces[0].length,
                            device=device,
                            what=whose,
                        )
                    )
                count = len(bases) * len(pieces)
                groups.append(GroupRows(g, count, firsts[0], firsts[1], *grids))
                for side in (0, 1):
                    firsts[side] += count * grids[side].blocks_per_piece
        if not groups:
            return None
        return Channel(self.source, np.concatenate(rows[0]), np.concatenate(rows[1]), tuple(groups))

    def _names(self) -> tuple[str, str]:
        return (
            f"consumer {self.consumer.engine_id!r} {self.worker}",
            f"producer {self.producer.engine_id!r} {self.source}",
        )

    def _batches(
        self, g: int, group: CacheGroup, mapping: TpMapping
    ) -> dict[tuple[tuple[Grid, Grid], tuple[Piece, ...]], list[tuple[Span, Span]]]:
        """The parts of all layers that this channel reads, by the grids and pieces they share.

        One broadcast then covers each batch: all keys and values of a plain model are one.
        """
        pieces: dict[int, list[tuple[Piece, ...]]] = {}
        for p, sources in enumerate(mapping.sources[g]):
            for source in sources:
                if source.rank == self.source.rank:
                    reads = pieces.setdefault(p, [])
                    reads.append(self._pieces(group.parts[p], group, source))
        our_strides = self.consumer.page_strides(self.worker.stage)
        their_strides = self.producer.page_strides(self.source.stage)
        ends = self.consumer.num_blocks, self.producer.num_blocks
        alike: dict[tuple[int, int, int, int, int], list[tuple[Span, Span]]] = {}
        for layer in self._shared_layers(group):
            ours = self.consumer.places(self.worker.stage, g, layer)
            theirs = self.producer.places(self.source.stage, g, layer)
            for p in pieces:
                our, their = ours[p], theirs[p]
                our_stride, their_stride = our_strides[our.tensor], their_strides[their.tensor]
                key = (p, our_stride, our.kernel_stride, their_stride, their.kernel_stride)
                our_base = self.consumer_bases[our.tensor]
                their_base = self.producer_bases[their.tensor]
                spans = (
                    (our_base + our.offset, our_base, our_base + our_stride * ends[0]),
                    (their_base + their.offset, their_base, their_base + their_stride * ends[1]),
                )
                if key in alike:
                    alike[key].append(spans)
                else:
                    alike[key] = [spans]
        found: dict[tuple[tuple[Grid, Grid], tuple[Piece, ...]], list[tuple[Span, Span]]] = {}
        for (p, *strides), spans in alike.items():
            grids = (
                self._grid(self.consumer, group, group.parts[p], *strides[:2]),
                self._grid(self.producer, group, group.parts[p], *strides[2:]),
            )
            for read in pieces[p]:
                found.setdefault((grids, read), []).extend(spans)
        return found

    def _shared_layers(self, group: CacheGroup) -> tuple[int, ...]:
        theirs = set(self.producer.layers_of(self.source.stage, group))
        ours = self.consumer.layers_of(self.worker.stage, group)
        return tuple(layer for layer in ours if layer in theirs)

    def _grid(
        self,
        engine: EngineGeometry,
        group: CacheGroup,
        part: Part,
        page_stride: int,
        kernel_stride: int,
    ) -> Grid:
        if group.kind.is_state:
            return Grid(engine.num_blocks, 1, (0,), page_stride)
        unit = min(self.producer.kernel_tokens, self.consumer.kernel_tokens)
        _, token = _steps(engine, part)
        return unit_grid(
            pages=engine.num_blocks,
            page_stride=page_stride,
            kernels=engine.grain_per_page,
            kernel_stride=kernel_stride,
            subs=engine.kernel_tokens // unit,
            sub_stride=token * unit,
        )

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
