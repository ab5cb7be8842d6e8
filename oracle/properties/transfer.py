"""Property ``transfer``: every byte lands where it must, once, and everyone hears of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

from fuzz.chooser import SeededChooser
from fuzz.lattices.tp import (
    POINTS,
    REFUSED,
    admitted,
    lattice_case,
    lattice_size,
    proof_case,
)
from fuzz.strategies.refused_transfers import RULES, refused_case
from fuzz.strategies.transfers import transfer_case
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import FAULTS, TransferCase

RUN = ("planned", "memory")
ENGINES = ("nixl", "nixl-tcp")
ROUTES = (*RUN, "proved", *ENGINES)
RANDOM, RANDOM_IN_FULL = 1_000, 10_500
EACH_REFUSAL, EACH_REFUSAL_IN_FULL = 10, 60
LATTICE = 1_500
PROOFS = 40
BETWEEN, BETWEEN_IN_FULL = 25, 220
PROVED_SHARE = 95
"""Percent of the topologies asked for that a run must prove."""


def _random(seed: int, index: int) -> TransferCase:
    return transfer_case(SeededChooser(seed, "transfer", "random", index))


def _refused(seed: int, index: int) -> TransferCase:
    chooser = SeededChooser(seed, "transfer", "refused", index)
    return refused_case(chooser, RULES[index % len(RULES)])


def _lattice(_seed: int, index: int) -> TransferCase:
    return lattice_case(index)


def _between(seed: int, index: int) -> TransferCase:
    """One request between engines in processes; every fourth case has a fault."""
    chooser = SeededChooser(seed, "transfer", "engines", index)
    fault = FAULTS[index // 4 % len(FAULTS)] if index % 4 == 3 else ""
    while True:
        case = transfer_case(chooser)
        moved = any(r.cached_tokens < r.prompt_tokens for r in case.requests[:1])
        if moved or not fault:
            # Where nothing moves there is no flight to strike.
            return replace(case, requests=case.requests[:1], fault=fault, push=index // 2 % 2 == 1)


def _proof(_seed: int, index: int) -> TransferCase:
    return proof_case(index)


@functools.cache
def streams(op: str, _dtype: str) -> tuple[Stream, ...]:
    """Random transfers, broken ones, and the lattice of topologies, whole in a full budget."""
    return (
        Stream(
            name="random",
            op=op,
            dtype="",
            count=RANDOM,
            in_full=RANDOM_IN_FULL,
            case=_random,
            routes=RUN,
        ),
        Stream(
            name="refused",
            op=op,
            dtype="",
            count=EACH_REFUSAL * len(RULES),
            in_full=EACH_REFUSAL_IN_FULL * len(RULES),
            case=_refused,
            routes=RUN,
        ),
        Stream(
            name="lattice",
            op=op,
            dtype="",
            count=LATTICE,
            in_full=lattice_size(),
            case=_lattice,
            routes=("planned",),
        ),
        Stream(
            name="proofs",
            op=op,
            dtype="",
            count=PROOFS,
            in_full=len(admitted()),
            case=_proof,
            routes=("proved",),
        ),
        Stream(
            name="engines",
            op=op,
            dtype="",
            count=BETWEEN,
            in_full=BETWEEN_IN_FULL,
            case=_between,
            routes=ENGINES,
        ),
    )


def summary(measures: Mapping[str, int]) -> tuple[str, ...]:
    """How much was compared, and how much of the lattice was looked at."""
    points, refused = (measures.get(n, 0) for n in ("lattice points", "topologies refused"))
    lines = []
    if measures.get("transfers"):
        lines.append(
            f"{measures['transfers']:,} transfers moved, "
            f"{measures.get('bytes', 0):,} bytes of consumers compared"
        )
    if points or refused:
        lines.append(
            f"lattice: {points:,} of {POINTS:,} points, "
            f"{refused:,} of {REFUSED:,} topologies to be refused"
        )
    if measures.get("between engines"):
        lines.append(
            f"{measures['between engines']:,} transfers between processes, "
            f"{measures.get('faults', 0):,} of them with a fault"
        )
    asked = measures.get("plans to prove", 0)
    if asked:
        lines.append(
            f"{measures.get('plans proved', 0):,} of {asked:,} topologies proved for all sizes, "
            f"{measures.get('claims', 0):,} claims"
        )
        lines.append(
            f"{measures.get('ways', 0):,} ways through the planner, each at sizes that exist; "
            f"{measures.get('ways never taken', 0):,} that no sizes take"
        )
    return tuple(lines)


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """Proofs that come out unknown are counted, and must be few."""
    asked, proved = (measures.get(n, 0) for n in ("plans to prove", "plans proved"))
    if 100 * proved >= PROVED_SHARE * asked:
        return ()
    return (f"{proved:,} of {asked:,} topologies proved; wanted: {PROVED_SHARE} %",)


TRANSFER = Property(
    name="transfer",
    claim=(
        "KV that moves between unlike engines lands whole, once, in place, or is refused; "
        f"a full budget takes the whole lattice of topologies ({POINTS:,} points)"
    ),
    judges=(
        "transfer-refusal",
        "transfer-bytes",
        "transfer-outside",
        "transfer-once",
        "transfer-protocol",
        "transfer-proof",
        "transfer-engines",
    ),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    kind="transfer",
    in_passing=0.2,
    summary=summary,
    demands=demands,
)
