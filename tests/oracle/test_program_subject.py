"""Programs through every route: torch's own, ours, and the reference's."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import FAMILIES, lowering_case, program_case
from ir.op import IrOp
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import Terms, kind_named
from oracle.observation.program import ProgramReturned
from oracle.subjects.programs import reference
from oracle.subjects.programs.subject import Programs
from oracle.verdict import Outcome, Place
from reference.model import Name, ProgramCase, ProgramStep, Storage, Value, View

PROGRAM = kind_named("program")
JUDGED = [name for name in JUDGES if name.startswith("program-")]
GRAPHS = ("unwrapped", "fx-unlowered", "fx-cold", "fx-uncached", "fx-warm", "fx-blind", "fx-pass")


def wrong(case: ProgramCase, observation: object) -> dict[str, str]:
    """What each judge of programs has against a run."""
    evidence = PROGRAM.evidence(case, PROGRAM.expect(case, Terms()), observation, Terms())
    found = {name: JUDGES[name].judge(evidence) for name in JUDGED}
    return {n: str(v.place) for n, v in found.items() if v.outcome is Outcome.DISAGREES}


def program(*steps: ProgramStep, outputs: tuple[int, ...]) -> ProgramCase:
    """Steps on one input, float32[2, 4]."""
    content = np.arange(1, 9, dtype=np.float32).tobytes()
    return ProgramCase(
        storages=(Storage("float32", 8, content),),
        tensors=(View(0, (2, 4), (4, 1)),),
        inputs=(0,),
        steps=steps,
        outputs=outputs,
    )


def step(target: str, *operands: object, results: int = 1, **keywords: object) -> ProgramStep:
    return ProgramStep(f"aten.{target}", operands, tuple(keywords.items()), results)  # type: ignore[arg-type]


V = Value
CLONE = step("clone.default", V(0))
MISCOMPILED = {
    "a view of the clone is written": program(
        CLONE, step("view.default", V(1), (-1,)), step("add_.Tensor", V(2), 1),
        step("add.Tensor", V(0), V(1)), outputs=(4,),
    ),
    "the original is written": program(
        CLONE, step("add_.Tensor", V(0), 1), step("mul.Tensor", V(1), 2), outputs=(3,)
    ),
    "a view of the original is written": program(
        CLONE, step("select.int", V(0), 0, 0), step("add_.Tensor", V(2), 1),
        step("mul.Tensor", V(1), 2), outputs=(4,),
    ),
    "an earlier view of the original is read": program(
        step("view.default", V(0), (-1,)), step("clone.default", V(0)),
        step("add_.Tensor", V(2), 1), step("mul.Tensor", V(1), 2), outputs=(4, 2),
    ),
    "the clone is written by keyword": program(
        CLONE, step("add.out", V(0), 1, out=V(1)), step("mul.Tensor", V(1), 1), outputs=(0, 3)
    ),
    "a view of the clone is written, and the caller's tensor kept": program(
        CLONE, step("select.int", V(1), 0, 0), step("add_.Tensor", V(2), 1),
        step("mul.Tensor", V(1), 1), outputs=(4,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISCOMPILED)
def test_what_another_elimination_miscompiles_is_right_here(name: str):
    subject = Programs()
    case = MISCOMPILED[name]
    for route in GRAPHS:
        assert wrong(case, subject.observe(case, "passes", route)) == {}, route


def norm(x: int) -> ProgramStep:
    return ProgramStep("ir.rms_norm.default", (V(x), None, 1.0))


def test_a_provider_may_write_where_only_a_call_reads_whose_result_nobody_does():
    """The second norm finds what the first left in the input, which the caller gave away."""
    steps = (norm(0), norm(0), step("neg.default", V(2)))
    case = replace(program(*steps, outputs=(1,)), donated=(0,))
    returned = Programs().observe(case, "passes", "fx-inplace")
    assert isinstance(returned, ProgramReturned)
    first, second = returned.seen[1].values, returned.seen[2].values
    assert (first != second).any()
    assert wrong(case, returned) == {}


def test_a_stride_of_a_dimension_of_one_places_nothing():
    """In place the result has the input's strides, and a clone of it keeps them."""
    row = replace(program(norm(0), step("clone.default", V(1)), outputs=(2,)),
                  tensors=(View(0, (1, 4), (6, 1)),))  # fmt: skip
    assert wrong(row, Programs().observe(row, "passes", "fx-inplace")) == {}


