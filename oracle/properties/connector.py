"""Property ``connector``: a KV connector is called in order, moves its bytes, and fails its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from fuzz.chooser import Chooser, SeededChooser
from fuzz.strategies.connectors import (
    by_hand_case,
    compiled_case,
    connector_case,
    generated_case,
    refused_case,
)
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import ConnectorCase

ROUTES = ("run", "compiled", "compiled-inductor")
SERVED, SERVED_IN_FULL = 480, 20_000
BY_HAND, BY_HAND_IN_FULL = 160, 5_000
REFUSED, REFUSED_IN_FULL = 16, 100
COMPILED, COMPILED_IN_FULL = 22, 300
INDUCTOR, INDUCTOR_IN_FULL = 8, 60
MODES = ("eager", "piecewise", "full")

Draw = Callable[[Chooser], ConnectorCase]


def _drawn(draw: Draw, label: str, seed: int, index: int) -> ConnectorCase:
    return draw(SeededChooser(seed, "connector", label, index))


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Served schedules, steps called by hand, what must be refused, and compiled models."""
    kinds: tuple[tuple[str, Draw, int, int, str], ...] = (
        ("served", connector_case, SERVED, SERVED_IN_FULL, "run"),
        ("by-hand", by_hand_case, BY_HAND, BY_HAND_IN_FULL, "run"),
        ("refused", refused_case, REFUSED, REFUSED_IN_FULL, "run"),
        ("compiled", compiled_case, COMPILED, COMPILED_IN_FULL, "compiled"),
        ("inductor", generated_case, INDUCTOR, INDUCTOR_IN_FULL, "compiled-inductor"),
    )
    return tuple(
        Stream(
            name=name,
            op=op,
            dtype="",
            count=count,
            in_full=in_full,
            case=functools.partial(_drawn, draw, name),
            routes=(route,),
            # One compiled model serves all of them.
            together=route != "run",
        )
        for name, draw, count, in_full, route in kinds
    )


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """How much was driven: modes, hooks, moves, failures."""

    def number(name: str) -> str:
        return f"{measures.get(name, 0):,}"

    modes = ", ".join(f"{number(f'mode {mode}')} {mode}" for mode in MODES)
    return (
        f"workers: {modes}, {number('workers refused')} refused; "
        f"{number('hooks')} hooks called, {number('hooks replayed')} replayed in graphs",
        f"{number('steps serve')} real steps and {number('steps dummy')} dummy runs, "
        f"{number('slots')} slots of KV compared; "
        f"{number('loaded')} loads, {number('saved')} saves, {number('failed')} failures, "
        f"{number('entries damaged')} entries damaged, {number('deaths')} deaths in a save",
        f"{number('calls by hand')} calls by hand, {number('calls refused')} of them refused",
    )


CONNECTOR = Property(
    name="connector",
    claim="a KV connector's hooks run in order, replayed or not; bytes are exact, failures its own",
    kind="connector",
    judges=(
        "connector-completion",
        "connector-hooks",
        "connector-metadata",
        "connector-kv",
        "connector-store",
        "connector-requests",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    in_passing=0.02,
    summary=summary,
)
