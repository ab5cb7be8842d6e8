"""Programs shrink to the least that shows the same: fewer steps, plainer memory, calls, values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import FAMILIES, lowering_case, program_case
from oracle.simplify.programs import PROGRAM_PASSES, program_cost
from reference.declaration import Refusal
from reference.model import Fill, Name, ProgramCase, ProgramStep, Storage, Value, View, digest
from reference.programs import ExpectedProgram, expect_program
from reference.programs.removal import clones, may_go

v = Value


def step(target: str, *operands, results: int = 1, **keywords) -> ProgramStep:
    return ProgramStep(f"aten.{target}", operands, tuple(keywords.items()), results)


def shrunk(case: ProgramCase, fails: Callable[[ProgramCase], bool]) -> ProgramCase:
    """What the engine's greedy shrinking comes to."""
    seen = {digest(case)}
    taken = True
    while taken:
        taken = False
        for simplify in PROGRAM_PASSES:
            while found := next((c for c in simplify(case) if _new(c, seen) and fails(c)), None):
                case, taken = found, True
    return case


def _new(case: ProgramCase, seen: set[str]) -> bool:
    name = digest(case)
    if name in seen:
        return False
    seen.add(name)
    return True


def cases(count: int) -> list[ProgramCase]:
    drawn = [program_case(SeededChooser(4, f, i), family=f) for f in FAMILIES for i in range(count)]
    return [*drawn, *(lowering_case(SeededChooser(4, "lowering", i)) for i in range(count))]


def test_every_candidate_costs_less_and_is_known() -> None:
    yielded = 0
    for case in cases(2):
        for simplify in PROGRAM_PASSES:
            for candidate in islice(simplify(case), 10):
                yielded += 1
                assert program_cost(candidate) < program_cost(case)
                assert isinstance(expect_program(candidate), ExpectedProgram)
    assert yielded > 400


@pytest.mark.parametrize("simplify", PROGRAM_PASSES, ids=range(len(PROGRAM_PASSES)))
def test_every_pass_finds_something(simplify) -> None:
    assert any(True for case in cases(6) for _ in simplify(case))


def test_whatever_fails_shrinks_to_nothing_where_anything_fails() -> None:
    for case in cases(2):
        least = shrunk(case, lambda _: True)
        assert least == ProgramCase(storages=(), tensors=(), inputs=(), steps=(), outputs=())


def drops_all_clones(case: ProgramCase) -> bool:
    """Whether removing every clone, as an unsound pass does, can be told."""
    found = expect_program(case)
    return (
        isinstance(found, ExpectedProgram)
        and bool(clones(case))
        and not may_go(case, clones(case), found)
    )


def test_an_unsound_removal_shrinks_to_a_clone_that_is_returned() -> None:
    least = {
        (tuple(s.target for s in shrunk(case, drops_all_clones).steps))
        for case in cases(4)
        if drops_all_clones(case)
    }
    assert ("aten.clone.default",) in least
    assert max(map(len, least)) <= 3


def written_through_a_view(case: ProgramCase) -> bool:
    """A clone is written through a view of it, and its original is read afterwards."""
    found = expect_program(case)
    if not isinstance(found, ExpectedProgram) or len(clones(case)) != 1:
        return False
    copy = case.first_result(clones(case)[0])
    written = [s for s in case.steps if s.target.endswith(("_.Tensor", "_.default", "_.Scalar"))]
    views = {
        case.first_result(i)
        for i, s in enumerate(case.steps)
        if s.target == "aten.view.default" and next(s.values()) == copy
    }
    return any(next(s.values()) in views for s in written) and copy in case.outputs


def test_a_write_through_a_view_shrinks_to_clone_view_write() -> None:
    case = ProgramCase(
        storages=(
            Storage("bfloat16", 30, Fill("dyadic", 1)),
            Storage("float32", 4, Fill("ramp", 1)),
        ),
        tensors=(View(0, (3, 4), (8, 2), 5), View(0, (4,), (2,), 5), View(1, (4,), (1,))),
        inputs=(0, 1, 2, 2),
        donated=(),
        steps=(
            step("mul.Tensor", v(2), -2, results=1),
            step("clone.default", v(0), memory_format=Name("contiguous_format")),
            step("view.default", v(5), (2, 6)),
            step("mul_.Tensor", self=v(6), other=0.5),
            step("unbind.int", v(6), results=2),
            step("stack.default", (v(8), v(9)), 1),
            step("add.Tensor", v(0), v(1), alpha=2),
        ),
        outputs=(5, 11, 10, 4, 5),
    )
    assert written_through_a_view(case)
    assert shrunk(case, written_through_a_view) == ProgramCase(
        storages=(Storage("float32", 1, b"\x00\x00\x80\x3f"),),
        tensors=(View(0, (), ()),),
        inputs=(0,),
        steps=(
            step("clone.default", v(0)),
            step("view.default", v(1), (1,)),
            step("add_.Tensor", v(2), 0),
        ),
        outputs=(1,),
    )


def test_a_refused_program_stays_refused_in_the_same_way() -> None:
    refused = Refusal("aten.view.default", "a view needs dimensions that step evenly")
    case = ProgramCase(
        storages=(Storage("float32", 24, Fill("ramp", 1)),),
        tensors=(View(0, (2, 3, 4), (12, 4, 1)),),
        inputs=(0,),
        steps=(
            step("mul.Tensor", v(0), 2),
            step("transpose.int", v(1), 0, 2),
            step("view.default", v(2), (-1,)),
            step("neg.default", v(3)),
        ),
        outputs=(4,),
    )
    assert expect_program(case) == refused
    least = shrunk(case, lambda candidate: expect_program(candidate) == refused)
    assert [s.target for s in least.steps] == ["aten.view.default"] or len(least.steps) == 2
    assert expect_program(least) == refused


def test_inputs_that_share_are_parted_where_that_shows_the_same() -> None:
    case = ProgramCase(
        storages=(Storage("float32", 8, Fill("ramp", 1)),),
        tensors=(View(0, (2, 2), (4, 1)), View(0, (4,), (2,), 1)),
        inputs=(0, 1),
        steps=(step("mul.Tensor", v(0), 2), step("neg.default", v(1))),
        outputs=(2, 3),
    )

    def fails(candidate: ProgramCase) -> bool:
        return [s.target for s in candidate.steps] == [s.target for s in case.steps]

    least = shrunk(case, fails)
    assert [view.is_contiguous for view in least.tensors] == [True] * len(least.tensors)
    together = shrunk(case, lambda c: fails(c) and len(c.storages) < len(set(c.inputs)))
    assert len(together.storages) == 1
    assert len(together.tensors) == 2
    assert replace(together, outputs=()).storages[0].numel <= 2
