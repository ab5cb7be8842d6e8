"""What one consumer rank reads from one producer rank: two lists of descriptors that pair up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .descriptors import Grid, Rows, block_rows
from .geometry import Worker
from .mapping import TpMapping
from .pair import EnginePair, Pieces, Spot

Batch = tuple[tuple[Grid, Grid], tuple[list[Spot], list[Spot]], Pieces]
"""Grids and places, each of the consumer and of the producer, and the pieces at every place."""


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

    pair: EnginePair
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
        bases = (self.consumer_bases, self.producer_bases)
        devices = (self.consumer_device, self.producer_device)
        for g in range(len(mapping.sources)):
            for grids, places, pieces in self._batches(g, mapping):
                for side, whose in enumerate(self._names()):
                    tensors = bases[side]
                    rows[side].append(
                        block_rows(
                            [
                                (tensors[t] + offset, tensors[t], tensors[t] + size)
                                for t, offset, size in places[side]
                            ],
                            pieces.offsets[side],
                            grids[side],
                            length=pieces.length,
                            device=devices[side],
                            what=whose,
                        )
                    )
                count = len(places[0]) * len(pieces.offsets[0])
                groups.append(GroupRows(g, count, firsts[0], firsts[1], *grids))
                for side in (0, 1):
                    firsts[side] += count * grids[side].blocks_per_piece
        if not groups:
            return None
        return Channel(self.source, np.concatenate(rows[0]), np.concatenate(rows[1]), tuple(groups))

    def _names(self) -> tuple[str, str]:
        return (
            f"consumer {self.pair.consumer.engine_id!r} {self.worker}",
            f"producer {self.pair.producer.engine_id!r} {self.source}",
        )

    def _batches(self, g: int, mapping: TpMapping) -> list[Batch]:
        """The parts of all layers that this channel reads, by the grids and pieces they share.

        One broadcast then covers each batch: all keys and values of a plain model are one.
        """
        reads: dict[int, list[Pieces]] = {}
        for p, sources in enumerate(mapping.sources[g]):
            for source in sources:
                if source.rank == self.source.rank:
                    reads.setdefault(p, []).append(self.pair.pieces(g, p, source))
        found: dict[tuple[int, int], Batch] = {}
        for alike in self.pair.alike(self.worker.stage, self.source.stage, g):
            for pieces in reads.get(alike.part, ()):
                # A pair makes equal grids and pieces once, so that their identity is their value.
                key = (id(alike.grids), id(pieces))
                if key in found:
                    found[key][1][0].extend(alike.places[0])
                    found[key][1][1].extend(alike.places[1])
                else:
                    places = (list(alike.places[0]), list(alike.places[1]))
                    found[key] = (alike.grids, places, pieces)
        return list(found.values())
