"""Ops that keep state, broken: what they leave there is judged as what they return is."""

import subprocess
import sys

import pytest

from oracle.store import Store

INDICES = ("int32", "int64")
"""No simplification leads from one dtype of an index to the other."""


def placed(keys: str, values: str, slot: int, cache: str) -> tuple[str, ...]:
    return tuple(
        f"key: float32[1, 1, 1] = [{keys}]; value: float32[1, 1, 1] = [{values}]; "
        f"slot_mapping: {index}[1] = [{slot}]; kv_cache: float32[2, 1, 1, 1, 1] = [{cache}]"
        for index in INDICES
    )


def attended(cache: str, query: str, scale: str) -> tuple[str, ...]:
    return tuple(
        f"kv_cache: float32{cache}; query: float32{query}; block_tables: {table}[1, 1] = [0]; "
        f"seq_lens: {length}[1] = [1]; scale: {scale}"
        for table in INDICES
        for length in INDICES
    )


UNPLACED = placed("0.0", "0.0", -1, "0.0, 1.0")
EXCHANGED = placed("0.0", "1.0", 0, "0.0, 0.0")
BEYOND = attended("[2, 1, 2, 1, 1] = [0.0, 0.0, 0.0, 1.0]", "[1, 1, 1] = [0.0]", "1.0")
BEYOND_NAN = attended("[2, 1, 2, 1, 1] = [0.0, 0.0, 0.0, nan]", "[1, 1, 1] = [0.0]", "1.0")
BEFORE = attended("[2, 1, 2, 1, 1] = [0.0, 0.0, 1.0, 0.0]", "[1, 1, 1] = [0.0]", "1.0")
NAN = (
    *attended("[2, 1, 1, 1, 1] = [nan, 0.0]", "[1, 1, 1] = [0.0]", "1.0"),
    *attended("[2, 1, 1, 1, 1] = [0.0, 0.0]", "[1, 1, 1] = [nan]", "1.0"),
)
TURNS = attended(
    "[2, 1, 1, 2, 1] = [0.0, 0.0, 0.0, 1.0]", "[1, 4, 1] = [0.0, 0.0, 0.0, 0.0]", "1.0"
)
ONE_CALL = "x: float32[1] = [1.0]; amax: float32[16]; next: int64[1] = [0]"
# One row more than are looked at together.
TWO_STEPS = (
    "kv_cache: float32[2, 3, 14, 1, 1]; query: float32[1, 1, 1] = [1.0]; "
    "block_tables: int32[1, 5] = [0, 0, 0, 2, 1]; seq_lens: int32[1] = [65]; scale: 1.0"
)
NO_CALL = "x: float32[1] = [0.0]; amax: float32[16]; next: int64[1] = [0]"
SMALLEST = {
    ("at_once", "quant_fp8_delayed", "values: value"): ONE_CALL,
    ("forgets", "quant_fp8_delayed", "mutation: input-written"): ONE_CALL,
    ("forgets", "quant_fp8_delayed", "values: value"): ONE_CALL,
    ("from_the_end", "reshape_and_cache", "values: value"): UNPLACED,
    ("from_the_end", "reshape_and_cache", "mutation: input-written"): UNPLACED,
    ("slot_zero", "reshape_and_cache", "values: value"): UNPLACED,
    ("slot_zero", "reshape_and_cache", "mutation: input-written"): UNPLACED,
    ("values_first", "reshape_and_cache", "values: value"): EXCHANGED,
    ("values_first", "reshape_and_cache", "mutation: input-written"): EXCHANGED,
    ("one_more", "paged_decode_attention", "values: value"): BEYOND + BEFORE,
    ("one_more", "paged_decode_attention", "values: nan"): BEYOND_NAN,
    ("weighs_all", "paged_decode_attention", "values: nan"): BEYOND_NAN,
    ("pads_the_end", "paged_decode_attention", "mutation: input-written"): BEYOND,
    ("modulo", "paged_decode_attention", "values: value"): TURNS,
    ("drops_nan", "paged_decode_attention", "values: nan"): NAN,
    ("no_rescale", "paged_decode_attention", "values: value"): TWO_STEPS,
    ("not_yet_full", "quant_fp8_delayed", "values: value"): NO_CALL,
}
CHOSEN = {
    "ops": ("reshape_and_cache", "paged_decode_attention", "quant_fp8_delayed"),
    "providers": (
        "slot_zero", "from_the_end", "values_first", "one_more", "modulo", "weighs_all",
        "pads_the_end", "drops_nan", "no_rescale", "at_once", "forgets", "not_yet_full",
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


@pytest.mark.slow
def test_the_same_providers_without_their_faults_are_clean(judged):
    outcome = judged("paged", faulty=False, **CHOSEN | {"budget": 150})
    assert outcome.cases == {}
    assert outcome.finished.exit_code == 0
