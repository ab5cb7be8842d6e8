"""Scripts of actions on state have a meaning, differ, and do all that can be done."""

from collections import Counter
from collections.abc import Iterator

from fuzz.chooser import SeededChooser
from fuzz.strategies.states import state_case
from reference.model import StateAction, StateCase, case_from_json, case_to_json, digest
from reference.model.state import HOLDS, USES, VERBS
from reference.state import RULES, ExpectedAnswer, expect_state

SCRIPTS = [state_case(SeededChooser(0, "states", i)) for i in range(700)]
COMPILED = [state_case(SeededChooser(0, "states", i), compiled=True) for i in range(60)]
EVERY = [*SCRIPTS, *COMPILED]


def test_every_script_has_a_meaning():
    assert [case for case in EVERY if expect_state(case).illegal] == []


def test_scripts_are_distinct():
    assert len({digest(case) for case in EVERY}) == len(EVERY)


def test_scripts_follow_from_their_labels_alone():
    assert state_case(SeededChooser(0, "states", 5)) == SCRIPTS[5]


def test_scripts_survive_json():
    assert [c for c in EVERY if case_from_json(case_to_json(c)) != c] == []


def test_everything_is_done_and_every_refusal_is_met():
    verbs = Counter(action.verb for case in SCRIPTS for action in case.actions)
    assert {verb: verbs[verb] for verb in VERBS if verb != "forget" and verbs[verb] < 30} == {}
    rules = Counter(a.rule for case in SCRIPTS for a in expect_state(case).answers)
    assert {rule: rules[rule] for rule in RULES if rules[rule] < 3} == {}
    holds = Counter(a.holds for c in SCRIPTS for a in c.actions if a.verb == "register")
    assert {kind: holds[kind] for kind in HOLDS if holds[kind] < 30} == {}


def answered(cases: list[StateCase]) -> Iterator[tuple[StateAction, ExpectedAnswer]]:
    for case in cases:
        yield from zip(case.actions, expect_state(case).answers, strict=True)


def test_a_fifth_of_what_runs_or_asks_does_so_in_a_thread_a_task_or_a_copy():
    asks = ("get", "exists", "add", "call", "sneak", "grow")
    for cases, verbs in ((SCRIPTS, asks), (SCRIPTS, ("run",)), (COMPILED, ("run",))):
        where = [a.context for a, answer in answered(cases) if a.verb in verbs and not answer.rule]
        assert sum(map(bool, where)) >= len(where) / 5
        assert where.count(0) >= len(where) / 2


def test_scopes_of_a_wrong_number_empty_inputs_and_changes_under_a_seal_are_drawn():
    found = list(answered(SCRIPTS))
    explicit = [answer.rule for a, answer in found if a.verb in ("get", "exists") and a.scope]
    assert 0.05 <= explicit.count("wrong-number") / len(explicit) <= 0.2
    assert sum(a.verb == "call" and not (a.size or answer.rule) for a, answer in found) >= 30
    assert sum(a.verb == "register" and answer.rule == "sealed" for a, answer in found) >= 10


def test_what_is_compiled_runs_models_of_every_use_and_forgets_code():
    runs = [
        sum(
            a.verb == "run" and not answer.rule
            for a, answer in zip(case.actions, expect_state(case).answers, strict=True)
        )
        for case in COMPILED
    ]
    assert min(runs) >= 1
    assert sum(runs) >= 2 * len(COMPILED)
    refused = Counter(
        answer.rule
        for case in COMPILED
        for a, answer in zip(case.actions, expect_state(case).answers, strict=True)
        if a.verb == "run"
    )
    assert refused["sealed"] >= 3
    assert refused["unknown"] >= 3
    uses = Counter(layer.use for case in COMPILED for model in case.models for layer in model)
    assert {use: uses[use] for use in USES if uses[use] < 10} == {}
    assert sum(a.verb == "forget" for case in COMPILED for a in case.actions) >= 10
