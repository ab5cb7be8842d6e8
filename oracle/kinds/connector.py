"""Kind ``connector``: a worker with a KV connector, and what happens to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from oracle.judges.connector_evidence import ConnectorEvidence
from oracle.observation import Declined, Died, Raised, Unavailable
from oracle.observation.connector import RunSeen
from oracle.scripts.connector import SCRIPTED, render
from oracle.simplify.connector import PASSES
from reference.model import ConnectorCase
from reference.model.connector import (
    MODELS,
    ByHand,
    Damage,
    Dummy,
    Event,
    Restart,
    Serve,
    Served,
)
from reference.serving import ExpectedRun, expect_run

from .kind import CaseKind, Terms


def _evidence(
    case: ConnectorCase,
    expectation: ExpectedRun,
    observation: RunSeen | Raised | Died | Declined | Unavailable,
    _terms: Terms,
) -> ConnectorEvidence:
    return ConnectorEvidence(case=case, expected=expectation, observation=observation)


def _telling(evidence: ConnectorEvidence) -> bool:
    """Agreeing says something where a worker is refused, moves KV, or is called by hand."""
    expected = evidence.expected
    return expected.refused or any(
        step.admitted or (step.moved is not None and step.logits) for step in expected.steps
    )


def _measures(evidence: ConnectorEvidence) -> Mapping[str, int]:
    """Counts of what was driven: hooks, modes, failures."""
    counts: Counter[str] = Counter()
    seen, expected = evidence.observation, evidence.expected
    if not isinstance(seen, RunSeen):
        return counts
    if expected.refused:
        return {"workers refused": 1}
    counts[f"mode {seen.mode}"] += 1
    for _, wanted, step in evidence.steps():
        hooks = sum(name in HOOKS for call in step.calls for name, _ in call)
        counts["hooks"] += hooks
        if not hooks:
            counts["hooks replayed"] += len(step.device or ())
        counts[f"steps {wanted.kind}"] += 1
        counts["calls by hand"] += len(step.admitted)
        counts["calls refused"] += step.admitted.count(False)
        counts["slots"] += int(wanted.known.sum()) * evidence.case.size.layers
        if wanted.moved is not None:
            counts["loaded"] += len(wanted.moved.received)
            counts["saved"] += len(wanted.moved.sent)
            counts["failed"] += len(wanted.moved.failed)
            counts["deaths"] += wanted.moved.died
    counts["entries damaged"] += sum(isinstance(e, Damage) for e in evidence.case.events)
    return +counts


HOOKS = ("wait_for_layer_load", "save_kv_layer")


def _size(case: ConnectorCase) -> tuple[int, ...]:
    requests = [r for e in case.events if isinstance(e, Serve) for r in e.requests]
    rows = sum(r.stop - r.start for r in requests)
    calls = sum(len(e.calls) for e in case.events if isinstance(e, ByHand))
    return len(case.events), len(requests), rows + calls, case.size.layers, case.size.slots


def case_lines(case: ConnectorCase) -> list[str]:
    """The worker, then its events, one a line."""
    size = case.size
    room = f" of {case.capacity} tokens" if case.connector == "staged" else ""
    head = (
        f"{case.connector}{room}, {case.mode}, graphs of {list(case.buckets)} rows, {case.dtype}: "
        f"{size.layers} layers, {size.heads} heads, {size.blocks} blocks of {size.block_size}, "
        f"{size.blocks_per_request} a request"
    )
    return [head, *(_line(event) for event in case.events)]


def _line(event: Event) -> str:
    match event:
        case Serve():
            text = "; ".join(_request(r) for r in event.requests) or "nobody"
            ended = f", finished {list(event.finished)}" if event.finished else ""
            dies = f", dies at sync {event.dies}" if event.dies >= 0 else ""
            return f"serve {text}{ended}{dies}"
        case Dummy():
            return f"dummy run of {event.rows}"
        case Damage():
            return f"entry {list(event.tokens)}: {event.how}"
        case Restart():
            return "restart" if event.model == MODELS[0] else f"restart as model {event.model}"
        case ByHand():
            calls = " ".join(f"{call}:{layer}" for call, layer in event.calls)
            return f"by hand, {'dummy' if event.dummy else 'real'}: {calls}"


def _request(r: Served) -> str:
    made = f" + {list(r.generated)}" if r.generated else ""
    moves = "".join(f", {what} {n}" for what, n in (("load", r.load), ("save", r.save)) if n)
    return (
        f"{r.name} {list(r.prompt)}{made} tokens {r.start} to {r.stop} in {list(r.blocks)}{moves}"
    )


CONNECTOR = CaseKind(
    name="connector",
    ops=("connector",),
    dtypes=lambda _op: ("",),
    expect=lambda case, _terms: expect_run(case),
    unknown=lambda _expectation: "",
    evidence=_evidence,
    dtype=lambda _case: "",
    telling=_telling,
    measures=_measures,
    passes=PASSES,
    size=_size,
    unit="events",
    script=render,
    scripted=SCRIPTED,
    lines=case_lines,
)
