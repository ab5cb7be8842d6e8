"""The README's example: what it promises to print is what a reader sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _block(mark: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    if found is None:
        raise AssertionError(f"README.md has no block under <!-- {mark} -->")
    return found.group(1)


def _run(folder: Path, kernel: str) -> subprocess.CompletedProcess[str]:
    return _judged(folder, "mykernel.py", kernel, "--op", "rms_norm")


def _judged(folder: Path, name: str, text: str, *what: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", "from oracle.cli import main; main()", "run"]
    options = ["--import", name, *what, "--provider", "mine"]
    return subprocess.run(
        [*command, *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_example_kernel_gets_the_answer_that_the_readme_shows(tmp_path: Path) -> None:
    done = _run(tmp_path, _block("kernel"))
    assert (done.returncode, done.stderr) == (1, "")
    assert _block("answer") in done.stdout


@pytest.mark.slow
def test_the_example_kernel_passes_once_mended(tmp_path: Path) -> None:
    kernel = _block("kernel")
    mended = kernel.replace("keepdim=True)) + epsilon)", "keepdim=True) + epsilon))")
    assert mended != kernel
    done = _run(tmp_path, mended)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_example_pass_gets_the_answer_that_the_readme_shows(tmp_path: Path) -> None:
    done = _judged(tmp_path, "mypass.py", _block("pass"), "--property", "clones", "--budget", "200")
    assert (done.returncode, done.stderr) == (1, "")
    assert _block("pass-answer") in done.stdout