def test_metadata_that_hides_who_is_one_tensor_still_tells_of_views_of_one_base():
    """The flat view is written, so the clone of the other must stay."""
    flat = replace(
        program(step("clone.default", V(0)), step("add_.Tensor", V(1), 1),
                step("mul.Tensor", V(2), 1), outputs=(4,)),
        tensors=(View(0, (2, 4), (4, 1)), View(0, (8,), (1,))), inputs=(0, 1),
    )  # fmt: skip
    assert wrong(flat, Programs().observe(flat, "passes", "fx-blind")) == {}
    alike = replace(flat, tensors=(flat.tensors[0], flat.tensors[0]))
    assert wrong(alike, Programs().observe(alike, "passes", "fx-blind")) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_agrees_with_itself(family: str):
    for index in range(20):
        case = program_case(SeededChooser(0, "identity", index), family=family)
        assert wrong(case, reference.observe(case)) == {}


def test_the_reference_agrees_with_itself_on_ops_of_the_ir():
    for index in range(20):
        case = lowering_case(SeededChooser(0, "identity", index))
        assert wrong(case, reference.observe(case)) == {}


def test_a_program_that_torch_refuses_agrees_where_it_raises():
    case = program(step("view.default", V(0), (3, 3)), outputs=(1,))
    assert wrong(case, Programs().observe(case, "passes", "fx-cold")) == {}


def test_a_dtype_is_given_by_its_name():
    case = program(step("to.dtype", V(0), Name("float16")), outputs=(1,))
    assert wrong(case, Programs().observe(case, "passes", "fx-pass")) == {}


@pytest.mark.parametrize("overload", ["default", "maybe_inplace"])
def test_without_the_wrap_no_torch_op_of_the_ir_is_called(
    monkeypatch: pytest.MonkeyPatch, overload: str
):
    norm = IrOp.registry["rms_norm"]
    case = program(ProgramStep(f"ir.rms_norm.{overload}", (V(0), None, 1e-5)), outputs=(1,))
    called = norm if overload == "default" else norm.maybe_inplace
    monkeypatch.setattr(called, "torch_op", None)
    assert wrong(case, Programs().observe(case, "passes", "unwrapped")) == {}


def test_the_optimum_takes_every_clone_that_nobody_can_tell():
    case = program(
        step("mul.Tensor", V(0), 2), step("clone.default", V(1)), step("add_.Tensor", V(2), 1),
        step("clone.default", V(0)), step("mul.Tensor", V(4), 1), outputs=(2, 5, 4),
    )  # fmt: skip
    returned = Programs().observe(case, "passes", "fx-pass")
    assert isinstance(returned, ProgramReturned)
    facts = returned.clones
    assert facts is not None
    assert (facts.clones, facts.removable, facts.removed) == ((2, 4), 1, (2,))
    assert facts.kept == ((4, "output-aliases-input"),)


def test_a_script_shows_the_fault_and_is_silent_without_it(tmp_path: Path):
    case = MISCOMPILED["the original is written"]
    finding = Finding(
        fingerprint="0" * 12, property="clones", subject="ir", op="program", provider="passes",
        route="fx-pass", judge="program-values", kind="value", contract="", device="cpu",
        case=case, place=Place(name="output", index=(0,), observed="4.0", expected="2.0"),
    )  # fmt: skip
    text = PROGRAM.script(finding, PROGRAM.expect(case, Terms()))
    sound = tmp_path / "sound.py"
    sound.write_text(text)
    broken = tmp_path / "broken.py"
    call = "ir.compilation.eliminate_clones(module.graph, donated=())"
    assert call in text
    broken.write_text(
        text.replace(
            call,
            "[(n.replace_all_uses_with(n.args[0]), module.graph.erase_node(n)) "
            'for n in [*module.graph.nodes] if n.name.startswith("clone")]',
        )
    )
    runs = [
        subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=tmp_path)
        for path in (sound, broken)
    ]
    assert [(r.returncode, r.stdout.splitlines()[-1]) for r in runs] == [
        (0, "no fault"),
        (1, "1 differ"),
    ]
