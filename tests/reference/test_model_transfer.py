"""Transfer cases as data: what is written is read back, and what is no case is refused."""

import json

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.refused_transfers import RULES, refused_case
from fuzz.strategies.transfers import transfer_case
from reference.model import CaseFormatError, case_from_json, case_kind, case_to_json, digest

CASES = [transfer_case(SeededChooser(0, "codec", i)) for i in range(40)]
CASES += [refused_case(SeededChooser(0, "codec", rule), rule) for rule in RULES]


@pytest.mark.parametrize("case", CASES, ids=digest)
def test_a_case_is_read_back_as_it_was_written(case):
    data = json.loads(json.dumps(case_to_json(case)))
    assert (data["format"], data["kind"]) == (1, "transfer")
    assert case_from_json(data) == case
    assert case_kind(case) == "transfer"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("fault",), "flood", "fault 'flood'; accepted: '', 'kill', 'stop', 'restart'"),
        (("producer", "layout"), "NDH", "layout 'NDH'; accepted: 'HND', 'NHD'"),
        (("producer", "tp"), 1.5, "tp 1.5; accepted: an integer"),
        (("producer", "spare"), 1, "accepted: .*'tp'"),
        (("producer_id",), 3, "producer_id 3; accepted: a string"),
        (("model", "query_heads"), True, "query_heads True; accepted: an integer"),
    ],
)
def test_what_is_no_case_is_refused(path, value, message: str):
    data = json.loads(json.dumps(case_to_json(CASES[0])))
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(CaseFormatError, match=message):
        case_from_json(data)


def test_an_unknown_kind_of_group_is_no_case():
    data = json.loads(json.dumps(case_to_json(CASES[0])))
    data["model"]["groups"][0]["kind"] = "ring"
    with pytest.raises(CaseFormatError, match="kind 'ring'; accepted: 'full'"):
        case_from_json(data)
