"""The property of captured functions: identity, its streams, what it says, what ends a case."""

import math
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import called_case, drawn_case, padded_case, plain_case, refused_case
from oracle.checking import CaseChecker
from oracle.kinds import Terms, kind_named
from oracle.observation import Died, Raised, Unavailable
from oracle.observation.capture import CaptureReturned, RefusedBy
from oracle.plan import QUICK, Selection, plan
from oracle.properties import PROPERTIES
from oracle.properties.addresses import demands, summary
from oracle.subject import Provider, Subject
from oracle.subjects.capture import subject
from oracle.subjects.capture.reference import observe
from oracle.verdict import Outcome, Verdict
from reference.model import (
    ProgramCase,
    ProgramStep,
    Storage,
    Value,
    View,
    case_from_json,
    case_to_json,
)
from reference.model.capture import CaptureCase, Churn, Create, Misfit, Poison, Replay, Reseed, Seal
from reference.replays import TRAPS, is_legal

ADDRESSES = PROPERTIES["addresses"]
KIND = kind_named("capture")
STREAMS = ADDRESSES.streams("capture", "")


class Stub:
    """A subject that answers with what it is given."""

    name = "stub"

    def __init__(self, answer) -> None:
        self._answer = answer

    def observe(self, case, provider: str, route: str, probes):
        return self._answer(case)


def verdicts(case: CaptureCase, answer) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Stub(answer)), ADDRESSES, case, "cpu")
    return [r.verdict for r in checker.observe("stub", "host", None, interpreted=False)]


def disagreements(case: CaptureCase, answer) -> list[tuple[str, str]]:
    found = verdicts(case, answer)
    return [(v.judge, v.kind) for v in found if v.outcome is Outcome.DISAGREES]


def returned(case: CaptureCase) -> CaptureReturned:
    found = observe(case)
    assert isinstance(found, CaptureReturned)
    return found


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.name)
def test_the_reference_agrees_with_itself(stream):
    for index in range(8):
        assert disagreements(stream.case(1, index), observe) == []


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.name)
def test_the_cases_of_a_stream_follow_from_seed_and_index_and_are_legal(stream):
    for index in range(6):
        case = stream.case(3, index)
        assert stream.case(3, index) == case
        assert case_from_json(case_to_json(case)) == case
        assert KIND.lines(case)
        assert is_legal(case) or not case.owners
        assert KIND.size(case)[0] == len(case.events)


def test_a_quick_run_takes_seven_hundred_cases_and_compiles_thirty():
    assert sum(s.count for s in STREAMS) >= 700
    assert {s.name: s.count for s in STREAMS if "compiled" in s.routes} == {"compiled": 30}


def test_a_round_takes_every_trap_and_seeds_in_turn_take_all_in_passing():
    refused = next(s for s in STREAMS if s.name == "refused")
    few = math.ceil(ADDRESSES.in_passing * refused.count)
    for seed in (0, 3):
        assert {refused.case(seed, i).trap for i in range(len(TRAPS))} == set(TRAPS)
    seeds = range(7, 7 + math.ceil(len(TRAPS) / few))
    assert {refused.case(s, i).trap for s in seeds for i in range(few)} == set(TRAPS)


def test_cuda_is_a_provider_that_a_run_without_a_device_skips():
    providers = (
        Provider(op="capture", name="host", routes=("host", "compiled")),
        Provider(op="capture", name="cuda", routes=("cuda",), unavailable="no device"),
    )
    selection = Selection(properties=("addresses",), budget=QUICK)
    units = plan(selection, PROPERTIES, {"ir": providers})
    assert {name for unit in units for name, _, _ in unit.drives} == {"host"}


@pytest.mark.parametrize("how", ["SIGSEGV", "timeout"])
def test_a_death_is_a_disagreement(how: str):
    case = plain_case(SeededChooser(1, "death"))
    kind = "timeout" if how == "timeout" else "crash"
    assert disagreements(case, lambda _case: Died(how)) == [("capture-completion", kind)]


def test_an_error_of_no_refusal_is_one_too():
    case = plain_case(SeededChooser(1, "raised"))
    raised = Raised("KeyError", ("LookupError",), "'k'")
    assert disagreements(case, lambda _case: raised) == [("capture-completion", "raised")]


def test_what_cannot_be_driven_is_undecided():
    case = plain_case(SeededChooser(1, "missing"))
    found = verdicts(case, lambda _case: Unavailable("no-gpu"))
    assert {(v.outcome, v.kind) for v in found} == {(Outcome.UNDECIDED, "no-gpu")}


def test_a_legal_capture_that_is_refused_decides_nothing_else():
    case = plain_case(SeededChooser(1, "refused"))
    refused = RefusedBy(family="capture", reason="host-sync", text="no")
    seen = replace(returned(case), refused=refused, events=(), ledgers=())
    assert disagreements(case, lambda _case: seen) == [("capture-completion", "refused-legal")]


def test_an_event_that_was_not_refused_ends_what_is_compared():
    chooser = SeededChooser(1, "event")
    case = plain_case(chooser)
    case = replace(case, events=(Misfit(how="rank"), *case.replays[:1]))
    seen = returned(case)
    wrong = tuple(
        replace(e, refused=None, memory=tuple(np.zeros_like(m) for m in e.memory if m is not None))
        for e in seen.events
    )
    changed = replace(seen, events=wrong)
    assert disagreements(case, lambda _case: changed) == [("capture-refusal", "not-refused")]


