"""A plan for people: who reads what from whom, what a request costs, who is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from oracle.planning.names import listed_numbers, rank_name, rank_names, span
from oracle.planning.view import EngineView, GroupView, Pattern, PlanView, Rank, RankView, Read
from oracle.reports.columns import table


def print_plan(console: Console, plan: PlanView) -> None:
    """Print every section of a plan, a blank line between two."""
    for number, section in enumerate(sections(plan)):
        if number:
            console.print()
        for part in section:
            console.print(part)


def sections(plan: PlanView) -> list[list[RenderableType]]:
    """What is printed, as lines and tables, section by section."""
    return [
        [
            _line(
                f"{plan.model}: prefill TP {plan.producer.tp} to decode TP {plan.consumer.tp}",
                style="bold",
            ),
            _line(f"sizes from {plan.source}"),
        ],
        _engines(plan),
        *(_group(plan, group) for group in plan.groups),
        _request(plan),
        _notifications(plan),
    ]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style)


def _engines(plan: PlanView) -> list[RenderableType]:
    sides = (plan.producer, plan.consumer)
    made = table("", *(side.name for side in sides))
    rows = {
        "tensor parallel": [str(e.tp) for e in sides],
        "pipeline stages": [_stages(e) for e in sides],
        "layout": [f"{e.layout}, {e.placement}" for e in sides],
        "block": [_tokens(e.block_tokens) for e in sides],
        "kernel block": [_tokens(e.kernel_tokens) for e in sides],
        "physical blocks per logical": [f"{e.physical_per_logical:,}" for e in sides],
        "blocks on a rank": [f"{e.num_blocks:,}" for e in sides],
    }
    for name, cells in rows.items():
        made.add_row(name, *cells)
    return [made, _line(ratio_line(plan))]


def _stages(engine: EngineView) -> str:
    """How many, and the layers of each up to the last that caches something."""
    count = len(engine.stage_layers)
    layers = ", ".join(str(number) for number in engine.stage_layers)
    return "1" if count == 1 else f"{count} of {layers} layers"


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def ratio_line(plan: PlanView) -> str:
    """How the blocks of the two sides compare, and what moves as one."""
    ours, theirs = plan.consumer, plan.producer
    return (
        f"blocks {theirs.block_tokens:,} to {ours.block_tokens:,} tokens, kernel blocks "
        f"{theirs.kernel_tokens:,} to {ours.kernel_tokens:,}: {_tokens(plan.unit_tokens)} move "
        f"as one unit"
    )


def group_facts(group: GroupView) -> str:
    """A group's layers, its window, and its parts with their units."""
    window = "" if group.window is None else f", window {_tokens(group.window)}"
    per = "state" if group.is_state else "token"
    sizes: dict[tuple[int, int], list[str]] = {}
    for part in group.parts:
        sizes.setdefault((part.units, part.unit_bytes), []).append(part.name)
    parts = "; ".join(
        f"{' and '.join(names)} {units:,} x {size:,} bytes a {per}"
        for (units, size), names in sizes.items()
    )
    layers = f"{group.layers} layer{'' if group.layers == 1 else 's'}"
    return f"{layers}{window}; {parts}"


def _group(plan: PlanView, group: GroupView) -> list[RenderableType]:
    """The reads of a group; parts that are read alike share a row."""
    shown: list[RenderableType] = [_line(f"{group.name}: {group_facts(group)}", style="bold")]
    if not group.patterns:
        shown.append(_line("nothing is read: decode has all of it"))
    for pattern in group.patterns:
        if len(plan.producer.stage_layers) * len(plan.consumer.stage_layers) > 1:
            pairs = ", ".join(f"{p} to {c} ({layers})" for p, c, layers in pattern.stages)
            shown.append(_line(f"from prefill stage to decode stage (layers): {pairs}"))
        numbers = ("decode", "slot", "byte", "prefill", "slot", "byte")
        made = table("part", "unit", *numbers, right=numbers)
        for reads in alike(pattern.reads):
            first = reads[0]
            part = group.parts[first.part]
            unit = part.producer_first[first.producer] + first.take
            made.add_row(
                ", ".join(_name(group, read) for read in reads),
                span(unit, first.count),
                str(first.consumer),
                span(first.put, first.count),
                ", ".join(f"{read.target_offset:,}" for read in reads),
                str(first.producer),
                span(first.take, first.count),
                ", ".join(f"{read.source_offset:,}" for read in reads),
            )
        shown.append(made)
        if unread := unread_ranks(group, pattern):
            why = ": copies" if are_copies(group, pattern, unread) else ""
            shown.append(_line(f"nothing is read from prefill {listed_numbers(unread)}{why}"))
    return shown


