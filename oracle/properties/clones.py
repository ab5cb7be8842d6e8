"""Property ``clones``: nobody can tell that a clone is gone, and hardly one stays needlessly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from fuzz.chooser import Chooser, SeededChooser
from fuzz.strategies.programs import (
    copied_over_case,
    needed_clones_case,
    program_case,
    removable_clone_case,
)
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import ProgramCase

from .shares import SHARES, STOCK, known_stream, share_lines, stock_lines

FX = ("fx-pass", "fx-cold", "fx-uncached", "fx-warm")
ROUTES = (*FX, "fx-blind", "backend", "inductor", *STOCK)
MIXED, REMOVABLE, NEEDED = 900, 600, 600
MIXED_IN_FULL, OTHERS_IN_FULL = 60_000, 20_000
COPIED_OVER, COPIED_OVER_IN_FULL = 100, 2_000
LEAST = 98
"""Percent of what the optimum removes that must be removed."""
ENOUGH = 500
"""Programs with a removable clone below which a run does not say how much is removed."""
WITH, WITHOUT = "programs with a removable clone", "programs with none"
"""What is counted, beside the clones."""

Draw = Callable[[Chooser], ProgramCase]


def _drawn(draw: Draw, label: str, seed: int, index: int) -> ProgramCase:
    return draw(SeededChooser(seed, "clones", label, index))


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Any programs, some with a clone that can go, some with needed ones, some with copies."""
    made: list[Stream] = []
    kinds: tuple[tuple[str, Draw, int, int], ...] = (
        ("mixed", program_case, MIXED, MIXED_IN_FULL),
        ("removable", removable_clone_case, REMOVABLE, OTHERS_IN_FULL),
        ("needed", needed_clones_case, NEEDED, OTHERS_IN_FULL),
        ("copied-over", copied_over_case, COPIED_OVER, COPIED_OVER_IN_FULL),
    )
    for name, draw, count, in_full in kinds:
        for share in SHARES:
            label = f"{name}{share.label}"
            made.append(
                Stream(
                    name=label,
                    op=op,
                    dtype="",
                    count=share.of(count),
                    in_full=share.of(in_full, full=True),
                    case=functools.partial(_drawn, draw, label),
                    routes=(*FX, "eager", *share.clones, *share.routes),
                )
            )
    return (*made, known_stream(op))


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """Shares of routes, and how much was removed of what can be."""
    removable, removed = measures.get("removable", 0), measures.get("removed", 0)
    kept = {k.removeprefix("kept "): n for k, n in measures.items() if k[:5] == "kept "}
    share = f"{100 * removed / removable:.1f} %" if removable else "nothing"
    reasons = ", ".join(f"{why} {n:,}" for why, n in sorted(kept.items(), key=lambda e: -e[1]))
    if not {WITH, WITHOUT} & set(measures):
        # Only our own passes are held to the optimum: a user's need not be one for clones.
        return share_lines(measures)
    return (
        *share_lines(measures),
        *stock_lines("clones", measures),
        f"removed {removed:,} of {removable:,} clones that can go ({share}), in "
        f"{measures.get(WITH, 0):,} programs that have one",
        f"removed {measures.get('removed of none', 0):,} in "
        f"{measures.get(WITHOUT, 0):,} programs that have none",
        *((f"kept where the optimum has more: {reasons}",) if reasons else ()),
    )


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """At least 98 % of what can go is removed, and nothing where nothing can."""
    found: list[str] = []
    removable, removed = measures.get("removable", 0), measures.get("removed", 0)
    if measures.get(WITH, 0) >= ENOUGH and 100 * removed < LEAST * removable:
        found.append(
            f"clones: {100 * removed / removable:.1f} % of what can go is removed, "
            f"at least {LEAST} % wanted"
        )
    if wrong := measures.get("removed of none", 0):
        found.append(f"clones: {wrong} removed in programs in which none can go, 0 wanted")
    return tuple(found)


CLONES = Property(
    name="clones",
    claim="nobody can tell that a clone is gone, and hardly one stays needlessly",
    kind="program",
    judges=(
        "program-completion",
        "program-values",
        "program-routes",
        "program-inputs",
        "program-layout",
        "program-aliases",
        "program-graph",
        "program-cache",
        "program-clones",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    in_passing=0.03,
    summary=summary,
    demands=demands,
)
