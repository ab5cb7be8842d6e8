"""Each refusal, and each thing that is unknown by declaration, on the least that shows it."""

from __future__ import annotations

import numpy as np
import pytest

from reference.declaration import Refusal
from reference.dtypes import encode
from reference.expectation import Unknown
from reference.model import Fill, Name, ProgramCase, ProgramStep, Storage, Value, View
from reference.programs import ExpectedProgram, expect_program


def floats(*values: float, dtype: str = "float32") -> Storage:
    return Storage(dtype, len(values), encode(np.array(values), dtype).tobytes())


STORAGES = (
    floats(1, 2, 3, 4, 5, 6),
    floats(1, -2),
    Storage("int64", 2, np.array([0, 1]).tobytes()),
    Storage("bool", 2, bytes([1, 0])),
    floats(0.0, -0.0, 1, -1),
    floats(1, 2, dtype="float16"),
)
TENSORS = (
    View(0, (2, 3), (3, 1)),  # 0
    View(0, (3, 2), (1, 3)),  # 1: the transpose of 0
    View(0, (3,), (1,)),  # 2: the first row of 0
    View(1, (2,), (1,)),  # 3
    View(2, (2,), (1,)),  # 4: indices
    View(3, (2,), (1,)),  # 5: bool
    View(0, (2, 2), (1, 1)),  # 6: overlaps itself
    View(1, (2, 2), (0, 1)),  # 7: expanded
    View(4, (4,), (1,)),  # 8: zeros of both signs
    View(5, (2,), (1,)),  # 9: float16
    View(1, (), ()),  # 10: no dimensions
    View(0, (2,), (2,)),  # 11: elements 0 and 2
    View(0, (2,), (2,), 1),  # 12: elements 1 and 3
    View(1, (0,), (1,)),  # 13: empty
    View(0, (2, 2), (3, 2)),  # 14: elements 0, 2, 3, 5
    View(0, (2, 2), (3, 1)),  # 15: elements 0, 1, 3, 4
    View(0, (1, 2, 3), (6, 3, 1)),  # 16
    View(2, (2, 1), (1, 1)),  # 17: indices of two dimensions
    View(4, (2, 2), (2, 1)),  # 18: zeros of both signs
    View(4, (2, 2), (1, 1)),  # 19: overlaps itself
)


def outcome(*steps: ProgramStep):
    case = ProgramCase(
        storages=STORAGES,
        tensors=TENSORS,
        inputs=tuple(range(len(TENSORS))),
        steps=steps,
        outputs=(),
    )
    return expect_program(case)


def step(target: str, *operands, results: int = 1, **keywords) -> ProgramStep:
    given = tuple(_operand(o) for o in operands)
    named = tuple((name, _operand(o)) for name, o in keywords.items())
    return ProgramStep(target, given, named, results)


def _operand(found):
    """A string of digits names a value; lists become tuples."""
    if isinstance(found, str) and found.isdigit():
        return Value(int(found))
    return tuple(_operand(item) for item in found) if isinstance(found, list) else found


