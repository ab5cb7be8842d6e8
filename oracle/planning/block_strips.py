"""A request drawn: which blocks hold its tokens on both sides, and how much each rank reads."""

from __future__ import annotations

from collections.abc import Callable

from oracle.planning.names import rank_name
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
from oracle.planning.view import EngineView, GroupView, Move, PlanView

MARGIN = 4
"""Units drawn before the first and after the last that moves."""


def blocks(plan: PlanView, group: GroupView) -> Figure:
    """The request's last units in their blocks on both sides, by position in the prompt.

    Only those that the moves name are drawn, and the rest of their blocks as far as there is room.
    """
    unit = plan.unit_tokens
    at = [m.consumer_at for m in group.moves] + [m.producer_at for m in group.moves]
    start, end = max(0, min(at) - MARGIN * unit), max(at) + (1 + MARGIN) * unit
    scale = (WIDTH - LEFT) / (end - start)
    bottom = TOP + STRIP + BETWEEN / 2

    def x(token: int) -> float:
        return LEFT + (min(max(token, start), end) - start) * scale

    theirs = {m.producer_at // plan.producer.block_tokens: m.producer_block for m in group.moves}
    ours = {m.consumer_at // plan.consumer.block_tokens: m.consumer_block for m in group.moves}
    colours = {block: f"b{i % 2}" for i, block in enumerate(dict.fromkeys(theirs.values()))}
    boxes = [
        *(_block(plan.producer, n, b, colours[b], TOP, x) for n, b in theirs.items()),
        *(_block(plan.consumer, n, b, "", bottom, x) for n, b in ours.items()),
        *(
            Box(
                x=x(m.consumer_at),
                y=bottom + 4,
                width=unit * scale,
                height=STRIP - 8,
                colour=colours[m.producer_block],
                label="",
                title=_move_title(m),
            )
            for m in group.moves
        ),
    ]
    if plan.cached_tokens > start:
        boxes.append(
            Box(
                x=x(start),
                y=bottom,
                width=x(plan.cached_tokens) - x(start),
                height=STRIP,
                colour="",
                label="",
                title=f"decode has the tokens before {plan.cached_tokens:,} already",
                style="idle",
            )
        )
    bands = tuple(
        Band(
            path=band_path(
                (x(m.producer_at), x(m.producer_at + m.tokens)),
                TOP + STRIP,
                (x(m.consumer_at), x(m.consumer_at + m.tokens)),
                bottom,
            ),
            colour=colours[m.producer_block],
            title=_move_title(m),
        )
        for m in group.moves
    )
    labels = [
        Label(x=0, y=TOP + 16, text="prefill", style="side"),
        Label(x=0, y=bottom + 16, text="decode", style="side"),
        *_marks(plan, start, end, bottom + STRIP, x),
    ]
    return Figure(
        name=f"which {group.name} blocks hold the request's tokens",
        width=WIDTH + 2,
        height=bottom + STRIP + 40,
        boxes=tuple(boxes),
        bands=bands,
        labels=tuple(labels),
    )


def _block(
    engine: EngineView, entry: int, number: int, colour: str, y: float, x: Callable[[int], float]
) -> Box:
    first = entry * engine.block_tokens
    left, right = x(first), x(first + engine.block_tokens)
    label = f"block {number}"
    label = label if right - left >= 6.5 * len(label) else str(number)
    return Box(
        x=left,
        y=y,
        width=right - left,
        height=STRIP,
        colour=colour,
        label=label if colour and right - left >= 7 * len(label) + 4 else "",
        title=f"{engine.name} block {number}: tokens {first:,} to "
        f"{first + engine.block_tokens - 1:,}",
        style="" if colour else "frame",
    )


def _marks(
    plan: PlanView, start: int, end: int, y: float, x: Callable[[int], float]
) -> list[Label]:
    """The prompt's end, what decode has cached, and the first token shown where there is room."""
    marks = {plan.prompt_tokens: f"prompt ends at {plan.prompt_tokens:,}"}
    if plan.cached_tokens > start:
        marks[plan.cached_tokens] = f"cached up to {plan.cached_tokens:,}"
    labels = [
        Label(x=x(token), y=y + 18, text=text, style="last" if x(token) > WIDTH - 70 else "mark")
        for token, text in marks.items()
        if start <= token <= end
    ]
    if all(label.x > LEFT + 150 for label in labels):
        labels.append(Label(x=LEFT, y=y + 18, text=f"token {start:,}", style="first"))
    return labels


def _move_title(move: Move) -> str:
    last = move.producer_at + move.tokens - 1
    return (
        f"tokens {move.producer_at:,} to {last:,}: prefill block {move.producer_block} "
        f"to decode block {move.consumer_block}"
    )


def loads(plan: PlanView) -> Figure:
    """The bytes that each consumer rank reads, by the producer rank that they come from."""
    most = max((rank.bytes for rank in plan.ranks), default=0) or 1
    boxes, labels = [], []
    for row, rank in enumerate(plan.ranks):
        y, x = 4.0 + row * 26.0, LEFT
        labels.append(
            Label(x=0, y=y + 14, text=rank_name(plan.consumer, rank.consumer), style="side")
        )
        for source in rank.sources:
            width = source.bytes / most * (WIDTH - LEFT - 150)
            boxes.append(
                Box(
                    x=x,
                    y=y,
                    width=width,
                    height=20,
                    colour=f"o{source.producer[1]}",
                    label="",
                    title=f"decode rank {rank_name(plan.consumer, rank.consumer)} from prefill "
                    f"rank {rank_name(plan.producer, source.producer)}: {source.bytes:,} bytes, "
                    f"{source.descriptors:,} descriptors",
                )
            )
            x += width
        labels.append(Label(x=x + 8, y=y + 14, text=f"{rank.bytes:,} bytes", style="first"))
    return Figure(
        name="bytes that each decode rank reads",
        width=WIDTH + 2,
        height=8 + 26.0 * len(plan.ranks),
        boxes=tuple(boxes),
        bands=(),
        labels=tuple(labels),
    )
