"""Property ``addresses``: a captured graph repeats its function, on memory that is its owners'."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import (
    called_case,
    drawn_case,
    padded_case,
    refused_case,
    shared_case,
)
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model.capture import CaptureCase
from reference.replays import TRAPS

PLAIN = ("host", "cuda")
ROUTES = ("host", "compiled", "cuda")
DRAWN, DRAWN_IN_FULL = 330, 12_000
CALLED, CALLED_IN_FULL = 90, 3_000
PADDED, PADDED_IN_FULL = 170, 6_000
EACH_TRAP, EACH_TRAP_IN_FULL = 2, 10
SHARED, SHARED_IN_FULL = 15, 200
COMPILED, COMPILED_IN_FULL = 30, 300
IN_PASSING = 0.1


def _drawn(label: str, seed: int, index: int) -> CaptureCase:
    return drawn_case(SeededChooser(seed, "addresses", label, index))


def _called(seed: int, index: int) -> CaptureCase:
    return called_case(SeededChooser(seed, "addresses", "called", index))


def _padded(seed: int, index: int) -> CaptureCase:
    return padded_case(SeededChooser(seed, "addresses", "padded", index))


def _refused(seed: int, index: int) -> CaptureCase:
    """Each trap in turn. A run that takes a few in passing goes on where the seed before ended."""
    traps = tuple(TRAPS)
    few = math.ceil(IN_PASSING * EACH_TRAP * len(traps))
    chooser = SeededChooser(seed, "addresses", "refused", index)
    return refused_case(chooser, traps[(index + few * seed) % len(traps)])


def _shared(seed: int, index: int) -> CaptureCase:
    return shared_case(SeededChooser(seed, "addresses", "shared", index))


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Functions drawn, some that call ops of the IR, batches, what must be refused, compiled."""
    made = (
        ("drawn", DRAWN, DRAWN_IN_FULL, functools.partial(_drawn, "drawn"), PLAIN),
        ("called", CALLED, CALLED_IN_FULL, _called, PLAIN),
        ("padded", PADDED, PADDED_IN_FULL, _padded, PLAIN),
        ("refused", EACH_TRAP * len(TRAPS), EACH_TRAP_IN_FULL * len(TRAPS), _refused, PLAIN),
        ("shared", SHARED, SHARED_IN_FULL, _shared, PLAIN),
        (
            "compiled",
            COMPILED,
            COMPILED_IN_FULL,
            functools.partial(_drawn, "compiled"),
            ("compiled",),
        ),
    )
    return tuple(
        Stream(name=name, op=op, dtype="", count=count, in_full=in_full, case=case, routes=routes)
        for name, count, in_full, case, routes in made
    )


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """How much was captured and replayed, and how much was refused, by whom."""
    if not measures.get("captured") and not measures.get("captures refused"):
        return ()
    by = ", ".join(
        f"{measures.get(f'refused by {family}', 0):,} by {name}"
        for family, name in (
            ("ledger", "the ledger"), ("inputs", "their inputs"), ("seal", "the seal")
        )
    )  # fmt: skip
    return (
        f"{measures.get('captured', 0):,} functions captured, "
        f"{measures.get('captures refused', 0):,} refused; {measures.get('replays', 0):,} replays, "
        f"{measures.get('batches', 0):,} of them of a padded batch, "
        f"{measures.get('beside compiled', 0):,} beside compiled graphs; refused: {by}",
    )


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """On route ``compiled``, most replays stand beside compiled graphs that did run."""
    replays, beside = (measures.get(n, 0) for n in ("compiled replays", "beside compiled"))
    if 2 * beside < replays:
        text = f"{beside:,} of {replays:,} replays of route compiled stood beside a compiled graph"
        return (f"addresses: {text}; wanted: half",)
    return ()


ADDRESSES = Property(
    name="addresses",
    claim=(
        "a captured graph replays what its function does, on memory that owners still hold; "
        "padding and held results stay unharmed, and what it would not repeat is refused"
    ),
    judges=(
        "capture-completion",
        "capture-refusal",
        "capture-values",
        "capture-eager",
        "capture-layout",
        "capture-memory",
        "capture-padding",
        "capture-held",
        "capture-ledger",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    kind="capture",
    in_passing=IN_PASSING,
    summary=summary,
    demands=demands,
)
