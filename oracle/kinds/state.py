"""Kind ``state``: a script of actions on implementation state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from oracle.judges.states import StateEvidence, is_telling, state_evidence
from oracle.observation import Died, Raised
from oracle.observation.state import StateReturned
from oracle.scripts.state import render
from oracle.simplify.states import STATE_PASSES
from reference.model import StateAction, StateCase, StateLayer
from reference.model.state import Keys
from reference.state import ExpectedState, expect_state

from .kind import CaseKind, Terms


def _evidence(
    case: StateCase,
    expectation: ExpectedState,
    observation: StateReturned | Raised | Died,
    _terms: Terms,
) -> StateEvidence:
    return state_evidence(case, expectation, observation)


def _measures(evidence: StateEvidence) -> Mapping[str, int]:
    """Which actions were done, how many were refused, and what was compiled."""
    returned = evidence.returned
    if returned is None:
        return {}
    counts: Counter[str] = Counter({"scripts": 1, f"route {returned.route}": 1})
    for action, answer in zip(evidence.case.actions, returned.answers, strict=True):
        counts[f"did {action.verb}"] += 1
        counts["refused"] += answer.raised is not None
        counts["graphs"] += len(answer.graphs)
        counts["clones removed"] += sum(graph.removed for graph in answer.graphs)
        if returned.route == "backend" and action.verb == "run":
            counts["compiled steps"] += action.times
    return +counts


def _size(case: StateCase) -> tuple[int, ...]:
    return len(case.actions), sum(len(model) for model in case.models)


def keys_text(keys: Keys) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in keys)


def _layer(layer: StateLayer) -> str:
    use = {"op": f"op of {layer.name}", "dead": f"op of {layer.name}, unused", "read": layer.name}
    return use[layer.use] + (f" in {keys_text(layer.keys)}" if layer.keys else "")


def _registered(a: StateAction) -> str:
    per = "as in the RFC" if a.per is None else f"per {', '.join(a.per)}" if a.per else "for all"
    return (
        f"register {a.name!r} {per}, {a.holds}"
        + (f", needs {a.needs}" if a.needs else "")
        + (", again" if a.again else "")
    )


def _action(a: StateAction) -> str:
    scope = "" if a.scope is None else f" of {a.scope!r}"
    scopes = "; ".join(keys_text(keys) or "nothing" for keys in a.scopes)
    texts = {
        "register": _registered(a),
        "override": f"override {a.name} with {a.holds}",
        "set": f"set {keys_text(a.keys)}",
        "enter": f"enter {keys_text(a.keys)}",
        "reset": f"reset {a.of}",
        "leave": f"leave {a.of}",
        "restore": f"restore {a.of}",
        "get-scope": f"get-scope {a.key}",
        "plan": f"plan {', '.join(a.names)} in {scopes}",
        "preallocate": f"preallocate {', '.join(a.names)} in {scopes}",
        "get": f"get {a.name}{scope}",
        "exists": f"exists {a.name}{scope}",
        "add": f"add {a.amount} to {a.name}",
        "replace": f"replace {a.name} by {a.holds} {a.amount}",
        "grow": f"grow {a.name} to {a.size}",
        "race": f"race {a.size} threads for {a.name}"
        + (f" in {keys_text(a.keys)}" if a.keys else ""),
        "call": f"call op of {a.name} with {a.size} times {a.amount}",
        "sneak": f"ask for {a.name} where {a.needs or 'nothing'} is declared",
        "run": f"run model {a.model} with {a.size} times {a.amount}, {a.times} times",
    }
    text = texts.get(a.verb, f"{a.verb} {a.name}".strip())
    where = f" in {a.context}" if a.context else ""
    return f"{text}{where}" + (f" as {a.made}" if a.made else "")


def case_lines(case: StateCase) -> list[str]:
    """Models and actions, one a line."""
    lines = [
        f"model {i}: {', then '.join(_layer(layer) for layer in model) or 'nothing'}"
        for i, model in enumerate(case.models)
    ]
    return lines + [_action(action) for action in case.actions]


STATE = CaseKind(
    name="state",
    ops=("state",),
    dtypes=lambda _op: ("",),
    expect=lambda case, _terms: expect_state(case),
    unknown=lambda expectation: expectation.illegal,
    evidence=_evidence,
    dtype=lambda _case: "",
    telling=is_telling,
    measures=_measures,
    passes=STATE_PASSES,
    size=_size,
    unit="actions",
    script=render,
    scripted=("ir",),
    lines=case_lines,
)