def test_every_event_is_shown_on_a_line():
    case = plain_case(SeededChooser(1, "lines"))
    events = (
        Poison(byte=0x5A), Churn(byte=0), Seal(), Seal(on=False), Create(position=1),
        Reseed(seed=3), Misfit(how="number"), Replay(given=(0,), how="static"),
    )  # fmt: skip
    case = replace(case, owners=("state",), events=events, noise=True)
    shown = KIND.lines(case)[-len(events) :]
    assert shown == [
        "the graph's memory is filled with 0x5a",
        "free memory is filled with 0x00",
        "states are sealed",
        "states are sealed no more",
        "another state like x1 is asked for",
        "the generator is seeded with 3",
        "replay with inputs of another number",
        "replay(x0), static",
    ]


def test_a_run_says_what_it_captured_and_what_was_refused():
    assert summary({}) == ()
    assert summary({"captured": 3, "captures refused": 2, "replays": 1_234, "batches": 5}) == (
        "3 functions captured, 2 refused; 1,234 replays, 5 of them of a padded batch, "
        "0 beside compiled graphs; refused: 0 by the ledger, 0 by their inputs, 0 by the seal",
    )


def test_a_run_in_which_nothing_compiled_was_compared_fails():
    assert demands({"replays": 9}) == ()
    assert demands({"compiled replays": 9, "beside compiled": 5}) == ()
    assert demands({"compiled replays": 9, "beside compiled": 4}) == (
        "addresses: 4 of 9 replays of route compiled stood beside a compiled graph; wanted: half",
    )


def test_what_happens_to_cases_is_counted():
    case = drawn_case(SeededChooser(1, "counted"))
    evidence = KIND.evidence(case, KIND.expect(case, Terms()), observe(case), Terms())
    counts = KIND.measures(evidence)
    assert counts["captured"] == counts["route reference"] == 1
    assert counts["replays"] >= 3


@pytest.mark.parametrize("make", [drawn_case, called_case, padded_case, refused_case])
def test_captures_of_this_distribution_agree(make):
    for index in range(6):
        case = make(SeededChooser(2, "agree", index))
        assert disagreements(case, lambda c: subject.observe(c, "host")) == []


@pytest.mark.parametrize("number", range(-3, 3))
def test_what_events_leave_is_judged_where_no_contract_settles_it(number: int):
    """All storages spoilt after one event."""
    spoilt = 0
    for index in range(12):
        case = called_case(SeededChooser(4, "left", index))
        found = subject.observe(case, "host")
        assert isinstance(found, CaptureReturned)
        events = list(found.events)
        memory = tuple(None if m is None else np.full_like(m, 90) for m in events[number].memory)
        events[number] = replace(events[number], memory=memory)
        wrong = replace(found, events=tuple(events))
        kind = "changed-by-refusal" if events[number].refused else "memory-differs"
        if any(m is not None and m.size for m in memory):
            spoilt += 1
            shown = disagreements(case, lambda _, wrong=wrong: wrong)
            assert kind in [kind for _, kind in shown]
        judged = {v.judge: v for v in verdicts(case, lambda _, found=found: found)}
        assert judged["capture-memory"].kind == "op-of-the-ir"
    assert spoilt >= 10


@pytest.mark.parametrize(
    "change", [{"dtype": "int32"}, {"shape": (4, 1), "strides": (1, 1)}], ids=["dtype", "shape"]
)
def test_random_numbers_are_those_of_the_function_called_straight(change):
    case = replace(plain_case(SeededChooser(1, "noise")), noise=True)
    seen = returned(case)
    events = list(seen.events)
    at = next(n for n, e in enumerate(events) if e.outputs)
    *others, noise = events[at].outputs
    other = replace(noise, **change)
    wrong = replace(other, values=noise.values.view(np.int32).reshape(other.shape))
    events[at] = replace(events[at], outputs=(*others, wrong))
    found = disagreements(case, lambda _case: replace(seen, events=tuple(events)))
    assert ("capture-eager", "replay-differs") in found


@pytest.mark.slow
def test_what_torch_compiles_wrong_without_us_is_left_undecided():
    """A write through one input that another overlaps, by an offset of whole rows."""
    one = Storage("float32", 6, np.arange(6, dtype=np.float32).tobytes())
    body = ProgramCase(
        storages=(one,),
        tensors=(View(0, (2, 1), (5, 1)), View(0, (1, 1), (5, 1), 5)),
        inputs=(0, 1),
        steps=(
            ProgramStep("aten.add_.Tensor", (Value(1), 1)),
            ProgramStep("aten.clone.default", (Value(0),)),
        ),
        outputs=(3,),
    )
    case = CaptureCase(body=body, owners=("attribute",) * 2, events=(Replay(given=()),))
    found = {v.judge: v for v in verdicts(case, lambda c: subject.observe(c, "compiled"))}
    assert (found["capture-eager"].outcome, found["capture-eager"].kind) == (
        Outcome.UNDECIDED,
        "as-stock-torch",
    )
    assert found["capture-values"].outcome is Outcome.AGREES


@pytest.mark.slow
def test_replays_stand_beside_the_compiled_function():
    for index in range(3):
        case = drawn_case(SeededChooser(2, "compiled", index))
        found = subject.observe(case, "compiled")
        assert isinstance(found, CaptureReturned)
        assert disagreements(case, lambda _, found=found: found) == []
        assert all(bool(seen.compiled) == bool(seen.outputs) for seen in found.events)
