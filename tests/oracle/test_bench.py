"""`irverify bench` runs all it says it times. What the times are, no test says."""

import json

import pytest
from rich.console import Console

from oracle import bench

ROWS = [
    "rms_norm native, 4 x 64",
    "dispatched, no torch wrap",
    "dispatched, torch wrap",
    "ir_state.get",
    "lower 64 nodes, cache cold",
    "lower 64 nodes, cache warm",
    "key made and found",
    "clones of 1,000 nodes",
    "clones of 10,000 nodes",
    "plan, 80 layers x 20,000 blocks",
    "bind 655,360 descriptors",
]


@pytest.mark.slow
def test_every_row_is_timed_printed_and_written(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "timings.json"
    assert bench.bench_to_text(1, path) == 0
    printed = capsys.readouterr().out
    assert [row for row in ROWS if row not in printed] == []
    assert max(map(len, printed.splitlines())) <= 80
    data = json.loads(path.read_text())
    assert data["format"] == 1
    assert [t["what"] for t in data["timings"]] == ROWS
    assert all(t["seconds"] > 0 for t in data["timings"])


def test_a_table_shows_times_in_their_units(capsys):
    timings = [
        bench.Timing(what="a", seconds=2.5e-6, per="call"),
        bench.Timing(what="b", seconds=1.5e-3, per="plan", beside="a", ratio=600.0),
        bench.Timing(what="c", seconds=2.0, per="run"),
    ]
    bench.show(timings, Console(width=80))
    lines = capsys.readouterr().out.splitlines()[2:]
    shown = [line.split() for line in lines]
    assert shown == [
        ["a", "2.50", "us", "call"],
        ["b", "1.50", "ms", "plan", "600.00", "a"],
        ["c", "2.00", "s", "run"],
    ]


def test_wrong_use_exits_2_with_one_line(capsys, tmp_path, monkeypatch):
    assert bench.bench_to_text(0, None) == 2
    assert capsys.readouterr().err == "irverify: --rounds 0; accepted: 1 or more\n"
    monkeypatch.setattr("oracle.subjects.bench.timings", lambda _: [])
    assert bench.bench_to_text(1, tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"irverify: --json {tmp_path}: ")
