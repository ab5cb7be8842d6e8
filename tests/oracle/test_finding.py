"""Findings as JSON: nothing lost, and nothing taken for one that is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from oracle.finding import (
    CASE_KINDS,
    AlsoOn,
    Finding,
    FindingFormatError,
    Source,
    case_file_to_json,
    finding_from_json,
    finding_to_json,
)
from oracle.verdict import Place
from reference.model import Argument, Fill, OpCase, Storage, View, case_from_json


def _case() -> OpCase:
    return OpCase(
        "rms_norm",
        (Storage("bfloat16", 2, b"\x80\x3f\x01\x7f"), Storage("float32", 9, Fill("normal", 5))),
        (
            Argument("x", View(0, (1, 2), (2, 1))),
            Argument("weight", View(1, (2,), (3,), 1)),
            Argument("epsilon", 0.1, keyword=True),
        ),
        "maybe_inplace",
    )


def _finding(**changes) -> Finding:
    given: dict[str, Any] = {
        "fingerprint": "0123456789ab",
        "property": "numerics",
        "subject": "ir",
        "op": "rms_norm",
        "provider": "broken",
        "route": "eager",
        "judge": "values",
        "kind": "value",
        "contract": "rms_norm/1",
        "device": "cpu",
        "case": _case(),
        "place": Place(name="y", index=(0, 1), observed="nan", expected="[1.0, 1.5]"),
        "differing": 2,
        "versions": {"ir": "torch 2.13.0"},
        "source": Source(name="broken.py", text="# é\r\nx = 1\n"),
        "also_on": (AlsoOn("opaque", "ba9876543210"), AlsoOn("eager", "ca9876543210", "contract")),
        "seed": 7,
    }
    return Finding(**(given | changes))


@pytest.mark.parametrize(
    "finding",
    [
        _finding(),
        _finding(source=None, also_on=(), place=Place(name="call", observed="a", expected="b")),
    ],
    ids=["full", "bare"],
)
@pytest.mark.parametrize("form", [finding_to_json, case_file_to_json])
def test_a_finding_comes_back_from_its_json(finding: Finding, form):
    assert finding_from_json(json.loads(json.dumps(form(finding)))) == finding


def test_a_case_file_is_a_case_of_the_case_format():
    assert case_from_json(case_file_to_json(_finding())) == _case()


def test_a_source_keeps_the_line_ends_and_the_declared_encoding(tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_bytes("# coding: latin-1\r\ns = 'é'\n".encode("latin-1"))
    assert Source.read(path) == Source(name="mine.py", text="# coding: latin-1\r\ns = 'é'\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not a finding: list; accepted: an object"),
        ({"format": 2}, "not a finding: format 2; accepted: format 1"),
        (
            {"format": 1, "kind": "op"},
            "a case without a check; accepted: a case file with 'check'",
        ),
        (
            {"format": 1, "case": None},
            "not a finding: not a case: NoneType; accepted: format 1, "
            f"kind {', '.join(map(repr, CASE_KINDS))}",
        ),
        (
            finding_to_json(_finding()) | {"route": 3},
            "not a finding: ValueError: route is 3; accepted: a string",
        ),
        (
            {k: v for k, v in finding_to_json(_finding()).items() if k != "place"},
            "not a finding: KeyError: 'place'",
        ),
    ],
    ids=["list", "format", "no-check", "no-case", "type", "missing"],
)
def test_what_is_no_finding_is_refused(data, message: str):
    with pytest.raises(FindingFormatError) as caught:
        finding_from_json(data)
    assert str(caught.value) == message
