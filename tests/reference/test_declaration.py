"""Binding: names solved from shapes, and each rule's refusal by argument and wording."""

from dataclasses import replace

import pytest

from reference.declaration import (
    Binding,
    Dim,
    OpDeclaration,
    OutputSpec,
    Refusal,
    ScalarSpec,
    TensorSpec,
    equal_ranks,
    flag_needs_rank,
)
from reference.model import Argument, Fill, OpCase, Storage, View
from reference.model.case import Overload, Plain
from reference.model.storage import contiguous_strides

TOY = OpDeclaration(
    op="toy",
    parameters=(
        TensorSpec(
            name="x",
            dtypes=("float32", "float16"),
            shapes=(("...", "2*d"), ("n", "h*size")),
            activation=True,
        ),
        TensorSpec(name="w", dtypes=("@x",), shapes=(("d",),), optional=True, default=None),
        ScalarSpec(name="rate", kind="float", minimum=0.0, default=0.5),
        ScalarSpec(name="part", kind="int", default=None, optional=True, minimum=2, even=True,
                   at_most="d"),
        ScalarSpec(name="mode", kind="str", default="a", choices=("a", "b")),
        ScalarSpec(name="flag", kind="bool", default=False),
    ),
    dims=(Dim(name="d", role="width", minimum=2, even=True),),
    outputs=(OutputSpec(name="y", dtype="@x", shape=("...", "d")),),
    allow_inplace=True,
    ranks=(1, 2),
    relations=(flag_needs_rank("flag", "x", 2), equal_ranks("x", "w")),
    scalar_names={"part": "part"},
    scalar_defaults={"part": "d"},
)  # fmt: skip


def _case(
    shape: tuple[int, ...] = (3, 8),
    *,
    dtype: str = "float32",
    weight: tuple[int, ...] | None = None,
    weight_dtype: str = "float32",
    strides: tuple[int, ...] | None = None,
    overload: Overload = "default",
    **scalars: Plain,
) -> OpCase:
    view = View(0, shape, strides or contiguous_strides(shape))
    storages = [Storage(dtype, max(view.extent, 1), Fill("zeros", 0))]
    arguments = [Argument("x", view)]
    if weight is not None:
        arguments.append(Argument("w", View(1, weight, contiguous_strides(weight))))
        storages.append(Storage(weight_dtype, 64, Fill("zeros", 0)))
    arguments += [Argument(name, value, keyword=True) for name, value in scalars.items()]
    return OpCase("toy", tuple(storages), tuple(arguments), overload)


def _without_relations() -> OpDeclaration:
    return replace(TOY, relations=())


def test_a_legal_case_binds_sizes_and_batch():
    binding = _without_relations().bind(_case((3, 8), weight=(4,)))
    assert binding == Binding({"d": 4}, (3,))
    assert isinstance(binding, Binding)
    assert binding.axis("2*d") == 8
    assert binding.shape(("...", "d")) == (3, 4)
    assert binding.shape(("d", "2*d")) == (4, 8)
    assert binding.shape(()) == ()


def test_a_scalar_gives_a_size_and_its_absence_another_name():
    found = _without_relations().bind(_case(part=2))
    assert isinstance(found, Binding)
    assert found.sizes["part"] == 2


@pytest.mark.parametrize(
    ("case", "argument", "rule"),
    [
        (_case(dtype="float64"), "x", "has dtype float32 or float16"),
        (_case(weight=(4,), weight_dtype="float16"), "w", "has dtype float32"),
        (_case((2, 3, 8)), "x", "has 1 to 2 dimensions"),
        (_case(()), "x", "has 1 to 2 dimensions"),
        (_case((3, 7)), "x", "has shape (..., 2*d) or (n, h*size)"),
        (_case(weight=(5,)), "w", "has shape (d)"),
        (_case(weight=(4, 1)), "w", "has shape (d)"),
        (_case((3, 0)), "d", "is at least 2"),
        (_case((3, 6)), "d", "is even"),
        (_case(rate=-0.5), "rate", "is at least 0.0"),
        (_case(rate=float("nan")), "rate", "is finite"),
        (_case(rate=float("inf")), "rate", "is finite"),
        (_case(rate=None), "rate", "is required"),
        (_case(part=1), "part", "is at least 2"),
        (_case(part=3), "part", "is even"),
        (_case(part=6), "part", "is at most d"),
        (_case(mode="c"), "mode", "is one of ('a', 'b')"),
        (_case((8,), flag=True), "flag", "needs x of at least 2 dimensions"),
        (_case((3, 8), weight=(4,)), "w", "has as many dimensions as x"),
    ],
)
def test_each_rule_refuses_by_name(case: OpCase, argument: str, rule: str):
    declaration = TOY if argument in ("flag", "w") and "dim" in rule else _without_relations()
    assert declaration.bind(case) == Refusal(argument, rule)