REFUSED = {
    "view-of-a-transpose": (
        step("aten.view.default", "1", (-1,)), "a view needs dimensions that step evenly"),
    "view-of-another-count": (
        step("aten.view.default", "0", (4,)), "as many elements as there are"),
    "reshape-of-another-count": (
        step("aten.reshape.default", "0", (4,)), "as many elements as there are"),
    "dimension-beyond": (step("aten.select.int", "0", 2, 0), "a dimension that the tensor has"),
    "index-beyond": (step("aten.select.int", "0", 0, 2), "an index that the dimension has"),
    "select-without-dimensions": (
        step("aten.select.int", "10", 0, 0), "a tensor that has dimensions"),
    "slice-backwards": (step("aten.slice.Tensor", "0", 0, 0, 1, 0), "a slice steps forward"),
    "permute-too-few": (step("aten.permute.default", "0", (0,)), "names every dimension once"),
    "permute-twice": (step("aten.permute.default", "0", (0, 0)), "names every dimension once"),
    "diagonal-of-one": (
        step("aten.diagonal.default", "0", 0, 1, 1), "a diagonal runs through two dimensions"),
    "expand-to-the-right": (
        step("aten.expand.default", "0", (3,)),
        "an expanded shape continues the shape to the left"),
    "expand-of-two": (step("aten.expand.default", "0", (4, 3)), "only a size of 1 expands"),
    "strided-beyond": (
        step("aten.as_strided.default", "0", (7,), (1,)), "a view lies in its storage"),
    "strided-before": (
        step("aten.as_strided.default", "0", (1,), (1,), -1), "an offset of at least 0"),
    "strided-backwards": (
        step("aten.as_strided.default", "0", (1,), (-1,)),
        "as many strides as sizes, none below 0"),
    "split-of-less-than-none": (step("aten.split.Tensor", "0", -1), "a size above 0"),
    "no-chunks": (step("aten.chunk.default", "0", 0), "at least one chunk"),
    "shapes": (step("aten.add.Tensor", "0", "3"), "shapes that broadcast"),
    "in-place-shape": (
        step("aten.add_.Tensor", "2", "0"), "what is written has the result's shape"),
    "in-place-kind": (
        step("aten.add_.Tensor", "4", "3"), "what is written is of a kind that holds the result"),
    "copy-shape": (
        step("aten.copy_.default", "2", "0"), "shapes that broadcast to the one written"),
    "expanded-is-written": (
        step("aten.mul_.Tensor", "7", 2), "what is written has each element once"),
    "product-into-an-expanded-one": (
        step("aten.mm.out", "15", "15", out="7"), "what is written has each element once"),
    "joined-into-an-expanded-one": (
        step("aten.cat.out", ["14"], 0, out="7"), "what is written has each element once"),
    "partial-overlap": (
        step("aten.add_.Tensor", "0", "2"),
        "what is written is a source or shares no memory with it"),
    "transposed-onto-itself": (
        step("aten.copy_.default", "1", "16"), "shapes that broadcast to the one written"),
    "neg-out-dtype": (
        step("aten.neg.out", "3", out="9"), "what is written has the result's dtype"),
    "bool-subtracted": (step("aten.sub.Tensor", "5", "5"), "no bool is subtracted"),
    "true-subtracted": (step("aten.sub.Tensor", "3", True), "no bool is subtracted"),
    "bool-negated": (step("aten.neg.default", "5"), "no bool is negated"),
    "bool-rectified": (step("aten.relu.default", "5"), "a bool is not rectified"),
    "bool-absolute": (step("aten.abs.default", "5"), "a bool has no absolute value"),
    "float-alpha": (
        step("aten.add.Tensor", "4", "4", alpha=0.5), "an alpha of the result's kind"),
    "condition": (step("aten.where.self", "3", "3", "3"), "a condition of bool"),
    "sum-over-one-twice": (
        step("aten.sum.dim_IntList", "0", (0, 0)), "names a dimension at most once"),
    "maximum-of-none": (
        step("aten.amax.default", "13", (0,)), "a maximum of at least one element"),
    "mm-rank": (step("aten.mm.default", "3", "3"), "matrices of the rank asked for"),
    "mm-shape": (step("aten.mm.default", "0", "0"), "matrices that fit"),
    "cat-without-dimensions": (
        step("aten.cat.default", ["10", "10"]), "no tensor without dimensions is joined"),
    "cat-shapes": (
        step("aten.cat.default", ["0", "1"]), "shapes alike but for the dimension joined"),
    "stack-shapes": (step("aten.stack.default", ["0", "1"]), "shapes alike"),
    "index-dtype": (
        step("aten.index_select.default", "0", 0, "3"), "an index of int64 or int32"),
    "index-rank": (
        step("aten.index_select.default", "0", 0, "17"), "an index of at most one dimension"),
    "lists": (
        step("aten._foreach_mul_.List", ["0"], ["0", "0"], results=0), "lists of one length"),
    "too-many-operands": (
        step("aten.neg.default", "0", "0"), "takes no more operands than it has parameters"),
    "an-operand-twice": (
        step("aten.neg.default", "0", self="0"), "takes each parameter once and no other"),
    "an-unknown-keyword": (
        step("aten.neg.default", "0", out="0"), "takes each parameter once and no other"),
    "an-operand-missing": (
        step("aten.add.Tensor", "0"), "gets every parameter without a default"),
    "results": (step("aten.unbind.int", "0"), "returns 2 tensors"),
    "ir-argument": (
        step("ir.rms_norm.default", "0", None, -1.0), "rms_norm: epsilon is at least 0.0"),
    "ir-list": (
        step("ir.rms_norm.default", "0", ["3"], 1.0), "a tensor or a plain value"),
}  # fmt: skip

