"""The README's two commands: what a newcomer types is what `.ci/run` runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def commands(readme: str) -> dict[str, str]:
    """The one-line shell blocks marked `<!-- name -->`, by name."""
    found = re.findall(r"^<!-- (\w+) -->\n```sh\n(.*)\n```$", readme, flags=re.MULTILINE)
    return dict(found)


def _ci_run(root: Path, *block: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / ".ci/run", *block], capture_output=True, text=True, timeout=30, cwd="/"
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the real `.ci/run` and a README of the test's own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


def test_the_readme_has_exactly_the_two_commands():
    assert list(commands((ROOT / "README.md").read_text(encoding="utf-8"))) == ["run", "test"]


@pytest.mark.parametrize(("name", "last"), [("run", "irverify run"), ("test", "tox")])
def test_each_command_sets_up_an_environment_of_its_own(name: str, last: str):
    command = commands((ROOT / "README.md").read_text(encoding="utf-8"))[name]
    create, install, use = command.split(" && ")
    environment = create.removeprefix("python3 -m venv ")
    assert install.startswith(f"{environment}/bin/pip install -c constraints.txt ")
    assert use == f"{environment}/bin/{last}"


def test_ci_runs_the_test_command_of_the_readme(checkout: Path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = commands(readme)["test"]
    # The same README with the command made harmless: what is echoed is what would have run.
    (checkout / "README.md").write_text(readme.replace(command, f"echo '{command}'"), "utf-8")
    done = _ci_run(checkout)
    assert (done.returncode, done.stdout) == (0, f"+ echo '{command}'\n{command}\n")


def test_ci_runs_where_the_readme_is(checkout: Path):
    (checkout / "README.md").write_text("<!-- run -->\n```sh\npwd\n```\n", "utf-8")
    done = _ci_run(checkout, "run")
    assert done.stdout == f"+ pwd\n{checkout.resolve()}\n"


def test_ci_ends_as_the_command_ends(checkout: Path):
    (checkout / "README.md").write_text("<!-- test -->\n```sh\nexit 7\n```\n", "utf-8")
    assert _ci_run(checkout).returncode == 7


def test_ci_refuses_a_readme_without_the_command(checkout: Path):
    (checkout / "README.md").write_text("<!-- run -->\n```sh\npwd\n```\n", "utf-8")
    done = _ci_run(checkout)
    assert (done.returncode, done.stderr) == (
        2,
        ".ci/run: README.md has no command under '<!-- test -->'; accepted: run, test\n",
    )
