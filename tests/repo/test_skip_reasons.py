"""Tests that cannot run here say why, and can run where what they need is there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MARKED = """
import os
import sys

import pytest


@pytest.mark.interpret
def test_interprets():
    assert os.environ["TRITON_INTERPRET"] == "1"


@pytest.mark.gpu
def test_has_a_device():
    import torch

    assert torch.cuda.is_available()


def test_torch_is_not_imported():
    assert "torch" not in sys.modules


def test_the_inductor_cache_is_private():
    with open("cache.txt", "w") as file:
        file.write(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert os.path.isdir(os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory with the real conftest and settings, and four tests."""
    shutil.copy(ROOT / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_marked.py").write_text(MARKED, encoding="utf-8")
    return tmp_path


def _pytest(suite: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "TRITON_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        cwd=suite,
        env=inherited | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_interpreter_test_without_the_interpreter_is_skipped_with_the_reason(suite: Path):
    done = _pytest(suite, "-k", "interprets")
    assert done.returncode == 0, done.stdout
    assert "TRITON_INTERPRET is not 1 (`tox -e interpret` sets it)" in done.stdout
    assert "1 skipped, 3 deselected" in done.stdout


def test_an_interpreter_test_runs_with_the_interpreter(suite: Path):
    done = _pytest(suite, "-k", "interprets", TRITON_INTERPRET="1")
    assert "1 passed, 3 deselected" in done.stdout


def test_a_gpu_test_without_a_device_is_skipped_with_the_reason(suite: Path):
    done = _pytest(suite, "-m", "gpu", CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout
    assert "no GPU: torch 2." in done.stdout
    assert "1 skipped, 3 deselected" in done.stdout


def test_torch_is_imported_only_for_a_gpu_test(suite: Path):
    assert "1 passed" in _pytest(suite, "-k", "not_imported").stdout


def test_the_inductor_cache_is_gone_after_the_run(suite: Path):
    done = _pytest(suite, "-k", "private", TORCHINDUCTOR_CACHE_DIR="/nonexistent")
    assert "1 passed" in done.stdout
    cache = (suite / "cache.txt").read_text(encoding="utf-8")
    assert not Path(cache).exists()


def test_two_workers_have_two_inductor_caches(suite: Path):
    for name in ("a", "b"):
        (suite / f"tests/test_{name}.py").write_text(
            "import os, pathlib\n\ndef test_it():\n"
            f"    pathlib.Path('{name}').write_text(os.environ['TORCHINDUCTOR_CACHE_DIR'])\n",
            encoding="utf-8",
        )
    done = _pytest(suite, "-n", "2", "--dist", "loadfile", "tests/test_a.py", "tests/test_b.py")
    assert "2 passed" in done.stdout
    assert (suite / "a").read_text() != (suite / "b").read_text()


def test_an_unknown_marker_is_an_error(suite: Path):
    (suite / "tests/test_typo.py").write_text(
        "import pytest\n\n@pytest.mark.slwo\ndef test_x():\n    pass\n", encoding="utf-8"
    )
    assert "'slwo' not found in `markers`" in _pytest(suite, "tests/test_typo.py").stdout


def test_a_warning_is_an_error(suite: Path):
    (suite / "tests/test_warns.py").write_text(
        "import warnings\n\ndef test_x():\n    warnings.warn('w')\n", encoding="utf-8"
    )
    assert "UserWarning: w" in _pytest(suite, "tests/test_warns.py").stdout
