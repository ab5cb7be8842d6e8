"""Programs as data: what they count, and that JSON keeps them and refuses what is none."""

import json

import pytest

from reference.model import (
    CaseFormatError,
    Fill,
    Name,
    ProgramCase,
    ProgramStep,
    Storage,
    Value,
    View,
    case_from_json,
    case_to_json,
    digest,
)


def program(**changes) -> ProgramCase:
    given = {
        "storages": (Storage("float32", 8, Fill("dyadic", 3)), Storage("bool", 2, b"\x00\x01")),
        "tensors": (View(0, (2, 3), (3, 1), 1), View(0, (2, 3), (3, 1), 1), View(1, (2,), (1,))),
        "inputs": (0, 1, 1, 2),
        "donated": (3,),
        "steps": (
            ProgramStep("aten.add.Tensor", (Value(0), -0.0), (("alpha", 2),)),
            ProgramStep("aten.split.Tensor", (Value(4), 1), results=2),
            ProgramStep("aten.cat.out", ((Value(6), Value(5)), 0), (("out", Value(1)),)),
            ProgramStep("aten.to.dtype", (Value(7), Name("float16"), True, None)),
            ProgramStep("aten._foreach_add_.Scalar", ((Value(8),), 1), results=0),
        ),
        "outputs": (8, 8, 0),
    }
    return ProgramCase(**(given | changes))


def read_again(case: ProgramCase) -> ProgramCase:
    return case_from_json(json.loads(json.dumps(case_to_json(case))))


def test_json_gives_a_program_back() -> None:
    case = program()
    assert read_again(case) == case
    assert str(read_again(case)) == str(case)


def test_the_digest_tells_one_from_true_and_from_one_point_zero() -> None:
    digests = {
        digest(program(steps=(ProgramStep("aten.add.Tensor", (Value(0), number)),)))
        for number in (1, 1.0, True, 0.0, -0.0, None, "1", Name("1"), Value(1), (1,))
    }
    assert len(digests) == 10


def test_values_are_the_inputs_and_then_the_results_in_order() -> None:
    case = program()
    assert case.values == 9
    assert [case.first_result(i) for i in range(5)] == [4, 5, 7, 8, 9]
    assert list(case.steps[2].values()) == [6, 5, 1]
    assert case.input_view(2) == case.tensors[1]


def test_a_program_is_a_case() -> None:
    case = program()
    assert case.op == "program"
    assert case.largest_input == 6
    assert program(tensors=(), inputs=()).largest_input == 0
    assert [array.shape for array in case.arrays()] == [(8,), (2,)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (0, 3)}, "input 3; accepted: 0 to 2"),
        ({"donated": (4,)}, "donated input 4; accepted: 0 to 3"),
        ({"outputs": (9,)}, "output 9; accepted: 0 to 8"),
        ({"outputs": (True,)}, "output True; accepted: 0 to 8"),
        ({"outputs": (-1,)}, "output -1; accepted: 0 to 8"),
        (
            {"steps": (ProgramStep("aten.neg.default", (Value(4),)),)},
            "operand of step 0 4; accepted: 0 to 3",
        ),
        (
            {"steps": (ProgramStep("aten.neg.default", (Value(0),), results=-1),)},
            "step 0 calls 'aten.neg.default' with -1 results; accepted: a name and a number",
        ),
        (
            {"tensors": (View(2, (1,), (1,)),), "inputs": (0,), "steps": (), "outputs": ()},
            "'tensor 0' views storage 2; accepted: 0 to 1",
        ),
        (
            {"tensors": (View(0, (9,), (1,)),), "inputs": (0,), "steps": (), "outputs": ()},
            "'tensor 0' needs 9 elements of storage 0; accepted: at most 8",
        ),
    ],
)
def test_a_number_that_names_nothing_is_refused(changes, message) -> None:
    with pytest.raises(CaseFormatError, match=message):
        read_again(program(**changes))


def test_a_step_that_calls_nothing_is_refused() -> None:
    data = case_to_json(program())
    data["steps"][0]["target"] = 7
    with pytest.raises(CaseFormatError, match="step 0 calls 7"):
        case_from_json(data)
    del data["steps"][0]["operands"]
    with pytest.raises(CaseFormatError, match="operands"):
        case_from_json(data)
