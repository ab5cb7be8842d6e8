"""Known disagreements: what an entry excuses, what it does not, and which files are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oracle.finding import Finding
from oracle.known import DEFAULT_PATH, Known, KnownEntry, KnownFormatError
from oracle.verdict import Place, fingerprint
from reference.model import OpCase

_MADE = fingerprint(
    prop="numerics",
    subject="ir",
    op="rms_norm",
    provider="triton",
    route="eager",
    kind="value",
    output="y",
)
_FIELDS = {
    "subject": "ir",
    "version": "torch 2.13.0",
    "property": "numerics",
    "op": "rms_norm",
    "provider": "triton",
    "route": "eager",
    "kind": "value",
    "output": "y",
    "fingerprint": _MADE,
    "reason": "a tie",
    "link": "https://example.org/1",
}


def _file(folder: Path, *tables: Mapping[str, object]) -> Path:
    path = folder / "known.toml"
    text = "\n".join(
        "[[known]]\n" + "".join(f"{key} = {value!r}\n" for key, value in table.items())
        for table in tables
    )
    path.write_text(text, encoding="utf-8")
    return path


def _finding(**changes) -> Finding:
    given: dict[str, Any] = {
        "fingerprint": _MADE,
        "property": "numerics",
        "subject": "ir",
        "op": "rms_norm",
        "provider": "triton",
        "route": "eager",
        "judge": "values",
        "kind": "value",
        "contract": "rms_norm/1",
        "device": "cpu",
        "case": OpCase("rms_norm", (), ()),
        "place": Place(name="y", observed="1", expected="2"),
        "versions": {"ir": "torch 2.13.0"},
    }
    return Finding(**(given | changes))


def test_the_shipped_file_excuses_nothing():
    assert Known.load() == Known()
    assert DEFAULT_PATH.is_file()


def test_an_entry_excuses_the_finding_that_it_names(tmp_path: Path):
    known = Known.load(_file(tmp_path, _FIELDS))
    assert known.classify(_finding()) == KnownEntry(**_FIELDS)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "vllm", "versions": {"vllm": "torch 2.13.0"}},
        {"versions": {"ir": "torch 2.14.0"}},
        {"versions": {}},
        {"kind": "nan"},
        {"fingerprint": "0123456789ab"},
    ],
    ids=["subject", "version", "no-version", "kind", "fingerprint"],
)
def test_an_entry_excuses_nothing_that_differs(tmp_path: Path, change: dict):
    assert Known.load(_file(tmp_path, _FIELDS)).classify(_finding(**change)) is None


@pytest.mark.parametrize(
    ("seen", "selects", "missing"),
    [({_MADE}, True, False), (set(), True, True), (set(), False, False), ({"other"}, True, True)],
)
def test_a_selected_entry_that_was_not_seen_is_reported(
    tmp_path: Path, seen: set[str], selects: bool, missing: bool
):
    known = Known.load(_file(tmp_path, _FIELDS))
    assert known.unreproduced(seen, lambda _entry: selects) == known.entries * missing


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([_FIELDS | {"link": ""}], "entry 1: link is ''; accepted: a text, not empty"),
        ([_FIELDS | {"kind": 3}], "entry 1: kind is 3; accepted: a text, not empty"),
        (
            [_FIELDS | {"fingerprint": "0123456789ab"}],
            f"entry 1: fingerprint is '0123456789ab'; accepted: '{_MADE}', which is what its "
            "other fields make",
        ),
        (
            [_FIELDS | {"since": "today"}],
            f"entry 1: key 'since'; accepted: {', '.join(_FIELDS)}",
        ),
        (
            [_FIELDS, {k: v for k, v in _FIELDS.items() if k != "reason"}],
            f"entry 2: no 'reason'; accepted: all of {', '.join(_FIELDS)}",
        ),
        (
            [_FIELDS, _FIELDS],
            f"entry 2: fingerprint {_MADE} again; accepted: once for each subject and version",
        ),
    ],
    ids=["empty", "type", "made", "unknown", "missing", "twice"],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, tables: list[dict], message: str):
    path = _file(tmp_path, *tables)
    with pytest.raises(KnownFormatError) as caught:
        Known.load(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("known = 3", "'known' is no list; accepted: [[known]] tables"),
        ("known = [3]", "entry 1: 3; accepted: a table"),
        ("[knwon]", "key 'knwon'; accepted: [[known]] tables only"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "known.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KnownFormatError) as caught:
        Known.load(path)
    assert str(caught.value) == f"{path}: {message}"


def test_what_is_no_toml_is_refused(tmp_path: Path):
    path = tmp_path / "known.toml"
    path.write_text("[[known", encoding="utf-8")
    with pytest.raises(KnownFormatError, match=r"known\.toml: .*; accepted: a TOML file$"):
        Known.load(path)
    with pytest.raises(KnownFormatError, match="No such file"):
        Known.load(tmp_path / "none.toml")
