"""Findings on disk: whole or not at all, and found again by path or prefix."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from oracle import store as store_module
from oracle.finding import Finding, case_file_to_json
from oracle.script import render
from oracle.store import (
    AmbiguousFindingError,
    FindingNotFoundError,
    Store,
    UnreadableFindingError,
    script_of,
)
from oracle.verdict import Place
from reference.model import Argument, OpCase, Storage, View

_CASE = OpCase(
    "silu_and_mul",
    (Storage("float32", 2, bytes(8)),),
    (Argument("x", View(0, (2,), (1,))),),
)


def _finding(fingerprint: str = "0123456789ab", differing: int = 1) -> Finding:
    return Finding(
        fingerprint=fingerprint,
        property="contract",
        subject="ir",
        op="silu_and_mul",
        provider="native",
        route="eager",
        judge="completion",
        kind="raised",
        contract="silu_and_mul/1",
        device="cpu",
        case=_CASE,
        place=Place(name="call", observed="TypeError: no", expected="outputs"),
        differing=differing,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "findings")


def test_a_finding_is_three_files_that_others_may_read(store: Store):
    folder = store.write(_finding(), None)
    assert folder == store.root / "0123456789ab"
    assert sorted(p.name for p in folder.iterdir()) == ["case.json", "finding.json", "script.py"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "script.py").read_text("utf-8") == render(_finding(), None)
    case = json.loads((folder / "case.json").read_text("utf-8"))
    assert case == case_file_to_json(_finding())


def test_a_finding_that_no_script_can_show_is_kept_and_says_so(store: Store):
    folder = store.write(replace(_finding(), subject="reference"), None)
    assert sorted(p.name for p in folder.iterdir()) == [
        "case.json",
        "finding.json",
        "no-script.txt",
    ]
    told = (folder / "no-script.txt").read_text()
    assert told == "no script for subject 'reference'; accepted: ir\n"
    assert script_of(folder) == (None, told.strip())
    assert store.load("0123456789ab").subject == "reference"


def test_the_folder_of_a_finding_is_where_it_was_read(store: Store, tmp_path: Path):
    folder = store.write(_finding(), None)
    for reference in ("0123", folder, folder / "case.json"):
        assert store.folder(reference) == folder
    assert script_of(folder) == (folder / "script.py", "")
    with pytest.raises(FindingNotFoundError):
        store.folder("9")
    assert script_of(tmp_path) == (None, "")


def test_an_empty_store_is_not_made_by_reading_it(store: Store):
    assert store.fingerprints() == []
    assert not store.root.exists()


@pytest.mark.parametrize(
    "reference",
    [
        "0123456789ab",
        "01",
        "{root}/0123456789ab",
        "{root}/0123456789ab/case.json",
        "{root}/0123456789ab/finding.json",
    ],
)
def test_a_finding_is_found_by_path_folder_or_prefix(store: Store, reference: str):
    store.write(_finding(), None)
    store.write(_finding("a" * 12), None)
    assert store.load(reference.format(root=store.root)) == _finding()
    assert store.fingerprints() == ["0123456789ab", "a" * 12]


def test_a_prefix_in_capitals_is_the_same_prefix(store: Store):
    store.write(_finding("abcdef012345"), None)
    assert store.load("ABCD").fingerprint == "abcdef012345"


def test_a_folder_with_its_case_alone_is_enough(store: Store):
    folder = store.write(_finding(), None)
    (folder / "finding.json").unlink()
    assert store.load(folder) == _finding()


def test_an_ambiguous_prefix_names_what_it_could_be(store: Store):
    store.write(_finding("aaaa00000000"), None)
    store.write(_finding("aaab00000000"), None)
    with pytest.raises(AmbiguousFindingError) as caught:
        store.load("aaa")
    assert str(caught.value) == (
        "'aaa' begins 2 fingerprints; accepted: one of aaaa00000000, aaab00000000"
    )


@pytest.mark.parametrize("reference", ["ffff", "no-such", ""])
def test_what_is_not_there_is_refused_with_what_is(store: Store, reference: str, monkeypatch):
    store.write(_finding(), None)
    monkeypatch.chdir(store.root.parent)
    # The empty path is the current folder, which holds no finding.
    with pytest.raises(FindingNotFoundError, match=r"accepted: a (case file|folder with)"):
        store.load(reference)


def test_an_empty_store_says_that_it_has_none(store: Store):
    with pytest.raises(FindingNotFoundError, match=r"findings in .*/findings: none\)$"):
        store.load("ab")


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "not JSON"), ("[]", "not a finding: list"), ('{"format": 9}', "format 9")],
)
def test_a_file_that_is_no_finding_is_refused(tmp_path: Path, store: Store, text: str, why: str):
    path = tmp_path / "case.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableFindingError, match=why) as caught:
        store.load(path)
    assert str(caught.value).endswith("accepted: a case.json or finding.json of irverify")


def test_a_finding_replaces_the_older_one(store: Store):
    store.write(_finding(differing=1), None)
    store.write(_finding(differing=2), None)
    assert store.load("0123456789ab").differing == 2
    assert sorted(p.name for p in store.root.iterdir()) == ["0123456789ab"]


class PowerCutError(Exception):
    pass


def _cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop the write at its n-th file operation, as a crash would: nothing is tidied up."""
    count = iter(range(1_000))

    def guarded(operation):
        def run(*args, **kwargs):
            if next(count) == step:
                raise PowerCutError
            return operation(*args, **kwargs)

        return run

    monkeypatch.setattr(os, "fsync", guarded(os.fsync))
    monkeypatch.setattr(Path, "rename", guarded(Path.rename))
    monkeypatch.setattr(store_module.shutil, "rmtree", guarded(lambda *_, **__: None))


@pytest.mark.parametrize("step", range(9))
def test_a_crash_leaves_the_old_finding_or_the_new_one(store: Store, monkeypatch, step: int):
    store.write(_finding(differing=1), None)
    with monkeypatch.context() as patch:
        _cut_at(patch, step)
        try:
            store.write(_finding(differing=2), None)
            finished = True
        except PowerCutError:
            finished = False
    found = Store(store.root).load("0123456789ab")
    assert found in (_finding(differing=1), _finding(differing=2))
    assert store.fingerprints() == ["0123456789ab"]
    if finished:
        assert found.differing == 2
    store.write(_finding(differing=3), None)
    assert Store(store.root).load("0123456789ab").differing == 3


def test_the_first_finding_is_whole_or_absent(store: Store, monkeypatch):
    with monkeypatch.context() as patch:
        _cut_at(patch, 2)
        with pytest.raises(PowerCutError):
            store.write(_finding(), None)
    assert store.fingerprints() == []


def test_a_place_that_cannot_be_written_is_an_error(store: Store):
    store.root.mkdir(parents=True)
    (store.root / "0123456789ab").write_text("in the way", encoding="utf-8")

    def refuse(self, target):
        raise PermissionError(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(PermissionError):
            store.write(_finding(), None)
