"""The kept cases: readable, legal, distinct, and written as this version writes them."""

import json
from pathlib import Path

import pytest

import fuzz.corpus
from fuzz.corpus import corpus_cases
from reference.declaration import Binding
from reference.legal import DECLARATIONS
from reference.model import CaseFormatError, ProgramCase, case_to_json, digest
from reference.programs import ExpectedProgram, expect_program

FOLDER = Path(fuzz.corpus.__file__).parent


def test_every_kept_case_is_legal_and_distinct():
    cases = corpus_cases()
    for entry in cases:
        if isinstance(entry.case, ProgramCase):
            assert isinstance(expect_program(entry.case), ExpectedProgram), entry.name
        else:
            assert isinstance(DECLARATIONS[entry.case.op].bind(entry.case), Binding), entry.name
    assert len({digest(entry.case) for entry in cases}) == len(cases)


@pytest.mark.parametrize("op", [*sorted(DECLARATIONS), "program"])
def test_every_op_has_a_kept_case_and_is_found_by_name(op: str):
    found = corpus_cases(op)
    assert found
    assert {entry.case.op for entry in found} == {op}


def test_files_are_what_this_version_writes():
    for entry in corpus_cases():
        text = (FOLDER / f"{entry.name}.json").read_text(encoding="utf-8")
        assert text == json.dumps(case_to_json(entry.case), indent=1) + "\n"


def test_a_file_that_is_no_case_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "odd.json").write_text('{"format": 9}', encoding="utf-8")
    monkeypatch.setattr("fuzz.corpus.resources.files", lambda _: tmp_path)
    with pytest.raises(
        CaseFormatError, match=r"odd\.json: not a case: format 9, kind None; accepted"
    ):
        corpus_cases()
