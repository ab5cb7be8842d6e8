"""The optimum that clone elimination is measured against: no clone that some data need may go."""

from __future__ import annotations

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import needed_clones_case, removable_clone_case
from oracle.subjects.programs.calls import run_steps
from oracle.subjects.programs.memory import build
from oracle.subjects.programs.optimum import Tellers, clones_of
from reference.model import Fill, ProgramCase, ProgramStep, Storage, Value, View


def removable(case: ProgramCase) -> int | None:
    values = run_steps(case, build(case).inputs)
    return Tellers(case).removable(clones_of(case, values))


@pytest.mark.parametrize("name", ["relu_", "abs_", "neg_", "zero_"])
def test_a_clone_written_while_its_original_is_read_is_needed(name) -> None:
    case = ProgramCase(
        storages=(Storage("float32", 6, Fill("dyadic", 1)),),
        tensors=(View(0, (2, 3), (3, 1)),),
        inputs=(0,),
        steps=(
            ProgramStep("aten.mul.Tensor", (Value(0), 2)),
            ProgramStep("aten.clone.default", (Value(1),)),
            ProgramStep(f"aten.{name}.default", (Value(2),)),
            ProgramStep("aten.mul.Tensor", (Value(1), 2)),
        ),
        outputs=(2, 4),
    )
    assert removable(case) == 0


def test_it_finds_what_the_reference_finds_in_labelled_programs() -> None:
    for i in range(60):
        assert removable(removable_clone_case(SeededChooser(31, "removable", i))) != 0
        assert not removable(needed_clones_case(SeededChooser(31, "needed", i)))
