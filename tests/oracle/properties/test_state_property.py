"""The property of state: identity, what is judged where, its summary and demands."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.states import state_case
from oracle.checking import CaseChecker
from oracle.judges import judge_named
from oracle.judges.states import FACTS, state_evidence
from oracle.kinds import Terms, kind_named
from oracle.observation import Died, Raised
from oracle.observation.state import CompiledGraph, Ran, StateAnswer, StateReturned
from oracle.plan import QUICK, Selection, plan
from oracle.properties import PROPERTIES
from oracle.properties.state import demands, summary
from oracle.simplify.states import state_cost
from oracle.subject import Subject
from oracle.subjects.state import ir_providers, observe_ir
from oracle.subjects.state.reference import observe
from oracle.verdict import Outcome, Verdict
from reference.model import StateAction, StateCase, StateLayer, case_from_json, case_to_json
from reference.state import expect_state

STATE = PROPERTIES["state"]
KIND = kind_named("state")


class Stub:
    """A subject that answers with what it is given."""

    name = "stub"

    def __init__(self, answer) -> None:
        self._answer = answer

    def observe(self, case, provider: str, route: str, probes):
        return self._answer(case)


def verdicts(case: StateCase, answer) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Stub(answer)), STATE, case, "cpu")
    return [r.verdict for r in checker.observe("stub", "eager", None, interpreted=False)]


def disagreements(case: StateCase, answer) -> list[tuple[str, str]]:
    found = verdicts(case, answer)
    return [(v.judge, v.kind) for v in found if v.outcome is Outcome.DISAGREES]


def script(i: int) -> StateCase:
    return state_case(SeededChooser(1, "property", i))


@pytest.mark.parametrize("stream", STATE.streams("state", ""), ids=lambda s: s.name)
def test_the_reference_agrees_with_itself_on_cases_that_follow_from_seed_and_index(stream):
    for index in range(40):
        case = stream.case(3, index)
        assert stream.case(3, index) == case
        assert case_from_json(case_to_json(case)) == case
        assert disagreements(case, observe) == []
        assert len(KIND.lines(case)) == len(case.actions) + len(case.models)
        assert KIND.size(case)[0] == len(case.actions)


@pytest.mark.parametrize("route", ["eager", "unwrapped"])
def test_ir_agrees(route: str):
    for i in range(60):
        assert disagreements(script(i), lambda case: observe_ir(case, route)) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ir_agrees_compiled_and_says_what_became_of_clones():
    case = STATE.streams("state", "")[1].case(0, 0)
    seen = observe_ir(case, "backend")
    assert isinstance(seen, StateReturned)
    assert disagreements(case, lambda _case: seen) == []
    assert sum(len(answer.graphs) for answer in seen.answers) >= 1
    left = CompiledGraph(removed=0, kept=("written-later",))
    first = next(i for i, answer in enumerate(seen.answers) if answer.graphs)
    wrong = replace(seen.answers[first], graphs=(left,))
    answers = (*seen.answers[:first], wrong, *seen.answers[first + 1 :])
    found = disagreements(case, lambda _case: replace(seen, answers=answers))
    assert found == [("state-clones", "clone-left")]


def test_what_follows_from_a_difference_says_nothing_more():
    case = script(0)
    seen = observe(case)
    assert isinstance(seen, StateReturned)
    for first in range(len(case.actions)):
        wrong = replace(seen.answers[first], moved=(0,))
        later = tuple(replace(answer, text="nonsense") for answer in seen.answers[first + 1 :])
        answers = (*seen.answers[:first], wrong, *later)
        if 0 not in expect_state(case).answers[first].moved:
            found = disagreements(case, lambda _case, a=answers: replace(seen, answers=a))
            assert found == [("state-addresses", "moved")]


def changed_answers(answer: StateAnswer, known: int) -> Iterator[StateAnswer]:
    """The answer with one thing of it different, for everything that an answer has."""
    yield replace(answer, raised=Raised("ValueError", (), "x"))
    yield replace(answer, raised=None if answer.raised else Raised("StateError", (), "x"))
    yield replace(answer, objects=(*answer.objects, known + 7))
    yield replace(answer, values=(*answer.values, 7))
    yield replace(answer, text=f"{answer.text}!")
    yield replace(answer, ran=(*answer.ran, Ran(name="a", keys={}, number=known + 7)))
    yield replace(answer, changed={**answer.changed, known + 7: (7,)})
    yield replace(answer, moved=(*answer.moved, known + 7))
    yield replace(answer, graphs=(CompiledGraph(removed=0, kept=("written-later",)),))
    for i in range(len(answer.objects)):
        yield replace(answer, objects=(*answer.objects[:i], known + 7, *answer.objects[i + 1 :]))
        yield replace(answer, objects=answer.objects[:i] + answer.objects[i + 1 :])
    for i, value in enumerate(answer.values):
        yield replace(answer, values=(*answer.values[:i], value + 1, *answer.values[i + 1 :]))
    for i, ran in enumerate(answer.ran):
        others = [replace(ran, name="z"), replace(ran, keys={"layer": "z"})]
        others += [replace(ran, number=n) for n in (None, known + 7) if n != ran.number]
        for other in others:
            yield replace(answer, ran=(*answer.ran[:i], other, *answer.ran[i + 1 :]))
        yield replace(answer, ran=answer.ran[:i] + answer.ran[i + 1 :])
    for number, content in answer.changed.items():
        yield replace(answer, changed={**answer.changed, number: (*content, 7)})
        yield replace(answer, changed={n: c for n, c in answer.changed.items() if n != number})
    for number in set(range(known)) - set(answer.changed):
        yield replace(answer, changed={**answer.changed, number: (77,)})


@pytest.mark.parametrize("stream", STATE.streams("state", ""), ids=lambda s: s.name)
def test_whatever_of_an_answer_differs_some_judge_disagrees(stream):
    judges = [judge_named(name) for name in STATE.judges]
    told = set()
    for index in range(60):
        case = stream.case(0, index)
        expected, seen = expect_state(case), observe(case)
        assert isinstance(seen, StateReturned)
        known = 0
        for i, (action, answer) in enumerate(zip(case.actions, seen.answers, strict=True)):
            for other in changed_answers(answer, known):
                answers = (*seen.answers[:i], other, *seen.answers[i + 1 :])
                evidence = state_evidence(case, expected, replace(seen, answers=answers))
                found = [judge.judge(evidence) for judge in judges]
                kinds = {v.kind for v in found if v.outcome is Outcome.DISAGREES}
                # No judge reads a text of what tells no fact.
                silent = other.text != answer.text and action.verb not in FACTS
                assert bool(kinds) != silent, (case, i, other)
                told |= kinds
            known = max((known, *(number + 1 for number in answer.changed)))
    assert told >= {"content", "wrote-another", "created-elsewhere", "another-object", "output"}


@pytest.mark.parametrize(("how", "kind"), [("SIGSEGV", "crash"), ("timeout", "timeout")])
def test_a_death_is_a_disagreement(how: str, kind: str):
    assert disagreements(script(1), lambda _case: Died(how)) == [("state-refusal", kind)]


def test_a_script_that_cannot_be_driven_is_one_too():
    raised = Raised("KeyError", ("LookupError",), "'k'")
    assert disagreements(script(1), lambda _case: raised) == [("state-refusal", "raised")]


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (StateAction(verb="reset", of=1), "no-such-token"),
        (StateAction(verb="leave", of=1), "not-entered"),
        (StateAction(verb="restore", of=1), "no-such-override"),
        (StateAction(verb="run", model=2), "refused-half-way"),
        (StateAction(verb="race", name="b", size=2), "race-for-what-may-fail"),
        (StateAction(verb="move", name="h"), "nothing-to-disturb"),
        (StateAction(verb="run", model=1), "nothing-to-read"),
    ],
)
def test_actions_without_a_meaning_are_undecided(action: StateAction, why: str):
    made = (
        StateAction(verb="register", name="b", holds="fails-once"),
        StateAction(verb="register", name="h", holds="handle"),
    )
    models = (
        (StateLayer(name="a"),),
        (StateLayer(name="h", use="read"),),
        (StateLayer(name="h"), StateLayer(name="a")),
    )
    case = StateCase(actions=(*made, action), models=models)
    found = verdicts(case, observe)
    assert {(v.outcome, v.kind) for v in found} == {(Outcome.UNDECIDED, why)}


def test_whatever_is_simpler_costs_less_and_has_a_meaning():
    for i in range(12):
        case = script(i)
        for simplify in KIND.passes:
            for candidate in list(simplify(case))[:40]:
                assert state_cost(candidate) < state_cost(case)
                assert case_from_json(case_to_json(candidate)) == candidate
                assert not KIND.unknown(KIND.expect(candidate, Terms()))


def test_a_quick_run_takes_seven_hundred_scripts_and_compiles_thirty():
    units = plan(Selection(properties=("state",), budget=QUICK), PROPERTIES, {"ir": ir_providers()})
    counts = {name: 0 for name in ("scripts", "compiled")}
    for unit in units:
        counts[unit.stream] += unit.stop - unit.start
    assert counts == {"scripts": 700, "compiled": 30}


def test_the_summary_says_what_was_done_and_compiled():
    measures = {"did get": 4, "did set": 6, "refused": 3, "scripts": 2}
    assert summary({}) == ()
    assert summary(measures)[0].startswith("10 actions, 3 of them refused: set 6, get 4, ")
    compiled = {"route backend": 2, "graphs": 3, "compiled steps": 5, "clones removed": 4}
    assert summary(measures | compiled)[1] == (
        "2 scripts compiled: 3 graphs, 5 steps, 4 clones of states gone"
    )


def test_what_is_compiled_must_give_graphs_that_write_states():
    assert demands({}) == ()
    assert demands({"route backend": 2, "graphs": 2, "clones removed": 1}) == ()
    assert demands({"route backend": 2, "graphs": 1}) == (
        "state: 1 graphs from 2 compiled scripts; wanted: 1 from each",
    )
    assert demands({"route backend": 2, "graphs": 2}) == (
        "state: no compiled graph wrote a state; wanted: some",
    )
