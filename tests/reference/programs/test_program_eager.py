"""What the reference says of programs is what eager torch does."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.programs import FAMILIES, lowering_case, program_case
from reference.declaration import Refusal
from reference.dtypes import decode, encode
from reference.expectation import Unknown
from reference.model import Name, ProgramCase, ProgramOperand, ProgramStep, Storage, Value, View
from reference.programs import ATEN, ExpectedProgram, expect_program
from reference.programs.arguments import REQUIRED

DTYPES = ("float32", "bfloat16", "float16", "int64", "bool")
NUMBERS = (1, 2.0, 0.5, -1, True, False)


@pytest.mark.parametrize("family", FAMILIES)
def test_programs_do_what_eager_torch_does(family, eager, differs) -> None:
    for i in range(150):
        case = program_case(SeededChooser(11, family, i), family=family)
        assert (i, differs(case, expect_program(case), eager(case))) == (i, "")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_many_programs_do_what_eager_torch_does(family, eager, differs) -> None:
    for i in range(1500):
        case = program_case(SeededChooser(12, family, i), family=family)
        assert (i, differs(case, expect_program(case), eager(case))) == (i, "")


def test_programs_with_ops_of_the_ir_do_what_eager_torch_does(eager, differs) -> None:
    import ir.ops  # noqa: F401

    judged = 0
    for i in range(60):
        case = lowering_case(SeededChooser(13, i))
        run = eager(case)
        assert run.error is None
        seen = {k: results for k, results in enumerate(run.results) if results}
        expected = expect_program(case, observed=seen)
        assert isinstance(expected, ExpectedProgram)
        assert differs(case, expected, run) == ""
        for call in expected.calls:
            for output, values in zip(call.outputs, run.results[call.step], strict=True):
                found, admitted = decode(values, output.dtype), output.interval
                assert ((found >= admitted.lo) & (found <= admitted.hi)).all()
                judged += 1
    assert judged > 150


def any_step(chooser: SeededChooser, values: int, target: str) -> ProgramStep:
    """A call of ``target`` with operands of the right sorts and no further thought."""

    def integer() -> int:
        return chooser.choose((0, 0, 1, 1, 2, -1, -2, 3, 4))

    def integers(among: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(chooser.choose(among) for _ in range(chooser.integer(0, 3)))

    def value() -> Value:
        return Value(chooser.integer(max(0, values - 8), values - 1))

    def operand(name: str) -> ProgramOperand:
        number_too = target.startswith(("aten.add", "aten.sub", "aten.mul"))
        if "_foreach" in target and name != "scalar":
            return tuple(value() for _ in range(chooser.integer(1, 2)))
        if name == "tensors":
            return tuple(value() for _ in range(chooser.integer(1, 2)))
        if name in ("value", "scalar") or (target == "aten.gt.Scalar" and name == "other"):
            return chooser.choose(NUMBERS)
        if name == "other" and number_too and chooser.chance(0.4):
            return chooser.choose(NUMBERS)
        if name in ("self", "other", "src", "condition", "mat2", "index", "out"):
            return value()
        if name in ("size", "shape", "stride", "dims"):
            return integers((0, 1, 1, 2, 2, 3, 4, 6, -1))
        if name == "dtype":
            return Name(chooser.choose(DTYPES))
        if name == "memory_format":
            return Name(chooser.choose(("contiguous_format", "preserve_format")))
        if name in ("keepdim", "copy"):
            return chooser.chance(0.5)
        if name == "alpha":
            return chooser.choose((1, 2, -1, 2.0))
        if name == "dim" and target.startswith(("aten.sum", "aten.amax")):
            return integers((0, 1, -1))
        return integer()

    declared = ATEN[target].parameters
    given: dict[str, ProgramOperand] = {
        name: operand(name)
        for name, default in declared.defaults.items()
        if default is REQUIRED or (name != "non_blocking" and chooser.chance(0.5))
    }
    by_place: list[ProgramOperand] = []
    for name in list(declared.defaults)[: declared.only_by_name]:
        if name not in given:
            break
        by_place.append(given.pop(name))
    return ProgramStep(target, tuple(by_place), tuple(given.items()))


def appended(case: ProgramCase, step: ProgramStep) -> ProgramCase:
    """The program with a step whose number of results is what the reference says it is."""
    longer = case
    for results in range(13):
        steps = (*case.steps, replace(step, results=results))
        longer = replace(case, steps=steps, outputs=())
        found = expect_program(longer)
        if not (isinstance(found, Refusal) and found.rule.startswith("returns ")):
            break
    return replace(longer, outputs=(*case.outputs, *range(case.values, longer.values)))


def wild(count: int, eager, differs) -> dict[str, int]:
    counts = {"done": 0, "refused": 0, "unknown": 0}
    targets = sorted(ATEN)
    for i in range(count):
        chooser = SeededChooser(21, "wild", i)
        base = program_case(chooser, family=chooser.choose(("mixed", "aliased")))
        case = appended(base, any_step(chooser, base.values, targets[i % len(targets)]))
        expected = expect_program(case)
        if isinstance(expected, Unknown):
            counts["unknown"] += 1
        elif isinstance(expected, Refusal):
            counts["refused"] += 1
            assert (i, expected, eager(case).error is not None) == (i, expected, True)
        else:
            counts["done"] += 1
            assert (i, differs(case, expected, eager(case))) == (i, "")
    return counts


def test_any_step_is_refused_where_torch_raises_and_done_as_torch_does_it(eager, differs) -> None:
    counts = wild(1800, eager, differs)
    assert counts["done"] > 600
    assert counts["refused"] > 500


@pytest.mark.slow
def test_many_steps_are_refused_where_torch_raises(eager, differs) -> None:
    counts = wild(9000, eager, differs)
    assert counts["done"] > 3500
    assert counts["refused"] > 2500


def storage_of(dtype: str) -> Storage:
    if dtype == "bool":
        return Storage(dtype, 4, bytes([1, 0, 1, 1]))
    if dtype == "int64":
        return Storage(dtype, 4, np.array([1, 2, -1, 3]).tobytes())
    return Storage(dtype, 4, encode(np.array([1.0, 2.0, -1.0, 3.0]), dtype).tobytes())


def of_dtypes(dtypes, rank: int, *steps: ProgramStep, ranks: tuple[int, ...] = ()) -> ProgramCase:
    """A program whose inputs have these dtypes and 2 elements (1 where of rank 0)."""
    tensors = []
    for i in range(len(dtypes)):
        dims = ranks[i] if ranks else rank
        shape = {0: (), 1: (2,), 2: (2, 2)}[dims]
        tensors.append(View(i, shape, {0: (), 1: (1,), 2: (2, 1)}[dims]))
    case = ProgramCase(
        storages=tuple(storage_of(d) for d in dtypes),
        tensors=tuple(tensors),
        inputs=tuple(range(len(dtypes))),
        steps=steps,
        outputs=(),
    )
    return replace(case, outputs=(case.values - 1,))


def programs_of_two_dtypes(a: str, b: str):
    v, out = Value, (("out", Value(2)),)
    binary = ("add.Tensor", "sub.Tensor", "mul.Tensor", "add_.Tensor", "sub_.Tensor",
              "mul_.Tensor", "maximum.default", "minimum.default", "copy_.default",
              "gt.Tensor")  # fmt: skip
    for i, j in product((0, 1), (0, 1)):
        for name in binary:
            yield of_dtypes((a, b), 0, ProgramStep(f"aten.{name}", (v(0), v(1))), ranks=(i, j))
        condition = ProgramStep("aten.gt.Scalar", (v(0), 0))
        chosen = ProgramStep("aten.where.self", (v(2), v(0), v(1)))
        yield of_dtypes((a, b), 0, condition, chosen, ranks=(i, j))
        stacked = ProgramStep("aten.stack.default", ((v(0), v(1)),))
        yield of_dtypes((a, b), 0, stacked, ranks=(i, j))
        select = ProgramStep("aten.index_select.default", (v(0), 0, v(1)))
        yield of_dtypes((a, b), 0, select, ranks=(1, j))
    yield of_dtypes((a, b), 1, ProgramStep("aten.to.dtype", (v(0), Name(b))))
    yield of_dtypes((a, b), 1, ProgramStep("aten.cat.default", ((v(0), v(1)),)))
    yield of_dtypes((a, b), 2, ProgramStep("aten.mm.default", (v(0), v(1))))
    for name in ("neg", "abs"):
        yield of_dtypes((a, b), 1, ProgramStep(f"aten.{name}.out", (v(0),), (("out", v(1)),)))
    for name in ("sum.IntList_out", "amax.out"):
        step = ProgramStep(f"aten.{name}", (v(0), (0,)), (("out", v(1)),))
        yield of_dtypes((a, b), 0, step, ranks=(1, 0))
    for name in ("_foreach_mul_.List", "_foreach_copy_.default"):
        yield of_dtypes((a, b), 1, ProgramStep(f"aten.{name}", ((v(0),), (v(1),)), results=0))
    for c, rank in product(DTYPES, (0, 1)):
        for name in ("add", "sub", "mul", "maximum", "minimum"):
            yield of_dtypes((a, b, c), rank, ProgramStep(f"aten.{name}.out", (v(0), v(1)), out))
        condition = ProgramStep("aten.gt.Scalar", (v(0), 0))
        step = ProgramStep("aten.where.self_out", (v(3), v(0), v(1)), out)
        yield of_dtypes((a, b, c), rank, condition, step)
    for c in DTYPES:
        yield of_dtypes((a, b, c), 2, ProgramStep("aten.mm.out", (v(0), v(1)), out))


def programs_of_one_dtype(a: str):
    v = Value
    for rank in (0, 1):
        for name in ("neg", "abs", "relu"):
            yield of_dtypes((a,), rank, ProgramStep(f"aten.{name}.default", (v(0),)))
            yield of_dtypes((a,), rank, ProgramStep(f"aten.{name}_.default", (v(0),)))
        for number in NUMBERS:
            for name in ("add", "sub", "mul", "add_", "sub_", "mul_"):
                yield of_dtypes((a,), rank, ProgramStep(f"aten.{name}.Tensor", (v(0), number)))
            alpha = (("alpha", number),)
            yield of_dtypes((a,), rank, ProgramStep("aten.add.Tensor", (v(0), 1), alpha))
            yield of_dtypes((a,), rank, ProgramStep("aten.sub.Tensor", (v(0), v(0)), alpha))
            yield of_dtypes((a,), rank, ProgramStep("aten.gt.Scalar", (v(0), number)))
            yield of_dtypes((a,), rank, ProgramStep("aten.fill_.Scalar", (v(0), number)))
            each = ProgramStep("aten._foreach_add_.Scalar", ((v(0),), number), results=0)
            yield of_dtypes((a,), rank, each)
        for keepdim, dims in product((True, False), ((0,), (), (-1,), (0, 0), (1,))):
            for name in ("sum.dim_IntList", "amax.default"):
                step = ProgramStep(f"aten.{name}", (v(0), dims, keepdim))
                yield of_dtypes((a,), rank, step)
        pair = ProgramStep("aten.aminmax.default", (v(0),), (("dim", 0),), 2)
        yield of_dtypes((a,), rank, pair)
        yield of_dtypes((a,), rank, ProgramStep("aten.zeros_like.default", (v(0),)))
        yield of_dtypes((a,), rank, ProgramStep("aten.zero_.default", (v(0),)))


@pytest.mark.parametrize("a", DTYPES)
def test_every_pair_of_dtypes_gives_what_torch_gives(a, eager, differs) -> None:
    decided = 0
    programs = [
        *programs_of_one_dtype(a),
        *(p for b in DTYPES for p in programs_of_two_dtypes(a, b)),
    ]
    for case in programs:
        expected = expect_program(case)
        step = case.steps[-1]
        if isinstance(expected, Unknown):
            continue
        decided += 1
        if isinstance(expected, Refusal):
            assert (step, eager(case).error is not None) == (step, True)
        else:
            assert (step, differs(case, expected, eager(case))) == (step, "")
    assert decided >= 0.95 * len(programs)
