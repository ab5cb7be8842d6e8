"""What torch itself is known to get wrong: seen on the smallest programs, excused nowhere else."""

from collections import Counter

import numpy as np
import pytest

from oracle.checking import CheckResult
from oracle.findings import Disagreements
from oracle.judges import JUDGES
from oracle.kinds import Terms, kind_named
from oracle.kinds.program import case_lines
from oracle.known import Known, KnownEntry
from oracle.known_programs import CAUSES, known_programs
from oracle.plan import Selection, plan
from oracle.properties import PROPERTIES
from oracle.subjects import SubjectOptions, start
from oracle.subjects.programs import stock
from oracle.verdict import Outcome, Place, Verdict, disagrees
from reference.model import ProgramCase, ProgramStep, Storage, Value, View

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PROGRAM = kind_named("program")
SMALLEST = {
    "out-not-row-major": (
        "x0: float32[2, 3] strides [1, 2] = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]; "
        "v1 = aten.mul.out(x0, 2.0, out=x0); return nothing",
    ),
    "view-of-an-aliased-input": (
        "x0: float32[2] offset 1 = [2.0, 3.0]; x1: float32[2] in storage 0 = [1.0, 2.0]; "
        "v2 = aten.add_.Tensor(x1, 0); v3 = aten.select.int(x0, 0, 0); return v3",
        "x0: float32[2, 3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; "
        "x1: float32[1, 3] offset 3 in storage 0 = [4.0, 5.0, 6.0]; "
        "v2 = aten.add_.Tensor(x0, 0); v3 = aten.view.default(x1, [-1]); return v3",
        "x0: float32[2, 2, 1] strides [6, 3, 1] = [1.0, 4.0, 7.0, 10.0]; "
        "x1: float32[2, 2, 1] strides [6, 3, 1] in storage 0 = [1.0, 4.0, 7.0, 10.0]; "
        "v2 = aten.add_.Tensor(x0, 0); v3, v4 = aten.chunk.default(x1, 2, 1); return v3",
    ),
    "copy-of-a-copy": (
        "x0: float32[1] = [1.0]; v1 = aten.mul.Tensor(x0, 2); v2 = aten.clone.default(v1); "
        "v3 = aten.clone.default(v2); return v2, v3",
        "x0: float32[2] = [1.0, 2.0]; v1 = aten.clone.default(x0); v2 = aten.zero_.default(x0); "
        "v3 = aten.select.int(v1, 0, 1); v4 = aten.clone.default(v3); return v4",
    ),
}


def verdicts(case: ProgramCase, route: str) -> list[Verdict]:
    """What judges of programs have against stock torch."""
    found = stock.observe(case, route)
    evidence = PROGRAM.evidence(case, PROGRAM.expect(case, Terms()), found, Terms())
    judged = [JUDGES[name].judge(evidence) for name in JUDGES if name.startswith("program-")]
    return [v for v in judged if v.outcome is Outcome.DISAGREES]


def result(prop: str, route: str, verdict: Verdict) -> CheckResult:
    return CheckResult(
        prop=prop, subject="torch", op="program", dtype="", provider="stock", route=route,
        contract=None, case="", verdict=verdict, telling=True,
    )  # fmt: skip


def excused(prop: str, route: str) -> tuple[Counter[KnownEntry], int]:
    """What the shipped entries excuse of the smallest programs, and how many groups are left."""
    subject = start("torch", SubjectOptions())
    noted = Disagreements(
        selection=Selection(), providers={}, versions={"torch": subject.version()}
    )
    for case in known_programs():
        for verdict in verdicts(case, route):
            noted.note(result(prop, route, verdict), case)
    return noted.excused, sum(group[4] != "known" for group in noted.groups)


def test_the_smallest_programs_are_these():
    found = {
        name: tuple("; ".join(case_lines(case)) for case in cause.smallest)
        for name, cause in CAUSES.items()
    }
    assert found == SMALLEST


