"""Property ``lowering``: a lowered program does what the program does, through any cache."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import lowering_case, program_case
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import ProgramCase

from .shares import SHARES, STOCK, known_stream, share_lines, stock_lines

FX = ("unwrapped", "fx-unlowered", "fx-cold", "fx-uncached", "fx-warm")
ROUTES = (*FX, "fx-inplace", "fx-blind", "fx-perturbed", "backend", "inductor", *STOCK)
CALLS, CALLS_IN_FULL = 600, 60_000
OTHERS, OTHERS_IN_FULL = 300, 40_000
PERTURBED, PERTURBED_IN_FULL = 40, 600
MOST_SPURIOUS = 5
"""Percent of all look-ups, cold and warm, that may trace what lies there under another key."""


def _calls(label: str, seed: int, index: int) -> ProgramCase:
    return lowering_case(SeededChooser(seed, "lowering", label, index))


def _others(label: str, seed: int, index: int) -> ProgramCase:
    return program_case(SeededChooser(seed, "lowering", label, index))


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Programs with several calls of the IR, others, and one call beside its neighbours."""
    made: list[Stream] = []
    for name, draw, count, in_full in (
        ("calls", _calls, CALLS, CALLS_IN_FULL),
        ("others", _others, OTHERS, OTHERS_IN_FULL),
    ):
        for share in SHARES:
            label = f"{name}{share.label}"
            routes = (*FX, "eager", *share.lowering, *share.routes)
            made.append(
                Stream(
                    name=label,
                    op=op,
                    dtype="",
                    count=share.of(count),
                    in_full=share.of(in_full, full=True),
                    case=functools.partial(draw, label),
                    routes=routes,
                )
            )
    made.append(
        Stream(
            name="perturbed",
            op=op,
            dtype="",
            count=PERTURBED,
            in_full=PERTURBED_IN_FULL,
            case=functools.partial(_calls, "perturbed"),
            routes=("fx-perturbed", *FX),
        )
    )
    return (*made, known_stream(op))


def lookups(measures: Mapping[str, int]) -> int:
    return measures.get("hits", 0) + measures.get("misses", 0)


def spurious(measures: Mapping[str, int]) -> dict[str, int]:
    """How often each factor of a key made a trace that an equal one made needless."""
    named = {k.removeprefix("spurious "): n for k, n in measures.items() if k[:9] == "spurious "}
    return dict(sorted(named.items(), key=lambda each: -each[1]))


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """Shares of routes, what the cache did, and the factors that keys need not have held."""
    found = spurious(measures)
    seen = lookups(measures)
    cold = measures.get("cold look-ups", 0)
    share = 100 * sum(found.values()) / seen if seen else 0.0
    of_cold = 100 * sum(found.values()) / cold if cold else 0.0
    factors = ", ".join(f"{name} {number:,}" for name, number in found.items()) or "none"
    if not seen and not measures.get("perturbed", 0):
        return share_lines(measures)
    return (
        *share_lines(measures),
        *stock_lines("lowering", measures),
        f"cache: {seen:,} look-ups, {measures.get('misses', 0):,} traced, "
        f"{measures.get('perturbed', 0):,} pairs of calls that differ in one factor",
        f"traced though an equal graph lay under another key: {share:.1f} % of all look-ups, "
        f"{of_cold:.1f} % of the {cold:,} in a cache that was empty ({factors})",
    )


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """At most 5 % of look-ups are spurious misses."""
    seen, wrong = lookups(measures), sum(spurious(measures).values())
    if seen and 100 * wrong > MOST_SPURIOUS * seen:
        share = 100 * wrong / seen
        return (
            f"lowering: {share:.1f} % of look-ups traced again what lay there under another key, "
            f"at most {MOST_SPURIOUS} % wanted",
        )
    return ()


LOWERING = Property(
    name="lowering",
    claim="a lowered program does what the program does: any cache, any route, legal graphs",
    kind="program",
    judges=(
        "program-completion",
        "program-values",
        "program-routes",
        "program-steps",
        "program-inputs",
        "program-layout",
        "program-aliases",
        "program-graph",
        "program-cache",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    in_passing=0.05,
    summary=summary,
    demands=demands,
)
