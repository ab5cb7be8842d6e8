"""Torch itself as a subject: the programs of the passes, compiled without them."""

import pytest
import torch

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import lowering_case
from ir.op import IrOp
from oracle.judges import JUDGES
from oracle.kinds import Terms, kind_named
from oracle.observation import Declined, Raised
from oracle.plan import Selection, plan
from oracle.properties import PROPERTIES
from oracle.subject import Probes
from oracle.subjects import SubjectOptions, start
from oracle.subjects.programs import stock
from oracle.subjects.programs.calls import native
from oracle.verdict import Outcome
from reference.model import OpCase, ProgramCase, ProgramStep, Storage, Value, View

PROGRAM = kind_named("program")
JUDGED = [name for name in JUDGES if name.startswith("program-")]


def disagreeing(case: ProgramCase, route: str) -> set[tuple[str, str]]:
    """The judges that disagree with stock torch, and as what."""
    found = stock.observe(case, route)
    evidence = PROGRAM.evidence(case, PROGRAM.expect(case, Terms()), found, Terms())
    verdicts = [JUDGES[name].judge(evidence) for name in JUDGED]
    return {(v.judge, v.kind) for v in verdicts if v.outcome is Outcome.DISAGREES}


@pytest.mark.parametrize("route", ["eager", "aot-eager"])
def test_torch_agrees_on_programs_with_calls_of_the_ir(route: str):
    for index in range(6):
        case = lowering_case(SeededChooser(0, "torch", index))
        assert disagreeing(case, route) == set()
        assert any(step.target.startswith("ir.") for step in case.steps)


def test_ops_of_the_ir_are_the_functions_that_define_them():
    for name in ("rms_norm", "fused_add_rms_norm"):
        defining = IrOp.registry[name].impls["native"].impl_fn
        assert native(f"ir.{name}.default") is defining
        assert native(f"ir.{name}.maybe_inplace") is defining
    assert native("aten.add_.Tensor") is torch.ops.aten.add_.Tensor


def test_what_torch_refuses_is_an_observation():
    case = ProgramCase(
        storages=(Storage("float32", 8, bytes(32)),),
        tensors=(View(0, (2, 4), (4, 1)),),
        inputs=(0,),
        steps=(ProgramStep("aten.view.default", (Value(0), (3, 3))),),
        outputs=(1,),
    )
    for route in ("eager", "aot-eager"):
        assert isinstance(stock.observe(case, route), Raised)
        assert disagreeing(case, route) == set()


def test_only_programs_are_asked_of_torch():
    subject = start("torch", SubjectOptions())
    assert subject.version() == "torch 2.13.0"
    assert {p.op for p in subject.providers()} == {"program"}
    observed = subject.observe(OpCase("rms_norm", (), ()), "stock", "eager", Probes())
    assert observed == Declined("no-program")


def test_every_property_of_programs_and_no_other_drives_torch():
    units = plan(Selection(subjects=("torch",)), PROPERTIES, {"torch": stock.providers()})
    assert {unit.prop for unit in units} == {"lowering", "clones"}
    assert {route for unit in units for _, route, _ in unit.drives} == set(stock.ROUTES)
