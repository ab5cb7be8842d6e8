"""Programs that an unsound clone elimination gets wrong: what each must do, and that it may not."""

from __future__ import annotations

import numpy as np
import pytest

from reference.dtypes import encode
from reference.model import ProgramCase, ProgramStep, Storage, Value, View
from reference.programs import ExpectedProgram, expect_program
from reference.programs.removal import clones, may_go

X = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def step(target: str, *operands, **keywords) -> ProgramStep:
    return ProgramStep(f"aten.{target}", operands, tuple(keywords.items()))


def program(*steps: ProgramStep, outputs: tuple[int, ...], donated: tuple[int, ...] = ()):
    return ProgramCase(
        storages=(Storage("float32", 6, encode(np.array(X), "float32").tobytes()),),
        tensors=(View(0, (2, 3), (3, 1)),),
        inputs=(0,),
        steps=steps,
        outputs=outputs,
        donated=donated,
    )


v = Value
PROGRAMS = {
    "clone-written-through-a-view": (
        program(
            step("clone.default", v(0)), step("view.default", v(1), (-1,)),
            step("add_.Tensor", v(2), 1), step("add.Tensor", v(0), v(1)), outputs=(4,),
        ),
        [[3, 5, 7, 9, 11, 13]], X,
    ),
    "original-written": (
        program(
            step("clone.default", v(0)), step("add_.Tensor", v(0), 1),
            step("mul.Tensor", v(1), 2), outputs=(3,),
        ),
        [[2, 4, 6, 8, 10, 12]], [2, 3, 4, 5, 6, 7],
    ),
    "original-written-through-a-view": (
        program(
            step("clone.default", v(0)), step("select.int", v(0), 0, 0),
            step("add_.Tensor", v(2), 1), step("mul.Tensor", v(1), 2), outputs=(4,),
        ),
        [[2, 4, 6, 8, 10, 12]], [2, 3, 4, 4, 5, 6],
    ),
    "view-of-the-original-read": (
        program(
            step("view.default", v(0), (-1,)), step("clone.default", v(0)),
            step("add_.Tensor", v(2), 1), step("mul.Tensor", v(1), 2), outputs=(4, 2),
        ),
        [[2, 4, 6, 8, 10, 12], [2, 3, 4, 5, 6, 7]], X,
    ),
    "clone-written-by-out": (
        program(
            step("clone.default", v(0)), step("add.out", v(0), 1, out=v(1)),
            step("mul.Tensor", v(1), 1), outputs=(0, 3),
        ),
        [X, [2, 3, 4, 5, 6, 7]], X,
    ),
    "view-of-a-clone-written": (
        program(
            step("clone.default", v(0)), step("select.int", v(1), 0, 0),
            step("add_.Tensor", v(2), 1), step("mul.Tensor", v(1), 1), outputs=(4,),
        ),
        [[2, 3, 4, 4, 5, 6]], X,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_reference_says_what_it_does(name, eager, differs) -> None:
    case, outputs, inputs = PROGRAMS[name]
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    assert [np.frombuffer(o.content, np.float32).tolist() for o in found.outputs] == outputs
    assert np.frombuffer(found.storages[0].content, np.float32).tolist() == inputs
    assert differs(case, found, eager(case)) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_clone_may_not_go(name) -> None:
    case = PROGRAMS[name][0]
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    assert not may_go(case, clones(case), found)
