"""Which elements of what ops of the IR return anybody reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference.model import Fill, ProgramCase, ProgramStep, Storage, Value, View
from reference.programs import ExpectedProgram, expect_program, known_calls

v = Value


def step(target: str, *operands, results: int = 1, **keywords) -> ProgramStep:
    return ProgramStep(target, operands, tuple(keywords.items()), results)


NORM = step("ir.rms_norm.default", v(0), None, 1e-5)
FUSED = step("ir.fused_add_rms_norm.default", v(0), v(1), v(2), 1e-5, results=2)


def wanted(*steps: ProgramStep, outputs: tuple[int, ...] = (), donated: tuple[int, ...] = ()):
    """By number, the sums of the rows of what is read of each result of an op of the IR."""
    case = program(*steps, outputs=outputs, donated=donated)
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    return {n: mask.sum(axis=-1).tolist() for n, mask in sorted(found.wanted.items())}


def program(*steps: ProgramStep, outputs: tuple[int, ...] = (), donated: tuple[int, ...] = ()):
    """x, another x and a weight, of (2, 3), (2, 3) and (3,)."""
    return ProgramCase(
        storages=tuple(Storage("float32", n, Fill("ramp", n)) for n in (6, 7, 3)),
        tensors=(View(0, (2, 3), (3, 1)), View(1, (2, 3), (3, 1)), View(2, (3,), (1,))),
        inputs=(0, 1, 2),
        steps=steps,
        outputs=outputs,
        donated=donated,
    )


def test_an_output_is_read_whole_and_what_leads_nowhere_is_not_read():
    assert wanted(NORM, outputs=(3,)) == {3: [3, 3]}
    assert wanted(NORM, outputs=(0,)) == {3: [0, 0]}
    assert wanted(NORM, step("aten.neg.default", v(3))) == {3: [0, 0]}


def test_a_view_reads_nothing_and_what_is_read_through_it_is_read():
    row = step("aten.select.int", v(3), 0, 1)
    assert wanted(NORM, row) == {3: [0, 0]}
    assert wanted(NORM, row, outputs=(4,)) == {3: [0, 3]}
    assert wanted(NORM, row, step("aten.neg.default", v(4)), outputs=(5,)) == {3: [0, 3]}


@pytest.mark.parametrize(
    "over",
    [
        step("aten.zero_.default", v(4)),
        step("aten.fill_.Scalar", v(4), 2),
        step("aten.copy_.default", v(4), v(2)),
        step("aten.neg.out", v(2), out=v(4)),
        step("aten._foreach_copy_.default", (v(4),), (v(2),), results=0),
    ],
    ids=lambda s: s.target,
)
def test_what_is_written_over_before_it_is_read_is_not_read(over: ProgramStep):
    row = step("aten.select.int", v(3), 0, 1)
    assert wanted(NORM, row, over, outputs=(3,)) == {3: [3, 0]}
    read_before = (NORM, row, step("aten.neg.default", v(3)), replace(over))
    assert wanted(*read_before, outputs=(3, 5)) == {3: [3, 3]}


def test_what_is_changed_in_place_is_read_where_the_change_is():
    row = step("aten.select.int", v(3), 0, 1)
    doubled = step("aten.mul_.Tensor", v(4), 2)
    assert wanted(NORM, row, doubled, outputs=(3,)) == {3: [3, 3]}
    assert wanted(NORM, row, doubled) == {3: [0, 0]}


def test_what_goes_into_an_input_is_read_by_the_caller_unless_it_gave_the_input_away():
    into = step("aten.copy_.default", v(1), v(3))
    assert wanted(NORM, into) == {3: [3, 3]}
    assert wanted(NORM, into, donated=(1,)) == {3: [0, 0]}


def test_an_output_of_a_call_is_read_for_the_outputs_that_are_made_of_it_alone():
    """A residual is the sum of two activations; only the norm is made of the weight, too."""
    weight = step("ir.rms_norm.default", v(2), None, 1e-5)
    fused = step("ir.fused_add_rms_norm.default", v(0), v(1), v(3), 1e-5, results=2)
    assert wanted(weight, fused, outputs=(5,)) == {3: 0, 4: [0, 0], 5: [3, 3]}
    assert wanted(weight, fused, outputs=(4,)) == {3: 3, 4: [3, 3], 5: [0, 0]}


def test_a_call_is_read_through_the_calls_that_follow_it():
    later = step("ir.rms_norm.default", v(3), None, 1e-5)
    assert wanted(NORM, later, outputs=(4,)) == {3: [3, 3], 4: [3, 3]}
    assert wanted(NORM, later) == {3: [0, 0], 4: [0, 0]}


def test_calls_are_known_up_to_one_that_returned_what_the_reference_cannot_go_on_with():
    case = program(NORM, step("ir.rms_norm.default", v(3), None, 1e-5), FUSED, outputs=(4,))
    fine = np.ones((2, 3), np.float32)
    infinite = np.full((2, 3), np.inf, np.float32)
    for seen, known in ((infinite, [0]), (fine, [0, 1])):
        calls = known_calls(case, observed={0: (seen,), 1: (infinite,)})
        assert [call.step for call in calls] == known
