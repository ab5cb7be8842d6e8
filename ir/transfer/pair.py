"""What the plans of all ranks of two engines share: where parts lie, grids of units, and pieces.

None of it depends on a rank or an address, so engines of many ranks work it out once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .descriptors import Axis, Grid, pieces_of, unit_grid
from .geometry import EngineGeometry, Layout, held
from .groups import CacheGroup, Part
from .mapping import Source

Spot = tuple[int, int, int]
"""A tensor, the offset of a part in its first page, and the bytes of the tensor.

A bare tuple: a large plan has thousands.
"""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Equally long runs that are contiguous on both sides.

    `offsets` has those in the consumer's block first, then those in the producer's.
    """

    offsets: tuple[tuple[int, ...], tuple[int, ...]]
    length: int


@dataclass(frozen=True, slots=True)
class Alike:
    """One part of every layer that lies in the same grids; consumer first in both pairs."""

    part: int
    grids: tuple[Grid, Grid]
    places: tuple[list[Spot], list[Spot]]


@dataclass(frozen=True, eq=False, slots=True)
class EnginePair:
    """Two engines that passed `check_engines`."""

    producer: EngineGeometry
    consumer: EngineGeometry
    _alike: dict[tuple[int, int, int], list[Alike]] = field(default_factory=dict)
    _grids: dict[tuple[Grid, Grid], tuple[Grid, Grid]] = field(default_factory=dict)
    _pieces: dict[tuple[int, ...], Pieces] = field(default_factory=dict)

    def alike(self, consumer_stage: int, producer_stage: int, g: int) -> list[Alike]:
        """The parts of the layers of group `g` that both stages hold."""
        key = (consumer_stage, producer_stage, g)
        if key not in self._alike:
            self._alike[key] = self._find(consumer_stage, producer_stage, g)
        return self._alike[key]

    def pieces(self, g: int, p: int, read: Source) -> Pieces:
        """The pieces of one unit of a part, as offsets into its block on both sides."""
        group = self.producer.model.groups[g]
        part = group.parts[p]
        key = (
            group.kind.is_state, part.unit_bytes, held(part, self.producer.tp),
            held(part, self.consumer.tp), read.take, read.put, read.count,
        )  # fmt: skip
        if key not in self._pieces:
            self._pieces[key] = self._cut(part, group, read)
        return self._pieces[key]

    def _find(self, consumer_stage: int, producer_stage: int, g: int) -> list[Alike]:
        group = self.producer.model.groups[g]
        sides = ((self.consumer, consumer_stage), (self.producer, producer_stage))
        (our_strides, their_strides) = (e.page_strides(stage) for e, stage in sides)
        ends = self.consumer.num_blocks, self.producer.num_blocks
        found: dict[tuple[int, int, int, int, int], tuple[list[Spot], list[Spot]]] = {}
        theirs = set(self.producer.layers_of(producer_stage, group))
        for layer in self.consumer.layers_of(consumer_stage, group):
            if layer not in theirs:
                continue
            placed = zip(*(e.places(stage, g, layer) for e, stage in sides), strict=True)
            for p, (our, their) in enumerate(placed):
                stride, other = our_strides[our.tensor], their_strides[their.tensor]
                key = (p, stride, our.kernel_stride, other, their.kernel_stride)
                spots = found.setdefault(key, ([], []))
                spots[0].append((our.tensor, our.offset, stride * ends[0]))
                spots[1].append((their.tensor, their.offset, other * ends[1]))
        return [
            Alike(
                p,
                self._once(
                    self._grid(self.consumer, group, group.parts[p], *strides[:2]),
                    self._grid(self.producer, group, group.parts[p], *strides[2:]),
                ),
                spots,
            )
            for (p, *strides), spots in found.items()
        ]

    def _once(self, ours: Grid, theirs: Grid) -> tuple[Grid, Grid]:
        return self._grids.setdefault((ours, theirs), (ours, theirs))

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

    def _cut(self, part: Part, group: CacheGroup, read: Source) -> Pieces:
        if group.kind.is_state:
            found = pieces_of(
                part.unit_bytes * read.count,
                (),
                source=read.take * part.unit_bytes,
                target=read.put * part.unit_bytes,
            )
        else:
            source_head, source_token = _steps(self.producer, part)
            target_head, target_token = _steps(self.consumer, part)
            unit = min(self.producer.kernel_tokens, self.consumer.kernel_tokens)
            found = pieces_of(
                part.unit_bytes,
                (
                    Axis(read.count, source_head, target_head),
                    Axis(unit, source_token, target_token),
                ),
                source=read.take * source_head,
                target=read.put * target_head,
            )
        offsets = (tuple(piece.target for piece in found), tuple(piece.source for piece in found))
        return Pieces(offsets, found[0].length)


def _steps(engine: EngineGeometry, part: Part) -> tuple[int, int]:
    """Bytes from head to head and from token to token inside a kernel block."""
    if engine.layout is Layout.HND:
        return engine.kernel_tokens * part.unit_bytes, part.unit_bytes
    return part.unit_bytes, held(part, engine.tp) * part.unit_bytes
