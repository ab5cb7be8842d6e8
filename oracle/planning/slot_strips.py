"""Who reads which slots from whom, drawn: ranks in two rows, a band for each read of the view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oracle.planning.names import span
from oracle.planning.shapes import (
    BETWEEN,
    LEFT,
    STRIP,
    TOP,
    WIDTH,
    Band,
    Box,
    Figure,
    Label,
    band_path,
)
from oracle.planning.view import GroupView, Pattern, PlanView, Read

NARROWEST, WIDEST = 4.0, 30.0
MANY = 8
"""Ranks beyond which the gaps are narrow."""

Slot = tuple[int, int, int]
"""A rank, a part and a slot of it."""
Look = tuple[str, int, str, str]
"""A colour, a unit (-1: none), a title and a style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Where the slots of one engine lie: x of (rank, part, slot), and the width of a slot."""

    xs: dict[Slot, float]
    ranks: tuple[tuple[float, float], ...]
    cell: float
    end: float


def _gaps(ranks: int) -> tuple[float, float]:
    """The gap between two ranks and between two parts of one."""
    return (16.0, 5.0) if ranks <= MANY else (9.0, 3.0)


def _row(ranks: int, slots: tuple[int, ...], cell: float, start: float = LEFT) -> Row:
    xs: dict[Slot, float] = {}
    edges: list[tuple[float, float]] = []
    x = start
    rank_gap, part_gap = _gaps(ranks)
    for rank in range(ranks):
        left = x
        for part, count in enumerate(slots):
            for slot in range(count):
                xs[rank, part, slot] = x
                x += cell
            x += part_gap
        edges.append((left, x - part_gap))
        x += rank_gap - part_gap
    return Row(xs=xs, ranks=tuple(edges), cell=cell, end=x - rank_gap)


def _cell(ranks: int, slots: tuple[int, ...]) -> float:
    """The width at which a row fills the picture, within what can be seen and read."""
    rank_gap, part_gap = _gaps(ranks)
    gaps = ranks * (len(slots) - 1) * part_gap + (ranks - 1) * rank_gap
    return min(WIDEST, max(NARROWEST, (WIDTH - LEFT - gaps) / (ranks * sum(slots))))


def _rows(*sizes: tuple[int, tuple[int, ...]]) -> tuple[Row, ...]:
    """Rows of (ranks, slots), each in the middle of the widest."""
    cells = [_cell(ranks, slots) for ranks, slots in sizes]
    ends = [_row(*size, cell).end for size, cell in zip(sizes, cells, strict=True)]
    return tuple(
        _row(*size, cell, LEFT + (max(ends) - end) / 2)
        for size, cell, end in zip(sizes, cells, ends, strict=True)
    )


def heads(plan: PlanView, group: GroupView, pattern: Pattern) -> Figure:
    """Producer ranks above, consumer ranks below, a strip of slots each, a band for each read."""
    theirs = tuple(part.producer_slots for part in group.parts)
    ours = tuple(part.consumer_slots for part in group.parts)
    upper, lower = _rows((plan.producer.tp, theirs), (plan.consumer.tp, ours))
    bottom = TOP + STRIP + BETWEEN
    read_by = {
        (r.producer, r.from_part, r.take + i): r for r in pattern.reads for i in range(r.count)
    }
    filled = {(r.consumer, r.part, r.put + i): r for r in pattern.reads for i in range(r.count)}
    boxes = [
        *_slots(group, upper, TOP, lambda key: _held(group, key, key in read_by)),
        *_slots(group, lower, bottom, lambda key: _filled(group, key, filled.get(key))),
    ]
    bands = tuple(
        Band(
            path=band_path(
                _run(upper, (r.producer, r.from_part, r.take), r.count),
                TOP + STRIP,
                _run(lower, (r.consumer, r.part, r.put), r.count),
                bottom,
            ),
            colour=f"o{r.producer}",
            title=_read_title(group, r),
        )
        for r in pattern.reads
    )
    labels = [
        Label(x=0, y=TOP + 16, text="prefill", style="side"),
        Label(x=0, y=bottom + 16, text="decode", style="side"),
        *_row_labels(group, upper, theirs, TOP - 20, TOP - 6),
        *_row_labels(group, lower, ours, bottom + STRIP + 30, bottom + STRIP + 14),
    ]
    return Figure(
        name=f"who reads which {group.name} slots from whom",
        width=max(WIDTH, upper.end, lower.end) + 2,
        height=bottom + STRIP + 40,
        boxes=tuple(boxes),
        bands=bands,
        labels=tuple(labels),
    )


def _run(row: Row, first: Slot, count: int) -> tuple[float, float]:
    x = row.xs[first]
    return x, x + count * row.cell


def _held(group: GroupView, key: Slot, is_read: bool) -> Look:
    rank, part, slot = key
    unit = group.parts[part].producer_first[rank] + slot
    what = f"prefill rank {rank}, {group.parts[part].name} slot {slot}: unit {unit}"
    return f"o{rank}", unit, what if is_read else f"{what}; not read", "" if is_read else "idle"


def _filled(group: GroupView, key: Slot, read: Read | None) -> Look:
    rank, part, slot = key
    what = f"decode rank {rank}, {group.parts[part].name} slot {slot}"
    if read is None:
        return "", -1, f"{what}: nothing is written here", "empty"
    taken = read.take + slot - read.put
    unit = group.parts[read.from_part].producer_first[read.producer] + taken
    return f"o{read.producer}", unit, f"{what}: unit {unit}, from prefill rank {read.producer}", ""


def _slots(group: GroupView, row: Row, y: float, look: Callable[[Slot], Look]) -> list[Box]:
    boxes = []
    for key, x in row.xs.items():
        colour, unit, title, style = look(key)
        fits = row.cell >= 8 * len(str(group.parts[key[1]].units - 1))
        boxes.append(
            Box(
                x=x,
                y=y,
                width=row.cell,
                height=STRIP,
                colour=colour,
                label=str(unit) if fits and unit >= 0 else "",
                title=title,
                style=style,
            )
        )
    return boxes


def _row_labels(
    group: GroupView, row: Row, slots: tuple[int, ...], ranks_y: float, parts_y: float
) -> list[Label]:
    """The rank over each strip, the part over each of its pieces where there is room."""
    labels = []
    for rank, (start, end) in enumerate(row.ranks):
        labels.append(Label(x=(start + end) / 2, y=ranks_y, text=str(rank), style="rank"))
        for part, count in enumerate(slots):
            name = group.parts[part].name
            if count * row.cell >= 6 * len(name):
                x = row.xs[rank, part, 0] + count * row.cell / 2
                labels.append(Label(x=x, y=parts_y, text=name, style="part"))
    return labels


def _read_title(group: GroupView, read: Read) -> str:
    part, origin = group.parts[read.part], group.parts[read.from_part]
    unit = origin.producer_first[read.producer] + read.take
    return (
        f"{part.name} {span(unit, read.count)}: prefill rank {read.producer} slot "
        f"{span(read.take, read.count)}, byte {read.source_offset:,}, to decode rank "
        f"{read.consumer} slot {span(read.put, read.count)}, byte {read.target_offset:,}; "
        f"{read.piece_bytes:,} bytes a descriptor"
    )
