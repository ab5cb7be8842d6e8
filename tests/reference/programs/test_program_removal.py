"""Which clones may go: nobody may be able to tell, by bytes, inputs, layout or shared memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference.model import Fill, Name, ProgramCase, ProgramStep, Storage, Value, View
from reference.model.program_edits import renumbered, without_dead_steps, without_step
from reference.programs import ExpectedProgram, expect_program
from reference.programs.removal import admits, clones, may_go, without_clones

v = Value


def step(target: str, *operands, **keywords) -> ProgramStep:
    return ProgramStep(f"aten.{target}", operands, tuple(keywords.items()))


def program(*steps: ProgramStep, outputs: tuple[int, ...], **changes) -> ProgramCase:
    case = ProgramCase(
        storages=(Storage("float32", 6, Fill("ramp", 1)), Storage("float32", 6, Fill("ramp", 2))),
        tensors=(View(0, (2, 3), (3, 1)), View(1, (2, 3), (1, 2))),
        inputs=(0, 1),
        steps=steps,
        outputs=outputs,
    )
    return replace(case, **changes)


DOUBLE, CLONE, ADD = step("mul.Tensor", v(0), 2), step("clone.default", v(2)), "add_.Tensor"
MAY_GO = {
    "of-a-temporary": program(DOUBLE, CLONE, outputs=(3,)),
    "written": program(DOUBLE, CLONE, step(ADD, v(3), 1), outputs=(3,)),
    "dead": program(step("clone.default", v(0)), outputs=(0,)),
    "of-an-input-only-read": program(
        step("clone.default", v(0)), step("add.Tensor", v(2), v(0)), outputs=(3,)
    ),
    "of-a-donated-input-returned": program(
        step("clone.default", v(0)), step(ADD, v(2), 1), outputs=(2,), donated=(0,)
    ),
    "other-rows-written": program(
        DOUBLE, CLONE,
        step("select.int", v(2), 0, 0), step(ADD, v(4), 1),
        step("select.int", v(3), 0, 1), step("mul.Tensor", v(6), 2), outputs=(7,),
    ),
}  # fmt: skip
MUST_STAY = {
    "returned-copy-of-an-input": program(step("clone.default", v(0)), outputs=(2,)),
    "two-outputs": program(DOUBLE, CLONE, outputs=(2, 3)),
    "input-written": program(step("clone.default", v(0)), step(ADD, v(2), 1), outputs=()),
    "read-after-the-clone-is-written": program(
        DOUBLE, CLONE, step(ADD, v(3), 1), step("mul.Tensor", v(2), 2), outputs=(5,)
    ),
    "read-after-the-original-is-written": program(
        DOUBLE, CLONE, step(ADD, v(2), 1), step("mul.Tensor", v(3), 2), outputs=(5,)
    ),
    "another-layout": program(
        step("mul.Tensor", v(1), 2),
        step("clone.default", v(2), memory_format=Name("contiguous_format")),
        outputs=(3,),
    ),
    "another-offset": program(
        DOUBLE, step("select.int", v(2), 0, 1), step("clone.default", v(3)), outputs=(4,)
    ),
    "both-given-to-one-write": program(
        DOUBLE, CLONE, step(ADD, v(3), v(2)), step("add.Tensor", v(3), v(2)), outputs=(5,)
    ),
    "view-refused-without-it": program(
        step("clone.default", v(1), memory_format=Name("contiguous_format")),
        step("view.default", v(2), (-1,)), step("mul.Tensor", v(3), 2), outputs=(4,),
    ),
}  # fmt: skip


def decided(case: ProgramCase) -> bool:
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    return may_go(case, clones(case), found)


@pytest.mark.parametrize("name", MAY_GO)
def test_a_clone_that_nobody_can_tell_may_go(name) -> None:
    assert decided(MAY_GO[name])


@pytest.mark.parametrize("name", MUST_STAY)
def test_a_clone_that_somebody_can_tell_must_stay(name) -> None:
    assert not decided(MUST_STAY[name])


def test_of_two_clones_each_may_go_and_both_may_not() -> None:
    # Either copy can be the temporary itself, but not both at once.
    case = program(DOUBLE, CLONE, CLONE, outputs=(3, 4))
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    assert [may_go(case, (i,), found) for i in clones(case)] == [True, True]
    assert not may_go(case, clones(case), found)


def test_bytes_of_a_donated_input_are_free_and_those_beside_it_are_not() -> None:
    case = program(step("clone.default", v(0)), step(ADD, v(2), 1), outputs=(2,), donated=(0,))
    narrow = replace(case, tensors=(View(0, (2, 2), (3, 1)), case.tensors[1]))
    found = expect_program(narrow)
    assert isinstance(found, ExpectedProgram)
    free = found.storages[0].free
    assert free is not None
    assert free.tolist() == [True, True, False, True, True, False]
    for element, allowed in enumerate(free.tolist()):
        content = np.frombuffer(found.storages[0].content, np.float32).copy()
        content[element] += 1
        changed = replace(found.storages[0], content=content.tobytes())
        other = replace(found, storages=(changed, *found.storages[1:]))
        assert admits(found, other, narrow) == allowed


def test_what_stands_in_for_a_step_is_renumbered_everywhere() -> None:
    split = ProgramStep("aten.unbind.int", (v(0),), (), 2)
    case = program(
        split, step("add.Tensor", v(2), v(3)), step("stack.default", (v(4), v(4))), outputs=(5, 0)
    )
    assert without_step(case, 0) is None
    edited = without_step(case, 0, {2: 0, 3: 1})
    assert edited is not None
    assert edited.steps == (
        step("add.Tensor", v(0), v(1)),
        step("stack.default", (v(2), v(2))),
    )
    assert edited.outputs == (3, 0)


def test_what_only_dead_steps_use_is_dead() -> None:
    case = program(
        DOUBLE, CLONE, step("neg.default", v(2)), step("abs.default", v(4)),
        step("add.Tensor", v(0), v(3)), outputs=(6,),
    )  # fmt: skip
    kept = program(DOUBLE, CLONE, step("add.Tensor", v(0), v(3)), outputs=(4,))
    assert without_dead_steps(case, lambda _: False) == kept
    assert without_dead_steps(case, lambda s: s.target == "aten.abs.default") == case
    nothing = without_dead_steps(replace(case, outputs=(0,)), lambda _: False)
    assert nothing == program(outputs=(0,))


def test_keywords_and_lists_are_renumbered() -> None:
    given = step("cat.out", (v(1), (v(2),)), 0, out=v(3))
    assert renumbered(given, lambda n: n + 10) == step("cat.out", (v(11), (v(12),)), 0, out=v(13))


def test_only_a_clone_stands_aside_for_its_original() -> None:
    case = program(DOUBLE, CLONE, outputs=(3,))
    assert without_clones(case, clones(case)).outputs == (2,)
    with pytest.raises(
        ValueError, match=r"step 0 calls 'aten\.add\.Tensor'; accepted: 'aten\.clone\.default'"
    ):
        without_clones(program(step("add.Tensor", v(0), v(1)), outputs=(2,)), (0,))
