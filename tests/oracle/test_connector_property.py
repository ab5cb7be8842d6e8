"""The property of connectors: identity, what its judges see by themselves, its summary."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.connectors import by_hand_case, connector_case, refused_case
from oracle.checking import CaseChecker
from oracle.kinds import kind_named
from oracle.observation import Declined, Died, Raised
from oracle.observation.connector import BIND, CLEAR, Bound, Called, RunSeen, StepSeen, Told
from oracle.properties import PROPERTIES
from oracle.properties.connector import summary
from oracle.shrink import shrink
from oracle.subject import Subject
from oracle.subjects.connector import observe_ir
from oracle.subjects.connector.reference import observe
from oracle.verdict import Outcome
from reference.connector import hooks_of_a_pass
from reference.model import ConnectorCase, case_from_json, case_to_json
from reference.model.connector import Damage, Dummy, PagedSize, Serve, Served

CONNECTOR = PROPERTIES["connector"]
KIND = kind_named("connector")
FIRST = Served(name="a", prompt=(5, 6), start=0, stop=2, blocks=(1,), save=2)
LOADS = Served(name="b", prompt=(5, 6), start=1, stop=2, blocks=(2,), load=2)
CASE = ConnectorCase(
    size=PagedSize(block_size=2, blocks=3),
    connector="staged",
    mode="full",
    events=(Serve(requests=(FIRST,)), Serve(requests=(LOADS,), finished=("a",)), Dummy(2)),
)


class Stub:
    """A subject that answers with what it is given."""

    name = "stub"

    def __init__(self, answer) -> None:
        self._answer = answer

    def observe(self, case, provider: str, route: str, probes):
        return self._answer(case)


def disagreements(case: ConnectorCase, answer) -> list[tuple[str, str]]:
    checker = CaseChecker(cast(Subject, Stub(answer)), CONNECTOR, case, "cpu")
    found = [r.verdict for r in checker.observe("stub", "run", None, interpreted=False)]
    return [(v.judge, v.kind) for v in found if v.outcome is Outcome.DISAGREES]


@pytest.mark.parametrize("index", range(30))
def test_the_reference_agrees_with_itself(index: int):
    for draw in (connector_case, by_hand_case, refused_case):
        assert disagreements(draw(SeededChooser(1, "identity", index)), observe) == []


@pytest.mark.parametrize("stream", CONNECTOR.streams("connector", ""), ids=lambda s: s.name)
def test_the_cases_of_a_stream_follow_from_seed_and_index(stream):
    for index in range(6):
        case = stream.case(3, index)
        assert stream.case(3, index) == case
        assert case_from_json(case_to_json(case)) == case
        assert len(KIND.lines(case)) == 1 + len(case.events)
        assert KIND.size(case)[0] == len(case.events)


def test_the_quick_budget_is_large_enough():
    assert sum(s.count for s in CONNECTOR.streams("connector", "")) >= 600


@pytest.mark.parametrize(("how", "kind"), [("SIGSEGV", "crash"), ("timeout", "timeout")])
def test_a_death_is_a_disagreement(how: str, kind: str):
    assert disagreements(CASE, lambda _case: Died(how)) == [("connector-completion", kind)]


def test_an_error_that_is_no_refusal_is_one_too():
    raised = Raised("KeyError", ("LookupError",), "'k'")
    assert disagreements(CASE, lambda _case: raised) == [("connector-completion", "raised")]


def test_steps_that_are_left_out_or_come_twice_are_a_disagreement():
    whole = observe(CASE)
    for steps in (whole.steps[:1], whole.steps[:-1], (*whole.steps, whole.steps[-1]), ()):
        answer = replace(whole, steps=steps)
        found = disagreements(CASE, lambda _case, a=answer: a)
        assert found == [("connector-completion", "other-steps")]


def test_where_one_alone_died_the_steps_after_it_are_of_another_worker():
    dying = replace(CASE, events=(replace(CASE.events[0], dies=0), Dummy(2)))
    outlived = replace(CASE, events=(CASE.events[0], Dummy(2)))
    for case, other in ((dying, outlived), (outlived, dying)):
        answer = replace(observe(other), store=observe(case).store)
        found = disagreements(case, lambda _case, a=answer: a)
        assert ("connector-requests", "outlived") in found
        assert "connector-completion" not in dict(found)


def seen_with(number: int, **changes) -> RunSeen:
    """What the reference sees of `CASE`, with one step changed."""
    seen = observe(CASE)
    steps = list(seen.steps)
    steps[number] = replace(steps[number], **changes)
    return replace(seen, steps=tuple(steps))


def without_last_save(step: StepSeen) -> tuple:
    (calls,) = step.calls
    return (tuple(c for c in calls if c[0] != "wait_for_save"),)


def with_more(step: StepSeen, *more: Called) -> tuple:
    (calls,) = step.calls
    return ((*calls[:-1], *more, calls[-1]),)


STEP = observe(CASE).steps[2]
CACHES = STEP.caches
assert CACHES is not None
ONE_BYTE = CACHES.copy()
ONE_BYTE[0, 1, 4, 0] ^= 1
NULL_BLOCK = CACHES.copy()
NULL_BLOCK[0, 0, 1, 0] ^= 1
HOOKS = hooks_of_a_pass(1)
NONE: frozenset[str] = frozenset()
BUSY = Told(sent=frozenset("a"), received=frozenset("b"), failed={})
LOGITS = STEP.logits
assert LOGITS is not None
TWICE = np.concatenate([LOGITS, LOGITS])


@pytest.mark.parametrize(
    ("number", "changes", "expected"),
    [
        (2, {"calls": ()}, ("connector-hooks", "not-entered")),
        (2, {"calls": without_last_save(STEP)}, ("connector-hooks", "misplaced")),
        (2, {"calls": with_more(STEP, BIND)}, ("connector-hooks", "misplaced")),
        (3, {"calls": with_more(STEP, CLEAR)}, ("connector-hooks", "misplaced")),
        (3, {"calls": ((),)}, ("connector-hooks", "misplaced")),
        (2, {"device": HOOKS[::-1]}, ("connector-hooks", "not-replayed")),
        (2, {"device": HOOKS * 2}, ("connector-hooks", "not-replayed")),
        (3, {"device": ()}, ("connector-hooks", "not-replayed")),
        (2, {"finished": frozenset()}, ("connector-hooks", "finished")),
        (0, {"finished": frozenset("a")}, ("connector-hooks", "finished")),
        (3, {"finished": frozenset("a")}, ("connector-hooks", "finished")),
        (2, {"unbound": 1}, ("connector-metadata", "unbound")),
        (2, {"bound": (Bound(own=False, fresh=False),)}, ("connector-metadata", "not-own")),
        (2, {"bound": (Bound(own=True, fresh=False),)}, ("connector-metadata", "not-fresh")),
        (3, {"left_bound": True}, ("connector-metadata", "left-bound")),
        (0, {"output_changed": True}, ("connector-metadata", "output-changed")),
        (2, {"caches": ONE_BYTE}, ("connector-kv", "wrong-kv")),
        (2, {"caches": NULL_BLOCK}, ("connector-kv", "written-outside")),
        (3, {"caches": ONE_BYTE}, ("connector-kv", "dummy-wrote")),
        (2, {"matched": {"b": 0}}, ("connector-requests", "matched")),
        (2, {"failed": {"b": "why"}}, ("connector-requests", "failed-wrongly")),
        (0, {"told": replace(BUSY, received=NONE)}, ("connector-requests", "sent-wrongly")),
        (3, {"told": replace(BUSY, sent=NONE)}, ("connector-requests", "received-wrongly")),
        (3, {"failed": {"b": "why"}}, ("connector-requests", "failed-wrongly")),
        (2, {"tokens": {}}, ("connector-requests", "token")),
        (2, {"logits": np.zeros((1, 32))}, ("connector-requests", "logits")),
        (2, {"logits": TWICE}, ("connector-requests", "logits")),
        (3, {"logits": np.zeros((1, 32))}, ("connector-requests", "logits")),
        (2, {"died": True}, ("connector-requests", "outlived")),
    ],
    ids=lambda v: v[1] if isinstance(v, tuple) else "",
)
def test_each_law_is_seen_broken_by_itself(number: int, changes: dict, expected: tuple[str, str]):
    assert disagreements(CASE, lambda _case: seen_with(number, **changes)) == [expected]


def test_what_the_store_holds_is_compared_to_the_byte():
    entry = observe(CASE).store["m", (5, 6)].copy()
    entry[0, 0, 1, 3] ^= 128
    answers = {
        "missing-entry": replace(observe(CASE), store={}),
        "torn-entry": replace(observe(CASE), store={}, unreadable=frozenset({("m", (5, 6))})),
        "wrong-entry": replace(observe(CASE), store={("m", (5, 6)): entry}),
        "extra-entry": replace(observe(CASE), store={**observe(CASE).store, ("n", (5, 6)): entry}),
        "stray-file": replace(observe(CASE), strays=(".x.tmp",)),
    }
    for kind, answer in answers.items():
        assert disagreements(CASE, lambda _case, a=answer: a) == [("connector-store", kind)]


def test_ir_agrees_on_a_case_of_each_connector_and_mode():
    for connector in ("none", "file", "staged", "undeclared", "claiming"):
        for mode in ("eager", "piecewise", "full"):
            case = replace(CASE, connector=connector, mode=mode)
            if connector == "none":
                case = replace(case, events=(Dummy(2),))
            assert disagreements(case, lambda c: observe_ir(c, "run")) == []


def test_hooks_run_in_one_order_on_the_device_eager_and_replayed():
    for mode in ("eager", "piecewise", "full"):
        seen = observe_ir(replace(CASE, mode=mode), "run")
        assert isinstance(seen, RunSeen)
        assert [step.device for step in seen.steps[1:]] == [HOOKS] * 3
        hooks = [name for name, _ in seen.steps[2].calls[0] if "layer" in name]
        assert len(hooks) == (0 if mode == "full" else 2)


def test_compiled_pieces_are_run_eagerly_alone():
    assert observe_ir(CASE, "compiled") == Declined("compiled-pieces-are-not-captured")


def test_candidates_are_legal_simpler_and_as_refused():
    for draw in (connector_case, by_hand_case, refused_case):
        case = draw(SeededChooser(2, "candidates", 0))
        smaller = shrink(case, lambda _case: True, limit=400).case
        assert smaller.events == ()
        assert (smaller.size, smaller.buckets) == (PagedSize(), (1,))


def test_a_needed_event_is_kept_while_the_others_go():
    case = replace(
        CASE, events=(Dummy(1), *CASE.events, Damage((5, 6), "length"), *CASE.events[:2])
    )

    def still(candidate: ConnectorCase) -> bool:
        return any(isinstance(e, Damage) for e in candidate.events)

    smaller = shrink(case, still, limit=400).case
    assert smaller.events == (Damage((0,), "gone"),)


def test_the_summary_counts_modes_hooks_moves_and_failures():
    measures = {
        "mode eager": 3,
        "mode full": 1,
        "workers refused": 2,
        "hooks": 40,
        "hooks replayed": 8,
        "steps serve": 7,
        "slots": 1234,
        "loaded": 2,
        "saved": 5,
        "failed": 1,
        "deaths": 1,
        "calls by hand": 9,
        "calls refused": 4,
    }
    assert summary(measures) == (
        "workers: 3 eager, 0 piecewise, 1 full, 2 refused; 40 hooks called, 8 replayed in graphs",
        "7 real steps and 0 dummy runs, 1,234 slots of KV compared; 2 loads, 5 saves, 1 failures, "
        "0 entries damaged, 1 deaths in a save",
        "9 calls by hand, 4 of them refused",
    )
