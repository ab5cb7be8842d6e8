"""The reference's own worker: every step as its life says, every byte as it must be."""

from __future__ import annotations

import numpy as np

from oracle.observation import Raised
from oracle.observation.connector import BIND, CLEAR, Bound, Called, RunSeen, StepSeen, Told
from reference.connector import Call, hooks_of_a_pass
from reference.model import ConnectorCase
from reference.serving import VOCABULARY, ExpectedRun, ExpectedStep, bytes_of, expect_run


def observe(case: ConnectorCase) -> RunSeen:
    """What the reference says must be seen, dressed as an observation."""
    expected = expect_run(case)
    if expected.refused:
        bases = ("ConnectorError", "RuntimeError")
        return RunSeen(mode="", steps=(), raised=Raised("PolicyError", bases, "refused"))
    store = {
        entry: bytes_of(values, case.dtype)
        for entry, values in expected.store.items()
        if values is not None
    }
    return RunSeen(
        mode=expected.mode,
        steps=tuple(_step(case, expected, step) for step in expected.steps),
        store=store,
        unreadable=frozenset(expected.store.keys() - store.keys()),
    )


def _step(case: ConnectorCase, expected: ExpectedRun, step: ExpectedStep) -> StepSeen:
    died = step.moved is not None and step.moved.died
    entered = case.connector != "none" and step.kind != "damage"
    moved = step.moved
    told = None
    if entered and not died:
        told = Told(frozenset(), frozenset(), {}) if step.whole else None
        if moved is not None:
            told = Told(moved.sent, moved.received, moved.failed)
    return StepSeen(
        kind=step.kind,
        calls=(_calls(case, expected, step, died=died),) if entered else (),
        bound=(Bound(own=True, fresh=True),) if entered else (),
        device=_device(case, step) if case.connector == "staged" else None,
        caches=None if died else bytes_of(step.caches, case.dtype),
        matched=step.matched if case.connector != "none" else {},
        told=told,
        finished=step.finished,
        tokens=_tokens(step),
        failed=moved.failed if moved is not None else {},
        logits=_logits(step),
        died=died,
        admitted=step.admitted,
        ended=step.whole,
    )


def _calls(
    case: ConnectorCase, expected: ExpectedRun, step: ExpectedStep, *, died: bool
) -> tuple[Called, ...]:
    if step.kind == "by hand":
        return (BIND, *step.reached, CLEAR)
    replayed = expected.captured and step.kind != "warm-up"
    hooks = () if replayed else hooks_of_a_pass(case.size.layers)
    ends = [Call.WAIT] if died else [Call.WAIT, Call.FINISHED]
    after = tuple((call.value, 0) for call in ends)
    return (BIND, (Call.START.value, 0), *hooks, *after, CLEAR)


def _device(case: ConnectorCase, step: ExpectedStep) -> tuple[Called, ...]:
    if step.kind == "by hand":
        return tuple(c for c in step.reached if c[0] in (Call.LOAD.value, Call.SAVE.value))
    return () if step.kind == "damage" else hooks_of_a_pass(case.size.layers)


def _tokens(step: ExpectedStep) -> dict[str, int]:
    failed = step.moved.failed if step.moved is not None else {}
    return {
        name: 0 if rows is None else int(rows[-1].argmax())
        for name, rows in step.logits.items()
        if name not in failed
    }


def _logits(step: ExpectedStep) -> np.ndarray | None:
    if not step.logits:
        return None
    rows = [
        np.zeros((step.rows[name], VOCABULARY)) if rows is None else rows
        for name, rows in step.logits.items()
    ]
    return np.concatenate(rows)