@pytest.mark.parametrize("prop", ["lowering", "clones"])
@pytest.mark.parametrize("route", ["aot-eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_what_is_known_shows_and_nothing_else_does(prop: str, route: str):
    found, left = excused(prop, route)
    wanted = [e for e in Known.load().entries if (e.property, e.route) == (prop, route)]
    assert set(found) == set(wanted)
    assert left == 0


def test_step_by_step_torch_is_right():
    assert [verdicts(case, "eager") for case in known_programs()] == [[]] * len(known_programs())


def test_the_same_place_without_the_cause_is_not_known():
    noted = Disagreements(selection=Selection(), providers={}, versions={"torch": "torch 2.13.0"})
    place = Place(name="output", index=(0,), observed="1.0", expected="2.0")
    wrong = result("lowering", "inductor", disagrees("program-values", "value", place))
    view, *_ = CAUSES["view-of-an-aliased-input"].smallest
    _, copy = CAUSES["copy-of-a-copy"].smallest
    (other,) = CAUSES["out-not-row-major"].smallest
    for case in (view, copy, other):
        noted.note(wrong, case)
    assert sorted(entry.cause for entry in noted.excused) == [
        "copy-of-a-copy",
        "view-of-an-aliased-input",
    ]
    assert [group[4] for group in noted.groups] == ["known", "known", "program-values"]
    assert [line.partition(" (")[0].partition(": ")[0] for line in noted.known_lines()] == [
        "torch lowering"
    ] * 2


def program(*steps: ProgramStep, outputs: tuple[int, ...]) -> ProgramCase:
    """Steps on value 0, a float32[2, 2]."""
    return ProgramCase(
        storages=(Storage("float32", 4, np.arange(4, dtype=np.float32).tobytes()),),
        tensors=(View(0, (2, 2), (2, 1)),),
        inputs=(0,),
        steps=steps,
        outputs=outputs,
    )


def clone(of: int) -> ProgramStep:
    return ProgramStep("aten.clone.default", (Value(of),))


def test_copies_of_copies_spoil_values_only_where_something_is_written():
    spoils = CAUSES["copy-of-a-copy"].spoils
    zero = ProgramStep("aten.zero_.default", (Value(0),))
    kept = program(clone(0), clone(1), outputs=(2,))
    written = program(clone(0), clone(1), zero, outputs=(2,))
    assert [spoils(kept, kind, 0) for kind in ("value", "offset")] == [False, True]
    assert [spoils(written, kind, 0) for kind in ("value", "route-differs")] == [True, True]


def test_copies_of_copies_spoil_no_output_beside_them():
    double = ProgramStep("aten.mul.Tensor", (Value(0), 2))
    beside = program(clone(0), clone(1), double, outputs=(2, 3))
    spoils = CAUSES["copy-of-a-copy"].spoils
    assert [spoils(beside, "offset", output) for output in (0, 1, None)] == [True, False, True]


def test_what_inductor_gets_wrong_in_a_norm_of_a_norm_is_not_known():
    def norm(of: int) -> ProgramStep:
        return ProgramStep("ir.rms_norm.default", (Value(of), None, 1e-6))

    norms = program(norm(0), norm(1), outputs=(2,))
    assert [name for name, cause in CAUSES.items() if cause.spoils(norms, "offset", None)] == []
    # Of a clone of a norm, whose last step may be a copy, it may.
    cloned = program(norm(0), clone(1), outputs=(1, 2))
    spoils = CAUSES["copy-of-a-copy"].spoils
    assert [spoils(cloned, kind, 1) for kind in ("outputs-share-storage", "value")] == [True, False]


@pytest.mark.parametrize("name", ["lowering", "clones"])
def test_every_run_on_torch_and_no_other_takes_the_smallest_programs(name: str):
    (stream,) = (s for s in PROPERTIES[name].streams("program", "") if s.name == "known")
    assert stream.count == len(known_programs())
    assert stream.fixed_count
    assert [stream.case(7, i) for i in range(stream.count)] == [*known_programs()]
    providers = {"torch": stock.providers(), "ir": stock.providers()}
    for subject, wanted in (("torch", {"known"}), ("ir", set())):
        units = plan(Selection(subjects=(subject,), properties=(name,)), PROPERTIES, providers)
        assert {u.stream for u in units} & {"known"} == wanted
