"""Capture cases as data: what is written is read back, and what is no case is refused."""

import json

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import (
    called_case,
    drawn_case,
    padded_case,
    refused_case,
    shared_case,
)
from reference.model import CaseFormatError, case_from_json, case_kind, case_to_json, digest
from reference.replays import TRAPS

MAKERS = (drawn_case, called_case, padded_case, refused_case, shared_case)
CASES = [make(SeededChooser(0, "codec", make.__name__, i)) for make in MAKERS for i in range(12)]


@pytest.mark.parametrize("case", CASES, ids=digest)
def test_a_case_is_read_back_as_it_was_written(case):
    data = json.loads(json.dumps(case_to_json(case)))
    assert (data["format"], data["kind"]) == (1, "capture")
    assert case_from_json(data) == case
    assert case_kind(case) == case.op == "capture"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("owners", 0), "friend", "owner 'friend'; accepted: 'buffer', 'parameter'"),
        (("owners",), ["buffer"] * 99, "99 owners; accepted: up to "),
        (("events", 0, "event"), "nap", "event 'nap'; accepted: replay, write"),
        (("events", 0), {"event": "replay", "given": [], "how": "x"}, "how 'x'; accepted"),
        (("events", 0), {"event": "move", "position": 99, "how": "view"}, "position 99; accepted"),
        (("events", 0), {"event": "move", "position": 0, "how": "x"}, "move 'x'; accepted"),
        (("events", 0), {"event": "misfit", "how": "x"}, "misfit 'x'; accepted"),
        (("events", 0), {"event": "poison", "byte": 256}, "byte 256; accepted: 0 to 255"),
        (("events", 0), {"event": "seal", "on": 1}, "on 1; accepted: true or false"),
        (("events", 0), {"event": "reseed", "seed": 1.5}, "seed 1.5; accepted: an integer"),
        (("trap",), 3, "trap 3; accepted: a string"),
        (("sizes",), [2], "0 paddings and 0 batched; accepted: "),
    ],
)
def test_what_is_no_case_is_refused(path, value, message: str):
    case = next(c for c in CASES if c.owners and c.static and not c.sizes)
    data = json.loads(json.dumps(case_to_json(case)))
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(CaseFormatError, match=message):
        case_from_json(data)


def test_every_trap_can_be_drawn():
    made = {refused_case(SeededChooser(0, "trap", trap), trap).trap for trap in TRAPS}
    assert made == set(TRAPS)
