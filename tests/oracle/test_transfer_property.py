"""The property of transfers: identity, its summary and demands, what it declines."""

from typing import cast

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.refused_transfers import RULES, refused_case
from fuzz.strategies.transfers import transfer_case
from oracle.checking import CaseChecker
from oracle.kinds import kind_named
from oracle.observation import Declined, Died, Raised
from oracle.plan import QUICK, Selection, plan
from oracle.properties import PROPERTIES
from oracle.properties.transfer import demands, summary
from oracle.subject import Provider, Subject
from oracle.subjects.transfers import observe_ir
from oracle.subjects.transfers.reference import observe
from oracle.verdict import Outcome, Verdict
from reference.model import TransferCase, case_from_json, case_to_json

TRANSFER = PROPERTIES["transfer"]
KIND = kind_named("transfer")


class Stub:
    """A subject that answers with what it is given."""

    name = "stub"

    def __init__(self, answer) -> None:
        self._answer = answer

    def observe(self, case, provider: str, route: str, probes):
        return self._answer(case)


def verdicts(case: TransferCase, answer) -> list[Verdict]:
    checker = CaseChecker(cast(Subject, Stub(answer)), TRANSFER, case, "cpu")
    return [r.verdict for r in checker.observe("stub", "planned", None, interpreted=False)]


def disagreements(case: TransferCase, answer) -> list[tuple[str, str]]:
    found = verdicts(case, answer)
    return [(v.judge, v.kind) for v in found if v.outcome is Outcome.DISAGREES]


@pytest.mark.parametrize("index", range(40))
def test_the_reference_agrees_with_itself(index: int):
    case = transfer_case(SeededChooser(1, "identity", index))
    assert disagreements(case, observe) == []
    refused = refused_case(SeededChooser(1, "identity", index), RULES[index % len(RULES)])
    assert disagreements(refused, observe) == []


@pytest.mark.parametrize("stream", TRANSFER.streams("transfer", ""), ids=lambda s: s.name)
def test_the_cases_of_a_stream_follow_from_seed_and_index(stream):
    for index in range(6):
        case = stream.case(3, index)
        assert stream.case(3, index) == case
        assert case_from_json(case_to_json(case)) == case
        assert KIND.lines(case)
        assert KIND.size(case)[0] >= 1


@pytest.mark.parametrize(("how", "kind"), [("SIGSEGV", "crash"), ("timeout", "timeout")])
def test_a_death_is_a_disagreement(how: str, kind: str):
    case = transfer_case(SeededChooser(1, "death"))
    assert disagreements(case, lambda _case: Died(how)) == [("transfer-refusal", kind)]


def test_an_error_of_no_refusal_is_one_too():
    case = transfer_case(SeededChooser(1, "raised"))
    raised = Raised("KeyError", ("LookupError",), "'k'")
    assert disagreements(case, lambda _case: raised) == [("transfer-refusal", "raised")]


def test_faults_are_for_processes():
    case = TRANSFER.streams("transfer", "")[-1].case(0, 3)
    assert case.fault == "kill"
    assert observe_ir(case, "planned") == Declined("between-processes-only")
    assert observe_ir(case, "memory") == Declined("between-processes-only")


def test_the_summary_counts_the_lattice():
    lines = summary({"lattice points": 5, "topologies refused": 64, "transfers": 7, "bytes": 90})
    assert lines == (
        "7 transfers moved, 90 bytes of consumers compared",
        "lattice: 5 of 241,920 points, 64 of 258,984 topologies to be refused",
    )
    proofs = {"plans to prove": 4, "plans proved": 3, "claims": 9, "ways": 6, "ways never taken": 1}
    assert summary(proofs | {"copies to prove": 2, "copies proved": 2}) == (
        "3 of 4 topologies proved from end to end, for two layers of a group and all sizes",
        "2 of 2 layouts, kinds and block ratios proved for two layers, any two ranks, all sizes",
        "9 claims in these proofs",
        "6 ways through the planner, each at sizes that exist; 1 that no sizes take",
    )
    assert summary({"between engines": 4, "faults": 1})[-1] == (
        "4 transfers between processes, 1 of them with a fault"
    )


def test_a_run_must_prove_all_that_it_asks():
    assert demands({}) == ()
    assert demands({"plans to prove": 3_160, "plans proved": 3_160}) == ()
    assert demands({"copies to prove": 723, "copies proved": 720}) == (
        "720 of 723 layouts, kinds and block ratios proved for two layers, any two ranks, "
        "all sizes; wanted: all",
    )


def test_a_full_budget_takes_the_whole_lattice():
    providers = {"ir": (Provider(op="transfer", name="planner", routes=("planned",)),)}

    def lattice(budget: str) -> int:
        selection = Selection(properties=("transfer",), budget=budget)
        units = plan(selection, PROPERTIES, providers)
        return sum(u.stop - u.start for u in units if u.stream == "lattice")

    assert lattice("full") == 145_208
    assert lattice(QUICK) == 1_500
