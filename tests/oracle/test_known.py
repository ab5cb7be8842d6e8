"""Known disagreements: what an entry excuses, what it does not, and which files are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oracle.known import DEFAULT_PATH, Known, KnownEntry, KnownFormatError
from oracle.known_programs import CAUSES
from oracle.verdict import fingerprint

_NAMES = {"prop": "numerics", "subject": "ir", "op": "rms_norm", "provider": "triton"}
_MADE = fingerprint(**_NAMES, route="eager", kind="value", output="y")
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
    path.write_text("\n".join(map(_text, tables)), encoding="utf-8")
    return path


def _text(table: Mapping[str, object]) -> str:
    return "[[known]]\n" + "".join(f"{key} = {value!r}\n" for key, value in table.items())


def _found(known: Known, **changes) -> KnownEntry | None:
    given: dict[str, Any] = {
        "subject": "ir",
        "version": "torch 2.13.0",
        "kind": "value",
        "fingerprint": _MADE,
    }
    return known.find(**(given | changes))


def test_the_shipped_file_excuses_torch_alone():
    entries = Known.load().entries
    assert {entry.subject for entry in entries} == {"torch"}
    assert {entry.cause for entry in entries} == set(CAUSES)
    assert DEFAULT_PATH.is_file()


def test_an_entry_excuses_what_it_names(tmp_path: Path):
    known = Known.load(_file(tmp_path, _FIELDS))
    assert _found(known) == KnownEntry(**_FIELDS)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "vllm"},
        {"version": "torch 2.14.0"},
        {"version": ""},
        {"kind": "nan"},
        {"fingerprint": "0123456789ab"},
    ],
    ids=["subject", "version", "no-version", "kind", "fingerprint"],
)
def test_an_entry_excuses_nothing_that_differs(tmp_path: Path, change: dict):
    assert _found(Known.load(_file(tmp_path, _FIELDS)), **change) is None


def test_an_entry_with_a_text_excuses_only_what_shows_it(tmp_path: Path):
    known = Known.load(_file(tmp_path, _FIELDS | {"observed": "out of range"}))
    assert _found(known, observed="IndexError: out of range (0)") is not None
    assert _found(known, observed="IndexError: of range") is None
    assert _found(known) is None


@pytest.mark.parametrize("name", CAUSES)
def test_an_entry_with_a_cause_excuses_only_programs_that_have_it(tmp_path: Path, name: str):
    shared = {"route": "eager", "kind": "outputs-share-storage", "output": "y"}
    shown = {"kind": shared["kind"], "fingerprint": fingerprint(**_NAMES, **shared)}
    known = Known.load(_file(tmp_path, _FIELDS | shown | {"cause": name}))
    for other, cause in CAUSES.items():
        for case in cause.smallest:
            assert (_found(known, **shown, case=case) is not None) == (name == other)


def test_one_cause_shows_in_several_places(tmp_path: Path):
    places = ("property", "route", "kind", "output", "fingerprint")
    rows = [{name: _FIELDS[name] for name in places}]
    also = {"route": "caller", "kind": "nan", "output": "y"}
    rows.append({"property": "numerics", **also, "fingerprint": fingerprint(**_NAMES, **also)})
    shared = {name: value for name, value in _FIELDS.items() if name not in places}
    path = tmp_path / "known.toml"
    path.write_text(_text(shared) + _rows(rows), encoding="utf-8")
    assert Known.load(path).entries == tuple(KnownEntry(**shared, **row) for row in rows)


def _rows(rows: list[dict[str, str]]) -> str:
    inner = ["{" + ", ".join(f"{k} = {v!r}" for k, v in row.items()) + "}" for row in rows]
    return f"shown = [{', '.join(inner)}]\n"


@pytest.mark.parametrize(
    ("seen", "selects", "missing"),
    [(True, True, False), (False, True, True), (False, False, False)],
)
def test_a_selected_entry_that_was_not_seen_is_reported(
    tmp_path: Path, seen: bool, selects: bool, missing: bool
):
    known = Known.load(_file(tmp_path, _FIELDS))
    found = known.unreproduced(known.entries * seen, lambda _entry: selects)
    assert found == known.entries * missing


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
            f"entry 1: key 'since'; accepted: {', '.join(_FIELDS)}, observed, cause",
        ),
        (
            [_FIELDS, {k: v for k, v in _FIELDS.items() if k != "reason"}],
            f"entry 2: no 'reason'; accepted: all of {', '.join(_FIELDS)}",
        ),
        (
            [_FIELDS, _FIELDS],
            f"entry 2: fingerprint {_MADE} again; accepted: once for each subject, version, "
            "observed text and cause",
        ),
        (
            [_FIELDS | {"cause": "bad luck"}],
            f"entry 1: cause 'bad luck'; accepted: {', '.join(CAUSES)}",
        ),
        ([_FIELDS | {"shown": []}], "entry 1: 'shown' is []; accepted: a list of tables"),
    ],
    ids=["empty", "type", "made", "unknown", "missing", "twice", "cause", "no-rows"],
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
