"""Scripts of actions on state as JSON: nothing lost, nothing accepted that is no script."""

import json

import pytest

from reference.model import (
    CaseFormatError,
    StateAction,
    StateCase,
    StateLayer,
    case_from_json,
    case_to_json,
    digest,
)
from reference.model.state import VERBS

CASE = StateCase(
    actions=(
        StateAction(verb="register", name="a", per=None, holds="tree", needs="b", again=True),
        StateAction(verb="thread", made=1),
        StateAction(verb="set", context=1, keys=(("layer", 3),), made=2),
        StateAction(verb="get", context=1, name="a", scope=("x", None)),
        StateAction(verb="plan", names=("a", "b"), scopes=((), (("rank", True),))),
        StateAction(verb="reset", context=1, of=2),
        StateAction(verb="run", size=2, times=3),
    ),
    models=((StateLayer(name="a", keys=(("layer", "x"),), use="dead"),),),
)


def test_a_script_survives_json_with_its_types():
    back = case_from_json(json.loads(json.dumps(case_to_json(CASE))))
    assert back == CASE
    assert [type(v) for _, v in (*back.actions[2].keys, *back.actions[4].scopes[1])] == [int, bool]
    assert digest(back) == digest(CASE)


def test_only_what_says_something_is_written():
    written = case_to_json(CASE)["actions"]
    assert written[1] == {"verb": "thread", "made": 1}
    assert written[3] == {"verb": "get", "context": 1, "name": "a", "scope": ["x", None]}


def broken(i: int, **fields: object) -> dict:
    data = json.loads(json.dumps(case_to_json(CASE)))
    data["actions"][i] |= fields
    return data


@pytest.mark.parametrize(
    ("i", "fields", "message"),
    [
        (0, {"verb": "sing"}, f"action 'sing'; accepted: {', '.join(VERBS)}"),
        (1, {"name": "a"}, r"action 'thread' has \['name'\]; accepted: \['made'\]"),
        (2, {"context": 5}, r"action 2: context is 5; accepted: one of \[1\]"),
        (2, {"made": 1}, "action 2 makes number 1; accepted: one above 0 of its own"),
        (2, {"keys": ["layer"]}, "accepted: pairs of a key and a value"),
        (5, {"of": 1}, r"action 5: of is 1; accepted: one of \[2\]"),
        (6, {"model": 1}, "action 6 runs model 1; accepted: 0 to 0"),
        (6, {"times": 0}, "action 'run': times is 0; accepted: >= 1"),
        (6, {"size": True}, "action 'run': size is True; accepted: >= 1"),
        (0, {"holds": "water"}, "holds 'water'; accepted: tensor"),
    ],
)
def test_what_is_no_script_is_refused(i: int, fields: dict, message: str):
    with pytest.raises(CaseFormatError, match=message):
        case_from_json(broken(i, **fields))


def test_the_input_of_an_op_may_be_empty_and_that_of_a_model_may_not():
    data = case_to_json(StateCase(actions=(StateAction(verb="call", name="a", size=0),)))
    assert case_from_json(data).actions[0].size == 0
    with pytest.raises(CaseFormatError, match="action 'run': size is 0; accepted: >= 1"):
        case_from_json(broken(6, size=0))


def test_a_layer_does_one_of_three_things():
    data = case_to_json(CASE)
    data["models"][0][0]["use"] = "sing"
    with pytest.raises(CaseFormatError, match="layer 'sing'; accepted: op, dead, read"):
        case_from_json(data)