def test_what_is_missing_or_no_tensor_is_refused():
    assert TOY.bind(OpCase("toy", (), ())) == Refusal("x", "is required")
    assert TOY.bind(OpCase("toy", (), (Argument("x", None),))) == Refusal("x", "is required")
    assert TOY.bind(OpCase("toy", (), (Argument("x", 1.0),))) == Refusal("x", "is a tensor")


def test_relations_hold_where_they_say_nothing():
    assert isinstance(TOY.bind(_case((3, 8), flag=True)), Binding)
    assert isinstance(TOY.bind(_case((8,), weight=(4,))), Binding)


def test_donated_memory_is_its_own():
    declaration = _without_relations()
    donated = _case((3, 8), overload="maybe_inplace")
    assert isinstance(declaration.bind(donated), Binding)
    overlapping = _case((3, 8), strides=(0, 1), overload="maybe_inplace")
    assert declaration.bind(overlapping) == Refusal("x", "does not overlap itself: it is donated")
    none = replace(declaration, allow_inplace=False)
    assert none.bind(donated) == Refusal("maybe_inplace", "does not exist for this op")


@pytest.mark.parametrize(("offset", "shares"), [(0, True), (23, True), (24, False)])
def test_donated_memory_is_not_that_of_another_argument(offset: int, shares: bool):
    case = _case((3, 8), weight=(4,), overload="maybe_inplace")
    storage = Storage("float32", 40, Fill("zeros", 0))
    case = replace(case, storages=(storage,)).with_argument("w", View(0, (4,), (1,), offset))
    found = _without_relations().bind(case)
    refusal = Refusal("x", "shares no memory with w: it is donated")
    assert (found == refusal) if shares else isinstance(found, Binding)


def test_empty_tensors_share_nothing():
    case = _case((0, 8), weight=(4,), overload="maybe_inplace")
    case = case.with_argument("w", View(0, (4,), (0,), 0))
    assert isinstance(_without_relations().bind(case), Binding)


def test_a_batch_is_shared_by_every_tensor_that_has_one():
    residual = TensorSpec(name="w", dtypes=("@x",), shapes=(("...", "d"),), optional=True)
    declaration = replace(
        TOY, parameters=(TOY.parameters[0], residual), relations=(), scalar_names={}
    )
    assert isinstance(declaration.bind(_case((3, 8), weight=(3, 4))), Binding)
    assert declaration.bind(_case((3, 8), weight=(2, 4))) == Refusal("w", "has shape (..., d)")
    lone = replace(residual, shapes=(("...", "d", "d"),))
    declaration = replace(declaration, parameters=(TOY.parameters[0], lone))
    assert declaration.bind(_case((8,), weight=(4,))) == Refusal("w", "has shape (..., d, d)")


def test_an_axis_with_two_unknown_names_cannot_be_solved():
    tensor = replace(TOY.tensors[0], shapes=(("a*b",),))
    declaration = replace(TOY, parameters=(tensor,), relations=(), scalar_names={})
    assert declaration.bind(_case((8,))) == Refusal("x", "has shape (a*b)")


def test_a_declaration_answers_by_name():
    assert TOY.activations == ("x",)
    assert TOY.dtype_parameter == "x"
    assert [spec.name for spec in TOY.scalars] == ["rate", "part", "mode", "flag"]
    assert TOY.parameter("mode") is TOY.scalars[2]
    assert TOY.dim("d") is TOY.dims[0]
    assert TOY.dim("n") is None
    with pytest.raises(KeyError):
        TOY.parameter("no")
    assert TOY.values(_case())["rate"] == 0.5
