"""Property ``transfer``: every byte lands where it must, once, and everyone hears of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

from fuzz.chooser import SeededChooser
from fuzz.lattices.copies import copy_case, copy_count
from fuzz.lattices.tp import (
    POINTS,
    REFUSED,
    admitted,
    lattice_case,
    lattice_size,
    proof_case,
    split_case,
    split_count,
)
from fuzz.strategies.refused_transfers import RULES, refused_case
from fuzz.strategies.transfers import transfer_case
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.model import FAULTS, TransferCase

RUN = ("planned", "memory")
ENGINES = ("nixl", "nixl-tcp")
PROVED = ("proved", "proved-split", "proved-copy")
ROUTES = (*RUN, *PROVED, *ENGINES)
RANDOM, RANDOM_IN_FULL = 1_000, 10_500
EACH_REFUSAL, EACH_REFUSAL_IN_FULL = 10, 60
LATTICE = 1_500
PROOFS, SPLITS, COPIES = 40, 200, 10
BETWEEN, BETWEEN_IN_FULL = 25, 220


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


def _split(_seed: int, index: int) -> TransferCase:
    return split_case(index)


def _copy(_seed: int, index: int) -> TransferCase:
    return copy_case(index)


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
            name="splits",
            op=op,
            dtype="",
            count=SPLITS,
            in_full=split_count(),
            case=_split,
            routes=("proved-split",),
        ),
        Stream(
            name="copies",
            op=op,
            dtype="",
            count=COPIES,
            in_full=copy_count(),
            case=_copy,
            routes=("proved-copy",),
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
    for what, text in PROOFS_OF.items():
        asked = measures.get(f"{what} to prove", 0)
        if asked:
            lines.append(f"{measures.get(f'{what} proved', 0):,} of {asked:,} {text}")
    if measures.get("claims"):
        lines.append(f"{measures['claims']:,} claims in these proofs")
    if measures.get("ways"):
        lines.append(
            f"{measures['ways']:,} ways through the planner, each at sizes that exist; "
            f"{measures.get('ways never taken', 0):,} that no sizes take"
        )
    return tuple(lines)


PROOFS_OF = {
    "plans": "topologies proved from end to end, for two layers of a group and all sizes",
    "splits": "topologies and kinds shown to read every unit once, from a rank that has it",
    "copies": "layouts, kinds and block ratios proved for two layers, any two ranks, all sizes",
}


def demands(measures: Mapping[str, int]) -> tuple[str, ...]:
    """What is to be proved is a fixed set, all of which can be: one that comes out unknown is
    either a fault or a planner that asks what symbols cannot answer."""
    found = []
    for what, text in PROOFS_OF.items():
        asked, proved = (measures.get(f"{what} {n}", 0) for n in ("to prove", "proved"))
        if proved < asked:
            found.append(f"{proved:,} of {asked:,} {text}; wanted: all")
    return tuple(found)


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
    in_passing=0.12,
    summary=summary,
    demands=demands,
)
