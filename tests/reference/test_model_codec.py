"""Cases as JSON: nothing lost, and nothing accepted that is not a case."""

import copy
import json
import math
from typing import Any

import pytest

from reference.model import (
    Argument,
    CaseFormatError,
    Fill,
    OpCase,
    Storage,
    View,
    case_from_json,
    case_to_json,
    digest,
)

CASE = OpCase(
    "rms_norm",
    (Storage("bfloat16", 6, Fill("index", 2**31, 3)), Storage("float32", 2, bytes(range(8)))),
    (
        Argument("x", View(0, (2, 2), (2, 1), 1)),
        Argument("weight", View(1, (2,), (1,))),
        Argument("epsilon", 0.1, keyword=True),
        Argument("variance_size", None, keyword=True),
    ),
    "maybe_inplace",
)


def test_a_case_survives_json_bit_for_bit():
    text = json.dumps(case_to_json(CASE))
    assert case_from_json(json.loads(text)) == CASE


@pytest.mark.parametrize("value", [1e-05, -0.0, math.inf, -math.inf, 5e-324, True, 3, "tanh", None])
def test_plain_values_survive_with_their_type_and_sign(value: float | int | str | None):
    case = CASE.with_argument("epsilon", value)
    back = case_from_json(json.loads(json.dumps(case_to_json(case)))).plain()["epsilon"]
    assert (type(back), repr(back)) == (type(value), repr(value))


def test_a_nan_argument_survives():
    back = case_from_json(case_to_json(CASE.with_argument("epsilon", math.nan))).plain()["epsilon"]
    assert isinstance(back, float)
    assert math.isnan(back)


def test_the_digest_names_the_case():
    assert digest(CASE) == digest(case_from_json(case_to_json(CASE)))
    assert len(digest(CASE)) == 16
    assert digest(CASE.with_argument("epsilon", 0.2)) != digest(CASE)
    # A case on disk from an earlier version keeps its name.
    assert digest(CASE) == "8a75f2b1dadcf9cb"


def _broken(path: tuple[str | int, ...], value: object) -> object:
    data = copy.deepcopy(case_to_json(CASE))
    where: Any = data
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format 2, kind 'op'; accepted: format 1"),
        (("kind",), "song", "kind 'song'; accepted: format 1, kind 'op'"),
        (("overload",), "inplace", "overload 'inplace'; accepted: 'default' or"),
        (("arguments", 0, "view", "storage"), 2, "views storage 2; accepted: 0 to 1"),
        (("arguments", 0, "view", "storage"), -1, "views storage -1"),
        (("arguments", 0, "view", "offset"), 3, "needs 7 elements of storage 0; accepted"),
        (("arguments", 3), {"name": "variance_size", "plain": [1]}, r"plain argument \[1\]"),
        (("arguments", 3), {"name": "variance_size"}, "KeyError: 'plain'"),
        (("arguments", 2), {"name": "epsilon", "float": "no"}, "ValueError"),
        (("storages", 0, "fill", "pattern"), "noise", "fill pattern 'noise'; accepted: dyadic"),
        (("storages", 0, "dtype"), "float7", "storage dtype 'float7'"),
        (("storages", 1, "bytes"), "AAA", "not a case: Error"),
        (("storages", 1, "bytes"), "AAAA", "has 3 bytes; accepted: 8"),
        (("storages",), None, "TypeError"),
    ],
)
def test_what_is_no_case_is_refused(path: tuple[str | int, ...], value: object, message: str):
    with pytest.raises(CaseFormatError, match=message):
        case_from_json(_broken(path, value))


def test_what_is_no_object_is_refused():
    with pytest.raises(CaseFormatError, match="not a case: list; accepted: format 1"):
        case_from_json([])


def test_a_case_answers_what_it_holds():
    assert CASE.form.overload == "maybe_inplace"
    assert CASE.form.keywords == ("epsilon", "variance_size")
    assert list(CASE.views()) == ["x", "weight"]
    assert CASE.plain() == {"epsilon": 0.1, "variance_size": None}
    assert CASE.argument("scale") is None
    assert CASE.dtype_of("x") == "bfloat16"
    assert CASE.dtype_of("epsilon") is None
    assert CASE.dtype_of("scale") is None
    assert CASE.largest_input == 4
    assert OpCase("rms_norm", (), ()).largest_input == 0
    assert [len(array) for array in CASE.arrays()] == [6, 2]
