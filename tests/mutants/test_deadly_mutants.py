"""Calls that never come back: the run goes on, and says which."""

import pytest

from oracle import engine, findings

CHOSEN = {
    "properties": ("contract",),
    "ops": (
        "silu_and_mul",
        "rms_norm",
        "dynamic_per_token_quant_fp8",
        "per_token_group_quant_fp8",
    ),
    "providers": ("native", "segfaults_on_odd", "hangs_on_empty"),
    "routes": ("eager-unwrapped",),
    "budget": 160,
    "case_timeout": 3.0,
}


@pytest.mark.slow
def test_crashes_and_hangs_are_found_and_survived(judged, monkeypatch):
    # Each costs a process: one of a kind shows what a run of thousands would.
    monkeypatch.setattr(engine, "CRASHES", 1)
    monkeypatch.setattr(findings, "CRASH_TRIES", 1)
    monkeypatch.setattr(findings, "HANGING_SECONDS", 1.0)
    outcome = judged("deadly", faulty=True, **CHOSEN)
    assert outcome.finished.exit_code == 1
    found = {(f.op, f.provider, f.judge, f.kind): f.place.observed for f in outcome.findings}
    assert found == {
        ("silu_and_mul", "segfaults_on_odd", "completion", "crash"): "SIGSEGV",
        ("rms_norm", "hangs_on_empty", "completion", "timeout"): "timeout",
        ("dynamic_per_token_quant_fp8", "native", "refusal", "crash"): "died (SIGABRT)",
        ("per_token_group_quant_fp8", "native", "refusal", "timeout"): "died (timeout)",
    }
    assert outcome.finished.rows[0].undecided["crashed-before"] > 0
