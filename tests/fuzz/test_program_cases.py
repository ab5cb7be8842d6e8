"""Programs are pure functions of their labels, mean something, and contain what they are for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.chooser import SeededChooser
from fuzz.profiles import examples
from fuzz.strategies.hypothesis import programs
from fuzz.strategies.programs import (
    FACTORS,
    FAMILIES,
    copied_over_case,
    has_removable_clone,
    lowering_case,
    lowering_pair,
    needed_clones_case,
    program_case,
    removable_clone_case,
)
from reference.legal import DECLARATIONS
from reference.model import ProgramCase, Value, case_from_json, case_to_json, digest
from reference.model.program_edits import without_dead_steps
from reference.programs import ATEN, ExpectedProgram, Machine, expect_program
from reference.programs.removal import clones

MAKERS = {
    **{
        family: lambda chooser, family=family: program_case(chooser, family=family)
        for family in FAMILIES
    },
    "any": program_case,
    "lowering": lowering_case,
    "pair": lambda chooser: lowering_pair(chooser)[1],
    "removable": removable_clone_case,
    "needed": needed_clones_case,
    "copied-over": copied_over_case,
}


def made(name: str, count: int, seed: int = 5) -> list[ProgramCase]:
    return [MAKERS[name](SeededChooser(seed, name, i)) for i in range(count)]


@pytest.mark.parametrize("name", MAKERS)
def test_equal_labels_make_the_same_program_and_others_another(name) -> None:
    first = [digest(case) for case in made(name, 40)]
    assert [digest(case) for case in made(name, 40)] == first
    assert len(set(first)) == 40
    assert not set(first) & {digest(case) for case in made(name, 40, seed=6)}


@pytest.mark.parametrize("name", MAKERS)
def test_the_reference_knows_what_each_means(name) -> None:
    for case in made(name, 60):
        found = expect_program(case)
        assert isinstance(found, ExpectedProgram), found
        assert len(found.outputs) == len(case.outputs) > 0


@pytest.mark.parametrize("name", MAKERS)
def test_each_is_written_to_json_and_read_again(name) -> None:
    for case in made(name, 10):
        assert case_from_json(case_to_json(case)) == case


@pytest.mark.parametrize(("name", "removable"), [("removable", True), ("needed", False)])
def test_labelled_programs_have_what_the_label_says(name, removable) -> None:
    for case in made(name, 120):
        assert clones(case)
        assert has_removable_clone(case) == removable


def test_most_copied_over_have_a_clone_that_is_copied_onto() -> None:
    found = 0
    for case in made("copied-over", 120):
        cloned = {
            case.first_result(i) for i, s in enumerate(case.steps) if "aten.clone" in s.target
        }
        copies = (s for s in case.steps if s.target == "aten.copy.default")
        found += any(next(s.values()) in cloned for s in copies)
    assert found > 90


def test_every_target_of_the_vocabulary_is_called() -> None:
    called = {
        step.target
        for name in (*FAMILIES, "any", "copied-over")
        for case in made(name, 250)
        for step in case.steps
    }
    assert called == set(ATEN)


def test_every_write_changes_something() -> None:
    writes = 0
    for case in made("any", 200):
        machine = Machine(case.storages, case.tensors, case.inputs)
        for step in case.steps:
            taken = [machine.values[n].memory for n in step.values()]
            before = [memory.content() for memory in taken]
            assert machine.apply(step) is None
            if ATEN[step.target].writes:
                writes += 1
                assert [memory.content() for memory in taken] != before
    assert writes > 150


def test_most_programs_have_no_dead_step_but_clones() -> None:
    dead = 0
    for case in made("any", 300):
        live = without_dead_steps(
            case, lambda s: bool(ATEN[s.target].writes) or s.target == "aten.clone.default"
        )
        dead += live != case
    assert 1 <= dead <= 45


def features(case: ProgramCase) -> set[str]:
    found = set()
    first = len(case.inputs)
    cloned: dict[int, int] = {}
    views: dict[int, int] = {}
    for step in case.steps:
        taken = list(step.values())
        target = ATEN[step.target]
        if step.target == "aten.clone.default":
            cloned[first] = taken[0]
            found |= {"clone-of-an-input"} if taken[0] < len(case.inputs) else set()
            found |= {"clone-of-a-clone"} if taken[0] in cloned else set()
        elif not target.writes and step.target.split(".")[1] in ("view", "select", "slice"):
            views[first] = taken[0]
        if target.writes:
            written = dict(step.keywords).get(target.writes)
            if target.writes == "out":
                found.add("written-by-out")
            elif written is not None:
                found.add("written-by-keyword")
            elif isinstance(step.operands[0], tuple):
                found.add("written-in-a-list")
            if written is None and isinstance(step.operands[0], Value):
                written = step.operands[0]
            if isinstance(written, Value):
                if views.get(written.number) in cloned:
                    found.add("clone-written-through-a-view")
                if written.number in cloned.values():
                    found.add("original-written")
                if written.number in cloned:
                    found.add("clone-written")
                if written.number < len(case.inputs):
                    found.add("input-written")
        first += step.results
    used = {n for step in case.steps for n in step.values()} | set(case.outputs)
    found |= {"dead-clone"} if set(cloned) - used else set()
    found |= {"same-tensor-twice"} if len(set(case.inputs)) < len(case.inputs) else set()
    found |= {"donated"} if case.donated else set()
    storages = [case.input_view(i).storage for i in range(len(case.inputs))]
    found |= {"inputs-share"} if len(set(storages)) < len(storages) else set()
    expected = expect_program(case)
    assert isinstance(expected, ExpectedProgram)
    places = [o.storage for o in expected.outputs]
    found |= {"outputs-share"} if len(set(places)) < len(places) else set()
    found |= {"output-in-an-input"} if min(places) < len(case.storages) else set()
    return found


def test_what_is_interesting_happens_often() -> None:
    cases = [program_case(SeededChooser(8, i)) for i in range(1200)]
    counts = Counter(feature for case in cases for feature in features(case))
    assert {name: n for name, n in counts.items() if n < 60} == {}
    assert len(counts) == 15


def calls(case: ProgramCase):
    return [step for step in case.steps if step.target.startswith("ir.")]


def test_programs_for_lowering_call_one_op_several_times() -> None:
    ops: Counter[str] = Counter()
    for case in made("lowering", 200):
        names = {step.target.split(".")[1] for step in calls(case)}
        assert len(names) == 1
        assert len(calls(case)) >= 2
        ops[names.pop()] += 1
    assert set(ops) == {
        "rms_norm", "fused_add_rms_norm", "silu_and_mul", "gelu_and_mul", "static_quant_fp8",
        "dynamic_per_token_quant_fp8", "per_token_group_quant_fp8",
    }  # fmt: skip
    assert min(ops["rms_norm"], ops["fused_add_rms_norm"]) > 40


def test_programs_for_lowering_give_away_temporaries_results_and_inputs() -> None:
    given: Counter[str] = Counter()
    for case in made("lowering", 300):
        results = {
            case.first_result(i) for i, s in enumerate(case.steps) if s.target.startswith("ir.")
        }
        for step in calls(case):
            if step.target.endswith("maybe_inplace"):
                x = next(step.values())
                kind = "input" if x < len(case.inputs) else "temporary"
                given["result" if x in results else kind] += 1
        given["donated"] += bool(case.donated)
    assert min(given[kind] for kind in ("input", "temporary", "result", "donated")) > 8


def plain(step, op: str) -> dict[str, object]:
    """The call's plain operands by parameter, with their types; what is left out is not there."""
    names = [spec.name for spec in DECLARATIONS[op].parameters]
    given = [*zip(names, step.operands, strict=False), *step.keywords]
    return {n: (type(o), str(o)) for n, o in given if not isinstance(o, Value)}


def test_two_calls_of_a_pair_differ_in_the_factor_alone() -> None:
    factors: Counter[str] = Counter()
    for i in range(400):
        factor, case = lowering_pair(SeededChooser(9, i))
        if len(calls(case)) < 2:
            continue
        factors[factor] += 1
        first, second = calls(case)
        op = first.target.split(".")[1]
        a, b = plain(first, op), plain(second, op)
        differing = {n for n in {*a, *b} if a.get(n) != b.get(n)}
        assert (first.target != second.target) == (factor == "overload")
        assert differing <= {factor}
        if factor in ("epsilon", "group_size"):
            assert differing == {factor}
        if factor == "form":
            assert len(first.keywords) != len(second.keywords) or differing == set()
    assert set(factors) <= set(FACTORS)
    assert min(factors[f] for f in ("none", "form", "x", "weight", "epsilon", "overload")) > 8
    assert set(FACTORS) == set(factors)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=programs(), family=st.sampled_from(sorted(FAMILIES)), data=st.data())
def test_hypothesis_drives_the_same_builders(case, family, data) -> None:
    for found in (case, data.draw(programs(family=family))):
        assert isinstance(expect_program(found), ExpectedProgram)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KeyError):
        program_case(SeededChooser(1), family="no such")