UNKNOWN = {
    "self-overlap-written": (
        step("aten.mul_.Tensor", "6", 2), "written-view-overlaps-itself"),
    "reduction-into-its-input": (
        step("aten.sum.IntList_out", "0", (0,), out="2"), "reads-what-it-writes"),
    "interleaved-overlap": (step("aten.copy_.default", "14", "15"), "reads-what-it-writes"),
    "product-into-its-input": (
        step("aten.mm.out", "15", "15", out="15"), "reads-what-it-writes"),
    "list-that-overlaps": (
        step("aten._foreach_add_.Scalar", ["0", "2"], 1, results=0), "reads-what-it-writes"),
    "out-resized": (step("aten.add.out", "0", 1, out="3"), "out-is-resized"),
    "sum-into-another-dtype": (
        step("aten.sum.IntList_out", "7", (0,), out="9"), "operand-not-modelled"),
    "digits": (step("aten.add.Tensor", "0", 2.0**25 + 0.5), "magnitude-bound"),
    "infinity": (step("aten.add.Tensor", "0", float("inf")), "magnitude-bound"),
    "fill-with-digits": (step("aten.fill_.Scalar", "9", 0.1), "magnitude-bound"),
    "integers-beyond": (step("aten.mul.Tensor", "4", 2**40), "magnitude-bound"),
    "zeros-rectified": (step("aten.relu.default", "8"), "sign-of-zero"),
    "zeros-multiplied": (step("aten.mm.default", "18", "18"), "sign-of-zero"),
    "product-into-one-that-overlaps-itself": (
        step("aten.mm.out", "15", "15", out="19"), "written-view-overlaps-itself"),
    "zeros-compared": (step("aten.maximum.default", "8", "8"), "sign-of-zero"),
    "target": (step("aten.sin.default", "0"), "target-not-modelled"),
    "ir-op": (step("ir.no_such_op.default", "0"), "target-not-modelled"),
    "overload": (step("ir.rms_norm.other", "0"), "target-not-modelled"),
    "memory-format": (
        step("aten.clone.default", "0", memory_format=Name("channels_last")),
        "operand-not-modelled"),
    "non-blocking": (
        step("aten.to.dtype", "0", Name("float16"), True), "operand-not-modelled"),
    "to-fp8": (
        step("aten.to.dtype", "0", Name("float8_e4m3fn")), "dtype-without-arithmetic"),
    "bool-alpha": (step("aten.add.Tensor", "0", "0", alpha=True), "operand-not-modelled"),
    "split-of-none": (step("aten.split.Tensor", "0", 0), "operand-not-modelled"),
    "chunks-of-none": (step("aten.chunk.default", "13", 2), "operand-not-modelled"),
    "empty-joined": (step("aten.cat.default", ["13", "3"]), "operand-not-modelled"),
    "rows-of-no-dimension": (
        step("aten.index_select.default", "10", 0, "4"), "operand-not-modelled"),
    "extremes-of-no-dimension": (
        step("aten.aminmax.default", "10", dim=0, results=2), "operand-not-modelled"),
    "number-for-a-tensor": (step("aten.neg.default", 1), "operand-not-modelled"),
    "number-for-a-list": (step("aten.stack.default", 1), "operand-not-modelled"),
    "numbers-in-a-list": (step("aten.stack.default", [1]), "operand-not-modelled"),
    "name-for-a-number": (step("aten.add.Tensor", "0", Name("x")), "operand-not-modelled"),
    "name-for-alpha": (
        step("aten.add.Tensor", "0", 1, alpha=Name("x")), "operand-not-modelled"),
    "tensor-for-an-integer": (step("aten.select.int", "0", "0", 0), "operand-not-modelled"),
    "tensor-for-integers": (step("aten.view.default", "0", "0"), "operand-not-modelled"),
    "tensors-for-integers": (step("aten.view.default", "0", ["0"]), "operand-not-modelled"),
    "integer-for-a-flag": (
        step("aten.sum.dim_IntList", "0", (0,), 1), "operand-not-modelled"),
    "number-for-a-name": (step("aten.to.dtype", "0", 1), "operand-not-modelled"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_torch_must_refuse(name, eager) -> None:
    call, rule = REFUSED[name]
    found = outcome(call)
    assert found == Refusal(call.target, rule)


@pytest.mark.parametrize("name", UNKNOWN)
def test_is_unknown_by_declaration(name) -> None:
    call, because = UNKNOWN[name]
    assert outcome(call) == Unknown(because)


@pytest.mark.parametrize("name", [n for n in REFUSED if not n.startswith(("ir-", "results"))])
def test_what_is_refused_torch_raises_on(name, eager) -> None:
    call, _ = REFUSED[name]
    case = ProgramCase(
        storages=STORAGES,
        tensors=TENSORS,
        inputs=tuple(range(len(TENSORS))),
        steps=(call,),
        outputs=(),
    )
    assert eager(case).error is not None


def test_disjoint_interleaved_views_are_known() -> None:
    found = outcome(step("aten.add_.Tensor", "11", "12"))
    assert isinstance(found, ExpectedProgram)
    written = np.frombuffer(found.storages[0].content, np.float32)
    assert written.tolist() == [3.0, 2.0, 7.0, 4.0, 5.0, 6.0]


def test_a_fill_of_an_expanded_view_is_known() -> None:
    found = outcome(step("aten.fill_.Scalar", "7", 2))
    assert isinstance(found, ExpectedProgram)
    assert np.frombuffer(found.storages[1].content, np.float32).tolist() == [2.0, 2.0]


def test_the_one_element_of_a_tensor_without_dimensions_is_transposed_to_itself() -> None:
    assert isinstance(outcome(step("aten.transpose.int", "10", 0, -1)), ExpectedProgram)


def test_a_step_that_is_refused_or_unknown_writes_nothing() -> None:
    from reference.programs import Machine

    for call, _ in (*REFUSED.values(), *UNKNOWN.values()):
        machine = Machine(STORAGES, TENSORS, range(len(TENSORS)))
        before = [m.content() for m in machine.storages]
        assert machine.apply(call) is not None
        assert [m.content() for m in machine.storages] == before
        assert (len(machine.values), machine.steps) == (len(TENSORS), 0)


def test_digits_stay_counted_where_other_elements_are_overwritten() -> None:
    case = ProgramCase(
        storages=(floats(1 + 2.0**-20, 1),),
        tensors=(View(0, (2,), (1,)), View(0, (1,), (1,), 1)),
        inputs=(0, 1),
        steps=(step("aten.fill_.Scalar", "1", 2), step("aten.mul.Tensor", "0", "0")),
        outputs=(),
    )
    assert expect_program(case) == Unknown("magnitude-bound")


def test_content_that_is_not_finite_is_unknown() -> None:
    case = ProgramCase(
        storages=(floats(float("inf")),), tensors=(View(0, (1,), (1,)),), inputs=(0,),
        steps=(), outputs=(),
    )  # fmt: skip
    assert expect_program(case) == Unknown("not-finite")


def many_digits(dtype: str, *steps: ProgramStep):
    case = ProgramCase(
        storages=(Storage(dtype, 4, Fill("wide", 1)),),
        tensors=(View(0, (2, 2), (2, 1)),),
        inputs=(0,),
        steps=steps,
        outputs=(),
    )
    return expect_program(case)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "call",
    [
        step("aten.sum.dim_IntList", "0", (0,)),
        step("aten.mm.default", "0", "0"),
        step("aten.to.dtype", "0", Name("float16")),
        step("aten.add.Tensor", "0", "0", alpha=2),
    ],
    ids=lambda call: call.target,
)
def test_content_of_many_digits_is_never_rounded(dtype, call) -> None:
    assert many_digits(dtype, call) == Unknown("rounds-what-was-observed")


def test_content_of_many_digits_is_added_and_multiplied_in_float32_alone() -> None:
    call = step("aten.mul.Tensor", "0", "0")
    assert isinstance(many_digits("float32", call), ExpectedProgram)
    assert many_digits("bfloat16", call) == Unknown("rounds-what-was-observed")
    huge = [step("aten.mul.Tensor", str(i), str(i)) for i in range(8)]
    assert many_digits("float32", *huge) == Unknown("magnitude-bound")


def test_content_of_many_digits_is_copied_and_compared_in_every_format() -> None:
    calls = [
        step("aten.clone.default", "0"),
        step("aten.neg.default", "1"),
        step("aten.maximum.default", "1", "2"),
        step("aten.cat.default", ["0", "3"]),
    ]
    assert isinstance(many_digits("bfloat16", *calls), ExpectedProgram)
