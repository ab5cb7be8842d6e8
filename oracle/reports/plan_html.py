"""A plan as one HTML file: the same facts as the text, and drawn. Needs no network to be read."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, StrictUndefined

from oracle.planning.block_strips import blocks, loads
from oracle.planning.shapes import Figure
from oracle.planning.slot_strips import heads
from oracle.planning.view import GroupView, PlanView
from oracle.reports.plan_text import descriptors, group_facts, notes, ratio_line, total_bytes

HUES = (255, 50, 150, 350, 300, 95, 205, 25)
"""OKLCH hues, in degrees, that stay apart; more ranks than these share the circle evenly."""


def plan_to_html(plan: PlanView) -> str:
    """The page, complete in itself: styles and pictures inside, no script."""
    text = resources.files("oracle.reports").joinpath("plan_html.tmpl").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render(
        plan=plan,
        ratio=ratio_line(plan),
        groups=[(group, group_facts(group), _figures(plan, group)) for group in plan.groups],
        loads=loads(plan),
        total=total_bytes(plan.ranks),
        descriptors=descriptors(plan.ranks),
        notes=notes(plan),
        hues=[hue(rank, plan.producer.tp) for rank in range(plan.producer.tp)],
    )


def hue(rank: int, ranks: int) -> int:
    """The hue of a producer rank's bytes, in degrees."""
    return HUES[rank] if ranks <= len(HUES) else round(360 * rank / ranks)


def _figures(plan: PlanView, group: GroupView) -> list[tuple[str, Figure]]:
    """The pictures of a group, each with what it says."""
    found = []
    for pattern in group.patterns:
        several = len(plan.producer.stage_layers) * len(plan.consumer.stage_layers) > 1
        stages = ", ".join(f"{p} to {c}" for p, c, _ in pattern.stages)
        caption = "Slots of each rank, a band for each read. Numbers are units of the whole model."
        caption += f" Prefill stage to decode stage: {stages}." if several else ""
        found.append((caption, heads(plan, group, pattern)))
    if group.moves and not group.is_state:
        shown = len(group.moves)
        which = f"all {shown}" if shown == group.units else f"the last {shown} of {group.units:,}"
        caption = f"Blocks by the prompt's tokens: {which} units that move, in every layer. "
        caption += "Shades tell one prefill block from the next."
        found.append((caption, blocks(plan, group)))
    return found
