"""A death costs the call it is charged to, not the cases around it."""

from collections import Counter
from dataclasses import replace

import pytest

from oracle.crashes import Absent, after_crash, before_first_call, case_of, given_up
from oracle.errors import OwnFault
from oracle.observation import Died
from oracle.plan import Unit
from oracle.single import check_once
from oracle.subject import Probes
from oracle.verdict import Outcome
from oracle.worker import CheckRequest

UNIT = Unit(
    number=3,
    prop="contract",
    subject="ir",
    op="rms_norm",
    dtype="float32",
    stream="legal",
    start=2,
    stop=6,
    seed=0,
    drives=(("native", "eager", None), ("mine", "eager", "rms_norm/fp32-weight")),
)
JUDGES = ("completion", "refusal", "mutation", "aliasing", "layout", "fake", "uninitialized")


def test_the_call_is_judged_and_the_unit_resumes_at_its_case_without_it():
    results, case, rest = after_crash(UNIT, (4, "mine", "eager"), Died("SIGSEGV"), "cpu")
    assert case == case_of(UNIT, 4)
    assert rest == replace(UNIT, start=4, skip=frozenset({(4, "mine", "eager")}))
    assert tuple(r.verdict.judge for r in results) == JUDGES
    wrong = [r for r in results if r.verdict.outcome is Outcome.DISAGREES]
    assert [(r.verdict.kind, r.provider, r.contract) for r in wrong] == [
        ("crash", "mine", "rms_norm/fp32-weight")
    ]


def test_a_late_death_is_charged_to_the_last_call_and_nothing_is_run_twice():
    resumed = replace(UNIT, start=5)
    _results, _case, rest = after_crash(resumed, (4, "native", "eager"), Died("SIGABRT"), "cpu")
    assert rest.start == 5


def test_a_death_before_any_call_is_our_fault_where_it_comes_again():
    seen: set[Unit] = set()
    said = "a worker ended before its first call of contract/rms_norm: SIGBUS"
    assert before_first_call(UNIT, Died("SIGBUS"), seen) == f"{said}; another took over"
    # Behind its first case the unit is another.
    assert before_first_call(replace(UNIT, start=3), Died("SIGBUS"), seen).startswith(said)
    with pytest.raises(OwnFault, match=rf"^{said}, twice$"):
        before_first_call(UNIT, Died("SIGBUS"), seen)


def test_who_crashed_too_often_is_left_out_and_what_that_costs_is_undecided():
    crashes = Counter({("ir", "rms_norm", "mine", "eager"): 3})
    skipping = replace(UNIT, skip=frozenset({(2, "mine", "eager")}))
    rest, results = given_up(skipping, crashes, 3)
    assert rest == replace(skipping, drives=UNIT.drives[:1])
    # Cases 3, 4 and 5 of 2 to 5: the crash of case 2 has its verdict already.
    assert len(results) == 3 * len(JUDGES)
    assert {(r.verdict.outcome, r.verdict.kind) for r in results} == {
        (Outcome.UNDECIDED, "crashed-before")
    }
    assert {r.provider for r in results} == {"mine"}


def test_nobody_is_left_out_before():
    crashes = Counter({("ir", "rms_norm", "mine", "eager"): 2})
    assert given_up(UNIT, crashes, 3) == (UNIT, [])


def test_a_stream_that_there_is_not_is_our_fault():
    with pytest.raises(OwnFault, match="unit 3 names stream 'nothing', which contract has not"):
        case_of(replace(UNIT, stream="nothing"), 0)


def test_a_death_of_a_single_check_is_an_observation():
    class Dead:
        def ask(self, _message: object, _answer: str) -> Died:
            return Died("SIGSEGV")

    request = CheckRequest(
        prop="contract",
        subject="ir",
        case=case_of(UNIT, 0),
        provider="mine",
        route="eager",
        contract=None,
    )
    results = check_once(Dead(), request, "cpu")  # type: ignore[arg-type]
    assert [r.verdict.kind for r in results if r.verdict.outcome is Outcome.DISAGREES] == ["crash"]


def test_of_who_is_absent_only_the_name_is_left():
    absent = Absent("ir")
    assert (absent.name, absent.version(), absent.providers()) == ("ir", "", ())
    assert absent.observe(case_of(UNIT, 0), "mine", "eager", Probes()) == Died("gone")
