"""Property ``state``: what providers keep is made once, kept apart, and the same compiled."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from fuzz.chooser import SeededChooser
from fuzz.strategies.states import state_case
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import StateCase
from reference.model.state import VERBS

EAGER = ("eager", "unwrapped")
ROUTES = (*EAGER, "backend")
SCRIPTS, SCRIPTS_IN_FULL = 700, 40_000
COMPILED, COMPILED_IN_FULL = 30, 600


def _script(seed: int, index: int) -> StateCase:
    return state_case(SeededChooser(seed, "state", "scripts", index))


def _compiled(seed: int, index: int) -> StateCase:
    return state_case(SeededChooser(seed, "state", "compiled", index), compiled=True)


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Scripts of any kind, and scripts about models, which are compiled too."""
    return (
        Stream(
            name="scripts",
            op=op,
            dtype="",
            count=SCRIPTS,
            in_full=SCRIPTS_IN_FULL,
            case=_script,
            routes=EAGER,
        ),
        Stream(
            name="compiled",
            op=op,
            dtype="",
            count=COMPILED,
            in_full=COMPILED_IN_FULL,
            case=_compiled,
            routes=ROUTES,
        ),
    )


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """How often each action was done, how much of it was refused, and what was compiled."""
    did = {verb: measures.get(f"did {verb}", 0) for verb in VERBS}
    total = sum(did.values())
    if not total:
        return ()
    shown = ", ".join(f"{verb} {n:,}" for verb, n in sorted(did.items(), key=lambda e: -e[1]))
    lines = [f"{total:,} actions, {measures.get('refused', 0):,} of them refused: {shown}"]
    if measures.get("route backend"):
        lines.append(
            f"{measures['route backend']:,} scripts compiled: "
            f"{measures.get('graphs', 0):,} graphs, "
            f"{measures.get('compiled steps', 0):,} steps, "
            f"{measures.get('clones removed', 0):,} clones of states gone"
        )
    return tuple(lines)


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """Each script that is compiled gives a graph, and some of them write states."""
    scripts, graphs = (measures.get(n, 0) for n in ("route backend", "graphs"))
    if graphs < scripts:
        return (f"state: {graphs:,} graphs from {scripts:,} compiled scripts; wanted: 1 from each",)
    if scripts and not measures.get("clones removed"):
        return ("state: no compiled graph wrote a state; wanted: some",)
    return ()


STATE = Property(
    name="state",
    claim=(
        "implementation state is made once and lazily, belongs to its scope, thread and task, "
        "keeps its memory, and is the same compiled; what a seal forbids is refused"
    ),
    judges=(
        "state-refusal",
        "state-creation",
        "state-identity",
        "state-values",
        "state-isolation",
        "state-facts",
        "state-addresses",
        "state-clones",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    kind="state",
    in_passing=0.1,
    summary=summary,
    demands=demands,
)
