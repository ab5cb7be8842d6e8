"""What is not Python travels in the wheel too: an editable install would hide that it does not."""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ir", "reference", "oracle", "fuzz")


def left_out(files: list[str], patterns: list[str]) -> list[str]:
    """The files inside the packages that neither are modules nor match a package-data pattern."""
    return [
        file
        for file in files
        if Path(file).parts[0] in PACKAGES
        and not file.endswith(".py")
        and not any(fnmatch(Path(file).name, pattern) for pattern in patterns)
    ]


def not_packages(files: list[str]) -> list[str]:
    """Directories inside a package without `__init__.py`: setuptools leaves them out."""
    present = set(files)
    directories = {
        str(parent)
        for file in files
        if Path(file).parts[0] in PACKAGES
        for parent in Path(file).parents
        if parent != Path(".")
    }
    return sorted(name for name in directories if f"{name}/__init__.py" not in present)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return done.stdout.splitlines()


def test_every_data_file_is_package_data(tracked: list[str]):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["*"]
    assert left_out(tracked, patterns) == []


def test_every_directory_of_a_package_is_a_package(tracked: list[str]):
    assert not_packages(tracked) == []


def test_a_forgotten_data_file_is_reported():
    files = ["oracle/known.toml", "oracle/a.html", "fuzz/x/models.toml", "tests/a.txt", "ir/op.py"]
    assert left_out(files, ["*.toml"]) == ["oracle/a.html"]


def test_a_directory_that_is_no_package_is_reported():
    files = ["fuzz/__init__.py", "fuzz/catalogue/models.toml", "ir/__init__.py", "tests/a.py"]
    assert not_packages(files) == ["fuzz/catalogue"]