def unread_ranks(group: GroupView, pattern: Pattern) -> tuple[int, ...]:
    """The producer ranks from which nothing of a group is read."""
    read = {r.producer for r in pattern.reads}
    ranks = range(len(group.parts[0].producer_first))
    return tuple(rank for rank in ranks if rank not in read)


def are_copies(group: GroupView, pattern: Pattern, ranks: Sequence[int]) -> bool:
    """Whether each rank holds the units of one that is read."""
    read = {r.producer for r in pattern.reads}
    return all(
        any(
            all(part.producer_first[rank] == part.producer_first[r] for part in group.parts)
            for r in read
        )
        for rank in ranks
    )


def _name(group: GroupView, read: Read) -> str:
    """The part that is filled, and the one it comes from where that is another."""
    filled, taken = group.parts[read.part].name, group.parts[read.from_part].name
    return filled if filled == taken else f"{filled} from {taken}"


def alike(reads: Iterable[Read]) -> list[tuple[Read, ...]]:
    """Reads of several parts that differ in nothing but where in a block the parts lie."""
    found: dict[tuple[int, ...], list[Read]] = {}
    for r in reads:
        key = (r.consumer, r.put, r.producer, r.take, r.count, r.part == r.from_part)
        found.setdefault(key, []).append(r)
    return [tuple(of) for of in found.values()]


def _request(plan: PlanView) -> list[RenderableType]:
    cached = f", {plan.cached_tokens:,} of them cached by decode" if plan.cached_tokens else ""
    numbers = ("bytes", "descriptors", "rows prepared")
    made = table("decode", "from prefill", *numbers, right=numbers)
    for rank in plan.ranks:
        for number, source in enumerate(rank.sources):
            made.add_row(
                rank_name(plan.consumer, rank.consumer) if number == 0 else "",
                rank_name(plan.producer, source.producer),
                f"{source.bytes:,}",
                f"{source.descriptors:,}",
                f"{source.rows:,} and {source.producer_rows:,}",
            )
    made.add_section()
    made.add_row("all", "", f"{total_bytes(plan.ranks):,}", f"{descriptors(plan.ranks):,}", "")
    title = f"one request of {_tokens(plan.prompt_tokens)}{cached}"
    return [_line(title, style="bold"), made]


def total_bytes(ranks: Iterable[RankView]) -> int:
    return sum(rank.bytes for rank in ranks)


def descriptors(ranks: Iterable[RankView]) -> int:
    return sum(rank.descriptors for rank in ranks)


def _notifications(plan: PlanView) -> list[RenderableType]:
    return [_line("notifications", style="bold"), *(_line(note) for note in notes(plan))]


def notes(plan: PlanView) -> list[str]:
    """Who tells whom that a request has been read, and when its blocks are free."""
    told: dict[tuple[Rank, ...], list[Rank]] = {}
    for rank in plan.ranks:
        told.setdefault(rank.notifies, []).append(rank.consumer)
    lines = [
        f"decode {rank_names(plan.consumer, consumers)} tell{_s(consumers)} "
        f"prefill {rank_names(plan.producer, producers)}"
        for producers, consumers in told.items()
    ]
    counts: dict[int, list[Rank]] = {}
    for rank, count in plan.awaited:
        counts.setdefault(count, []).append(rank)
    lines += [
        f"prefill {rank_names(plan.producer, ranks)} free{_s(ranks)} a request "
        f"after {count:,} notification{'' if count == 1 else 's'}"
        for count, ranks in counts.items()
    ]
    return lines


def _s(ranks: Sequence[Rank]) -> str:
    return "s" if len(ranks) == 1 else ""
