"""Ops that keep state, broken: what they leave there is judged as what they return is."""

import subprocess
import sys

import pytest

from oracle.store import Store


def unplaced(index: str) -> str:
    return (
        "key: float32[1, 1, 1] = [0.0]; value: float32[1, 1, 1] = [0.0]; "
        f"slot_mapping: {index}[1] = [-1]; kv_cache: float32[2, 1, 1, 1, 1] = [0.0, 1.0]"
    )


def exchanged(index: str) -> str:
    return (
        "key: float32[1, 1, 1] = [0.0]; value: float32[1, 1, 1] = [1.0]; "
        f"slot_mapping: {index}[1] = [0]; kv_cache: float32[2, 1, 1, 1, 1] = [0.0, 0.0]"
    )


def beyond(last: str, table: str, length: str) -> str:
    return (
        f"kv_cache: float32[2, 1, 2, 1, 1] = [0.0, 0.0, 0.0, {last}]; "
        f"query: float32[1, 1, 1] = [0.0]; block_tables: {table}[1, 1] = [0]; "
        f"seq_lens: {length}[1] = [1]; scale: 1.0"
    )


SMALLEST = {
    ("at_once", "quant_fp8_delayed", "values: value"): (
        "x: float32[1] = [1.0]; amax: float32[16]; next: int64[1] = [0]"
    ),
    ("forgets", "quant_fp8_delayed", "mutation: input-written"): (
        "x: float32[1] = [1.0]; amax: float32[16]; next: int64[1] = [0]"
    ),
    ("forgets", "quant_fp8_delayed", "values: value"): (
        "x: float32[1] = [1.0]; amax: float32[16]; next: int64[1] = [0]"
    ),
    ("from_the_end", "reshape_and_cache", "values: value"): unplaced("int64"),
    ("from_the_end", "reshape_and_cache", "mutation: input-written"): unplaced("int32"),
    ("slot_zero", "reshape_and_cache", "values: value"): unplaced("int64"),
    ("slot_zero", "reshape_and_cache", "mutation: input-written"): unplaced("int32"),
    ("values_first", "reshape_and_cache", "values: value"): exchanged("int64"),
    ("values_first", "reshape_and_cache", "mutation: input-written"): exchanged("int32"),
    ("one_more", "paged_decode_attention", "values: value"): beyond("1.0", "int32", "int32"),
    ("one_more", "paged_decode_attention", "values: nan"): beyond("nan", "int64", "int64"),
    ("weighs_all", "paged_decode_attention", "values: nan"): beyond("nan", "int64", "int64"),
    ("pads_the_end", "paged_decode_attention", "mutation: input-written"): (
        beyond("1.0", "int32", "int64")
    ),
    ("modulo", "paged_decode_attention", "values: value"): (
        "kv_cache: float32[2, 1, 1, 2, 1] = [0.0, 0.0, 0.0, 1.0]; "
        "query: float32[1, 4, 1] = [0.0, 0.0, 0.0, 0.0]; block_tables: int32[1, 1] = [0]; "
        "seq_lens: int64[1] = [1]; scale: 1.0"
    ),
}
"""No simplification leads from one dtype of an index to the other."""
CHOSEN = {
    "ops": ("reshape_and_cache", "paged_decode_attention", "quant_fp8_delayed"),
    "providers": (
        "slot_zero", "from_the_end", "values_first", "one_more", "modulo", "weighs_all",
        "pads_the_end", "at_once", "forgets",
    ),
    "routes": ("eager",),
    "dtypes": ("float32",),
    "budget": 300,
}  # fmt: skip


@pytest.mark.slow
def test_wrong_states_are_found_and_shrunk(judged, tmp_path, monkeypatch):
    outcome = judged("paged", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    assert outcome.differing(SMALLEST) == {}
    store = Store(tmp_path / "findings")
    first = {finding.op: finding for finding in outcome.findings}
    for finding in first.values():
        script = store.root / finding.fingerprint / "script.py"
        for faults, wanted in (("1", 1), ("0", 0)):
            monkeypatch.setenv("MUTANT_FAULTS", faults)
            done = subprocess.run(
                [sys.executable, str(script)], capture_output=True, text=True, check=False
            )
            assert done.returncode == wanted, (finding.provider, finding.kind, done)


def test_the_same_providers_without_their_faults_are_clean(judged):
    outcome = judged("paged", faulty=False, **CHOSEN | {"budget": 150})
    assert outcome.cases == {}
    assert outcome.finished.exit_code == 0
