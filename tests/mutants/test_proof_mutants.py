"""Faults in plans that the prover refutes, with sizes at which running the plan shows them."""

import importlib.util
from pathlib import Path
from typing import cast

import pytest

from fuzz.lattices.tp import attention_case, proof_case, single
from oracle.checking import CaseChecker
from oracle.observation.proof import Proof
from oracle.proofs.counterexample import counterexample
from oracle.proofs.outcome import Proved, Refuted
from oracle.proofs.prover import prove
from oracle.properties import PROPERTIES
from oracle.subject import Subject
from oracle.subjects.transfers import observe_ir
from oracle.subjects.transfers.symbolic import formulas
from oracle.verdict import Outcome
from reference.model import TransferCase

pytest.importorskip("z3", reason="needs z3-solver")

_spec = importlib.util.spec_from_file_location(
    "transfer_faults", Path(__file__).parent / "kernels" / "transfers.py"
)
assert _spec is not None
assert _spec.loader is not None
faults = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faults)

MIXED = ("HND", "NHD")
REFUTED = {
    "head_slot_off_by_one": ("covered-twice", "uncovered", "wrong-source"),
    "head_offset_off_by_one": ("wrong-source",),
    "last_piece_dropped": ("uncovered", "covered-twice-or-outside"),
    "last_page_dropped": ("beyond-its-row",),
    "replicated_means_whole": ("uncovered", "covered-twice-or-outside"),
    "ids_begin_one_late": ("wrong-id",),
}
TOPOLOGIES = ((4, 2, 4), (2, 4, 1), (2, 2, 1), (4, 4, 2), (2, 1, 2))


def refuted() -> tuple[TransferCase, Refuted] | None:
    for topology in TOPOLOGIES:
        for layouts in (MIXED, ("HND", "HND")):
            case = single(attention_case(topology, layouts, 2))
            found = formulas(case)
            if isinstance(found, Proof):
                answer = prove(case, found).refuted
                if answer is not None:
                    return case, answer
    return None


def proved(case: TransferCase) -> Proved:
    found = formulas(case)
    assert isinstance(found, Proof)
    return prove(case, found)


class Planner:
    name = "ir"

    def observe(self, case, provider, route, probes):
        return observe_ir(case, route)


def disagrees(case, route: str) -> bool:
    checker = CaseChecker(cast(Subject, Planner()), PROPERTIES["transfer"], case, "cpu")
    results = checker.observe("planner", route, None, interpreted=False)
    return any(r.verdict.outcome is Outcome.DISAGREES for r in results)


@pytest.mark.parametrize("fault", REFUTED)
def test_a_fault_is_refuted_with_sizes_that_replay(fault: str):
    with pytest.MonkeyPatch.context() as patch:
        faults.FAULTS[fault](patch)
        found = refuted()
        assert found is not None
        case, answer = found
        assert answer.kind in REFUTED[fault]
        wrong = counterexample(case, answer)
        assert disagrees(wrong, "planned")
        assert disagrees(wrong, "memory")
    assert not disagrees(wrong, "planned")
    assert proved(case).refuted is None


@pytest.mark.parametrize("index", range(0, 3_160, 632))
def test_topologies_are_proved(index: int):
    case = proof_case(index)
    found = proved(case)
    assert (found.unknown, found.refuted) == ("", None)
    assert found.claims > 20
