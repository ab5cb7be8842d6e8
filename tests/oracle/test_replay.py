"""A finding run again: gone, still there, undecided, or not to be run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oracle.finding import Finding, Source, case_file_to_json
from oracle.replay import replay_to_text, replayed
from oracle.store import Store
from oracle.verdict import Outcome, Place, fingerprint
from reference.model import Argument, Fill, OpCase, Storage, View

KERNEL = """
import os
from torch import Tensor
from ir.ops import silu_and_mul

@silu_and_mul.register_impl("doubled")
def doubled(x: Tensor) -> Tensor:
    y = silu_and_mul.impls["native"].impl_fn(x)
    return y + y if FAULTY else y
"""
CASE = OpCase(
    "silu_and_mul",
    (Storage("float32", 2, np.array([1.0, 1.0], np.float32).tobytes()),),
    (Argument("x", View(0, (2,), (1,))),),
)


def _finding(**changes) -> Finding:
    given = {
        "property": "numerics",
        "subject": "reference",
        "op": "silu_and_mul",
        "provider": "1",
        "route": "reference",
        "judge": "values",
        "kind": "value",
        "contract": "silu_and_mul/1",
        "device": "cpu",
        "case": CASE,
        "place": Place(name="y", index=(0,), observed="2.0", expected="1.0"),
    } | changes
    names = {name: given[name] for name in ("subject", "op", "provider", "route", "kind")}
    name = fingerprint(prop=given["property"], output=given["place"].name, **names)
    return Finding(fingerprint=name, **given)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "findings")


def _kept(store: Store, finding: Finding) -> Path:
    """As the store keeps it, without the script that only some subjects have."""
    folder = store.root / finding.fingerprint
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(case_file_to_json(finding)))
    return folder


def test_what_agrees_now_is_gone(store: Store, capsys):
    finding = _finding()
    folder = _kept(store, finding)
    for reference in (finding.fingerprint[:6], str(folder), str(folder / "case.json")):
        assert replay_to_text(reference, (), store) == 0
        said = capsys.readouterr().out
        assert said.startswith("values: value  reference silu_and_mul 1, route reference")
        assert said.endswith("now: agrees, the disagreement is gone\n")


def test_what_is_kept_with_the_finding_is_replayed_and_what_is_imported_instead(
    store: Store, tmp_path: Path, capsys
):
    finding = _finding(
        subject="ir",
        provider="doubled",
        route="eager-unwrapped",
        source=Source(name="doubled.py", text=KERNEL.replace("FAULTY", "True")),
    )
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, (), store) == 1
    said = capsys.readouterr().out
    assert "now: values: value: y[0]: observed 1.46211" in said
    fixed = tmp_path / "fixed.py"
    fixed.write_text(KERNEL.replace("FAULTY", "False"))
    assert replay_to_text(finding.fingerprint, (str(fixed),), store) == 0


def test_what_the_reference_cannot_say_is_not_gone(store: Store, capsys):
    rotary = OpCase(
        "rotary_embedding",
        (
            Storage("int64", 1, np.array([5], np.int64).tobytes()),
            Storage("float32", 2, bytes(8)),
        ),
        (
            Argument("positions", View(0, (1,), (1,))),
            Argument("x_query", View(1, (1, 2), (2, 1))),
            Argument("x_key", None),
            Argument("head_size", 2),
            Argument("cos_sin_cache", View(1, (1, 2), (2, 1))),
            Argument("is_neox", True),
        ),
    )
    finding = _finding(op="rotary_embedding", contract="rotary_embedding/1", case=rotary)
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, (), store) == 3
    said = capsys.readouterr().out
    assert said.endswith("now: nothing decided (values: positions-out-of-range)\n")


def test_a_finding_is_not_gone_while_its_own_judge_decides_nothing(store: Store, capsys):
    # It returns, so another judge agrees; a sum this long has a bound that decides no value.
    long = OpCase(
        "rms_norm",
        (Storage("float32", 4096, Fill("normal", 5)),),
        (
            Argument("x", View(0, (1, 4096), (4096, 1))),
            Argument("weight", None),
            Argument("epsilon", 0.1),
        ),
    )
    finding = _finding(op="rms_norm", contract="rms_norm/1", case=long)
    assert [v.outcome for v in replayed(finding, ())] == [Outcome.AGREES, Outcome.UNDECIDED]
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, (), store) == 3
    assert capsys.readouterr().out.endswith("now: nothing decided (values: bound-too-wide)\n")
    _kept(store, returned := replace(finding, fingerprint="0" * 12, judge="completion"))
    assert replay_to_text(returned.fingerprint, (), store) == 0


def test_a_judge_that_the_property_has_not_cannot_replay(store: Store, capsys):
    _kept(store, finding := _finding(judge="taste"))
    assert replay_to_text(finding.fingerprint, (), store) == 2
    assert capsys.readouterr().err == (
        "irverify: numerics has no judge 'taste'; accepted: completion, values\n"
    )


def test_what_is_not_there_cannot_be_replayed(store: Store, capsys):
    assert replay_to_text("abc", (), store) == 2
    assert capsys.readouterr().err.startswith("irverify: no finding 'abc'; accepted: ")


def test_what_cannot_be_imported_cannot_be_replayed(store: Store, capsys):
    finding = _finding(subject="ir", provider="mine", route="eager")
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, ("nowhere.py",), store) == 2
    assert capsys.readouterr().err.startswith("irverify: --import nowhere.py: no such file")


def test_a_provider_that_is_not_there_cannot_be_replayed(store: Store, capsys):
    finding = _finding(subject="ir", provider="mine", route="eager")
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, (), store) == 2
    assert capsys.readouterr().err == (
        "irverify: silu_and_mul has no provider 'mine'; accepted: native, triton\n"
    )


def test_a_property_that_is_not_there_cannot_be_replayed(store: Store, capsys):
    finding = replace(_finding(), property="taste")
    _kept(store, finding)
    assert replay_to_text(finding.fingerprint, (), store) == 2
    assert capsys.readouterr().err.startswith("irverify: property 'taste'; accepted: numerics, ")


def test_a_route_that_the_provider_has_not_cannot_be_replayed(store: Store, capsys):
    _kept(store, finding := _finding(route="lowered"))
    assert replay_to_text(finding.fingerprint, (), store) == 2
    assert capsys.readouterr().err == (
        "irverify: silu_and_mul 1 has no route 'lowered'; accepted: reference\n"
    )
