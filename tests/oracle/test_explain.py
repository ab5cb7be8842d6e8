"""`irverify explain` as a user sees it, and as its own output goes in again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BLOCK = "explained/block.py"


def _explain(
    *arguments: str, columns: int = 80, folder: Path = HERE
) -> subprocess.CompletedProcess[str]:
    code = "import sys; from oracle.cli import main; sys.argv[0] = 'irverify'; main()"
    environment = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(HERE.parents[1])}
    return subprocess.run(
        [sys.executable, "-c", code, "explain", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_a_screen_shows_providers_hits_and_clones(columns: int, snapshot):
    done = _explain(BLOCK, "--provider", "inplace", columns=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert done.stdout == snapshot


@pytest.mark.slow
def test_a_second_compilation_hits_the_cache_only():
    done = _explain(BLOCK, "--warm")
    assert "3 hits" in done.stdout
    assert "miss" not in done.stdout


@pytest.mark.slow
def test_written_graphs_run_and_are_explained_again(tmp_path: Path):
    done = _explain(BLOCK, "--provider", "inplace", "--write", str(tmp_path))
    names = ["0_captured", "1_functionalize", "2_traced", "3_lower", "4_clones"]
    assert sorted(p.stem for p in tmp_path.iterdir()) == names
    assert done.stdout.count("wrote ") == len(names)
    again = _explain("2_traced.py", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "1 hit, 2 misses" in again.stdout
    last = _explain("4_clones.py", folder=tmp_path)
    assert "nothing to do" in last.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.py",), "irverify: nowhere.py: no such file; accepted: a .py file"),
        (("block",), "irverify: 'block'; accepted: FILE.py[:NAME], MODULE:NAME, or "),
        ((f"{BLOCK}:EPSILON",), f"irverify: {BLOCK}:EPSILON: EPSILON is 1e-06; accepted: "),
        ((f"{BLOCK}:broken",), f"irverify: {BLOCK}:broken cannot be compiled: "),
        ((BLOCK, "--provider", "none"), "irverify: provider 'none'; accepted: inplace, native"),
        (("none.json",), "irverify: none.json: FileNotFoundError: "),
    ],
)
def test_wrong_use_exits_2_with_one_line(arguments: tuple[str, ...], said: str):
    done = _explain(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
