"""Kind ``transfer``: a cache that moves between two engines."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz.lattices.tp import points_in, refused_in
from oracle.judges.transfers import Provable, TransferEvidence, is_telling
from oracle.observation import Died, Raised
from oracle.observation.engines import EnginesReturned
from oracle.observation.proof import Proof
from oracle.observation.split import Split
from oracle.observation.transfer import TransferReturned
from oracle.scripts.transfer import render
from oracle.simplify.transfers import PASSES
from reference.model import CachedGroup, Engine, Transfer, TransferCase
from reference.transfer import ExpectedTransfer, expect_transfer

from .kind import CaseKind, Terms


def _evidence(
    case: TransferCase,
    expectation: ExpectedTransfer,
    observation: TransferReturned | EnginesReturned | Provable | Raised | Died,
    _terms: Terms,
) -> TransferEvidence:
    return TransferEvidence(case=case, expectation=expectation, observation=observation)


def _measures(evidence: TransferEvidence) -> Mapping[str, int]:
    """What was decided: lattice points, refused topologies, bytes, proofs."""
    seen, case = evidence.observation, evidence.case
    if evidence.proved is not None:
        done = evidence.proved.refuted is None and not evidence.proved.unknown
        what = "plans" if isinstance(seen, Proof) else "copies"
        what = "splits" if isinstance(seen, Split) else what
        return {
            f"{what} to prove": 1,
            f"{what} proved": int(done),
            "claims": evidence.proved.claims,
            "ways": evidence.proved.paths,
            "ways never taken": evidence.proved.dead,
        }
    if isinstance(seen, EnginesReturned):
        return {"between engines": 1, "faults": int(bool(case.fault))}
    if not isinstance(seen, TransferReturned):
        return {}
    found = {"lattice points": points_in(case), "topologies refused": refused_in(case)}
    if evidence.returned is not None:
        found["transfers"] = 1
        found["bytes"] = sum(cells.size for stage in seen.cells for cells in stage)
    return {name: count for name, count in found.items() if count}


def _size(case: TransferCase) -> tuple[int, ...]:
    ranks = case.producer.tp * len(case.producer.stage_layers)
    ranks += case.consumer.tp * len(case.consumer.stage_layers)
    tokens = sum(request.prompt_tokens for request in case.requests)
    layers = sum(len(group.layers) for group in case.model.groups)
    units = sum(part.units * part.unit_bytes for g in case.model.groups for part in g.parts)
    return ranks, len(case.requests), layers, tokens, units


def _group(group: CachedGroup) -> str:
    parts = ", ".join(f"{part.name} {part.units}x{part.unit_bytes}" for part in group.parts)
    window = "" if group.window is None else f" window {group.window}"
    return f"{group.kind} layers {list(group.layers)}: {parts}{window}"


def _engine(name: str, engine: Engine) -> str:
    text = (
        f"{name}: TP {engine.tp}, {engine.num_blocks} blocks of {engine.block_tokens} tokens, "
        f"kernel {engine.kernel_tokens}, {engine.layout}"
    )
    text += ", blocks first" if engine.blocks_first else ""
    text += ", shared tensors" if engine.shares_tensors else ""
    text += f", padding {engine.page_padding}" if engine.page_padding else ""
    stages = engine.stage_layers
    return text + (f", stages of {list(stages)} layers" if len(stages) > 1 else "")


def _request(request: Transfer) -> str:
    p, d = ([list(x) for x in side] for side in (request.producer_blocks, request.consumer_blocks))
    return (
        f"{request.producer_request} -> {request.consumer_request}: {request.prompt_tokens} "
        f"tokens, {request.cached_tokens} cached, blocks {p} -> {d}"
    )


def case_lines(case: TransferCase) -> list[str]:
    """Groups, engines and requests, one a line."""
    lines = [_group(group) for group in case.model.groups]
    if case.consumer_model is not None:
        lines += [f"but on {case.consumer_id}: {_group(g)}" for g in case.consumer_model.groups]
    lines.append(_engine(case.producer_id, case.producer))
    lines.append(_engine(case.consumer_id, case.consumer))
    lines += [_request(request) for request in case.requests]
    lines += ["pushed"] if case.push else []
    return [*lines, f"fault: {case.fault}"] if case.fault else lines


TRANSFER = CaseKind(
    name="transfer",
    ops=("transfer",),
    dtypes=lambda _op: ("",),
    expect=lambda case, _terms: expect_transfer(case),
    unknown=lambda _expectation: "",
    evidence=_evidence,
    dtype=lambda _case: "",
    telling=is_telling,
    measures=_measures,
    passes=PASSES,
    size=_size,
    unit="ranks",
    script=render,
    scripted=("ir",),
    lines=case_lines,
)
