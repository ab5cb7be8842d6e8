"""Kind ``capture``: a function that is captured as a graph, and what happens to the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from oracle.judges.captures_evidence import CaptureEvidence, is_telling
from oracle.observation import Died, Raised
from oracle.observation.capture import CaptureReturned
from oracle.scripts.capture import SCRIPTED, render
from oracle.simplify.captures import CAPTURE_PASSES
from reference.expectation import Unknown
from reference.model import Storage
from reference.model.capture import (
    CaptureCase,
    CaptureEvent,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Reseed,
    Seal,
    Write,
)
from reference.replays import CaptureExpectation, expect_capture

from .kind import CaseKind, Terms
from .program import SHOWN, case_lines


def _evidence(
    case: CaptureCase,
    expectation: CaptureExpectation,
    observation: CaptureReturned | Raised | Died,
    _terms: Terms,
) -> CaptureEvidence:
    known = None if isinstance(expectation, Unknown) else expectation
    return CaptureEvidence(
        case=case,
        expected=known,
        observation=observation,
        unknown=expectation.because if isinstance(expectation, Unknown) else "",
    )


def _measures(evidence: CaptureEvidence) -> Mapping[str, int]:
    """What was captured, refused, replayed, and for which batches."""
    seen, counts = evidence.returned, Counter[str]()
    if seen is None:
        return counts
    counts[f"route {seen.route}"] += 1
    counts["captures refused"] += seen.refused is not None
    counts["captured"] += seen.refused is None
    for event, done in zip(evidence.case.events, seen.events, strict=False):
        counts["refused by " + done.refused.family if done.refused else ""] += 1
        returned = done.refused is None and done.raised is None
        if isinstance(event, Replay) and returned:
            counts["replays"] += 1
            counts["batches"] += bool(evidence.case.sizes)
            counts["compiled replays"] += seen.route == "compiled"
            counts["beside compiled"] += bool(done.compiled)
    del counts[""]
    return +counts


def _size(case: CaptureCase) -> tuple[int, ...]:
    return (
        len(case.events),
        len(case.body.steps),
        case.body.values,
        sum(s.nbytes for s in case.body.storages),
    )


def _content(content: Storage | int) -> str:
    if isinstance(content, int):
        return f"x{content}"
    text = str(content.array().tolist()) if content.numel <= SHOWN else f"{content.numel} others"
    return text


def _event(case: CaptureCase, event: CaptureEvent) -> str:
    match event:
        case Replay():
            given = ", ".join(_content(g) for g in event.given)
            how = "" if event.how == "copied" else f", {event.how}"
            return f"replay({given}){how}"
        case Write():
            return f"x{event.position} is written: {_content(event.content)}"
        case Move():
            return f"x{event.position}: {event.how}"
        case Misfit():
            return f"replay with inputs of another {event.how}"
        case Poison():
            return f"the graph's memory is filled with {event.byte:#04x}"
        case Churn():
            return f"free memory is filled with {event.byte:#04x}"
        case Seal():
            return "states are sealed" if event.on else "states are sealed no more"
        case Create():
            return f"another state like x{event.position} is asked for"
        case Reseed():
            return f"the generator is seeded with {event.seed}"


def capture_lines(case: CaptureCase) -> list[str]:
    """The body with its owners, then what happens, one line each."""
    lines = case_lines(case.body)
    for i in range(len(case.body.inputs)):
        owner = case.owner(i)
        lines[i] += f", {owner}" if owner else ", static"
        if not owner and case.sizes and case.padding[i] is not None:
            lines[i] += f", padded with {case.padding[i]}"
    if case.noise:
        lines[-1] += ", four random numbers"
    if case.trap:
        lines.insert(len(case.body.inputs) + case.at, f"trap: {case.trap}")
    if case.sizes:
        lines.append(f"captured for {', '.join(map(str, case.sizes))} rows")
    return [*lines, *(_event(case, event) for event in case.events)]


CAPTURE = CaseKind(
    name="capture",
    ops=("capture",),
    dtypes=lambda _op: ("",),
    expect=lambda case, _terms: expect_capture(case),
    unknown=lambda found: found.because if isinstance(found, Unknown) else "",
    evidence=_evidence,
    dtype=lambda _case: "",
    telling=is_telling,
    measures=_measures,
    passes=CAPTURE_PASSES,
    size=_size,
    unit="events",
    script=render,
    scripted=SCRIPTED,
    lines=capture_lines,
)
