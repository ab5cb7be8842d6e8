"""What the packages import is what an installation brings: the tests' environment has more."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ir", "reference", "oracle", "fuzz")
# Imported by nothing that a plain installation runs; test_layers.py sees it in an interpreter.
ON_DEMAND = (
    "ir/kernels/",
    "fuzz/profiles.py",
    "fuzz/strategies/hypothesis.py",
    "oracle/pytest_plugin.py",
)
# Judged where it is installed, never installed by us: it pins a torch of its own.
BROUGHT_BY_THE_USER = frozenset({"vllm"})
# Where a distribution is imported under another name than its own.
IMPORTED_AS = {"z3_solver": "z3"}


def _imported(node: ast.AST, deferred: bool) -> Iterator[tuple[str, int, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno, deferred) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield (node.module or "", node.lineno, deferred)
    deferred = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child, deferred)


def import_names(requirements: list[str]) -> set[str]:
    return {IMPORTED_AS.get(name, name) for name in distributions(requirements)}


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", text)[0].lower().replace("-", "_") for text in requirements}


def undeclared(root: Path, project: dict) -> list[str]:
    """Imports that a plain installation lacks; an extra may be imported inside functions or `try`,
    or in a module that is itself imported on demand."""
    core = import_names(project["dependencies"])
    extras = {name for needs in project["optional-dependencies"].values() for name in needs}
    on_demand = core | import_names(sorted(extras)) | BROUGHT_BY_THE_USER
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            where = path.relative_to(root)
            for name, line, deferred in _imported(ast.parse(path.read_text("utf-8")), False):
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top in PACKAGES:
                    continue
                waits = deferred or str(where).startswith(ON_DEMAND)
                allowed = on_demand if waits else core
                if top not in allowed:
                    found.append(f"{where}:{line}: {top} is not in pyproject.toml's dependencies")
    return found


def unpinned(project: dict, constraints: str) -> list[str]:
    """The distributions that pyproject.toml names and constraints.txt leaves open."""
    pinned = {
        line.partition("==")[0].lower().replace("-", "_")
        for line in constraints.splitlines()
        if "==" in line and not line.startswith("#")
    }
    named = [
        *project["dependencies"],
        *(text for needs in project["optional-dependencies"].values() for text in needs),
    ]
    return sorted(distributions(named) - pinned - {project["name"]})


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_import_is_a_declared_dependency(project: dict):
    assert undeclared(ROOT, project) == []


def test_every_dependency_is_pinned_in_the_constraints(project: dict):
    assert unpinned(project, (ROOT / "constraints.txt").read_text("utf-8")) == []


TOY = {
    "name": "toy",
    "dependencies": ["numpy>=2", "ml_dtypes"],
    "optional-dependencies": {"x": ["nixl-cu12[a]>=1; sys_platform == 'linux'"]},
}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("fuzz/a.py", "import hypothesis.strategies as st\n", ["hypothesis"]),
        ("oracle/a.py", "def f():\n    import yaml\n", ["yaml"]),
        ("oracle/a.py", "import nixl_cu12._api\n", ["nixl_cu12"]),
        ("oracle/a.py", "def f():\n    import nixl_cu12._api\n    import vllm\n", []),
        ("ir/kernels/a.py", "import nixl_cu12\n", []),
        ("ir/a.py", "import os\nimport numpy as np\nfrom . import op\nfrom ir import op\n", []),
    ],
)
def test_an_undeclared_import_is_reported(
    tmp_path: Path, file: str, source: str, expected: list[str]
):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    found = [line.split(": ")[1].split(" ")[0] for line in undeclared(tmp_path, TOY)]
    assert found == expected


def test_an_open_version_is_reported():
    assert unpinned(TOY, "# numpy==1\nnumpy==2.4\nnixl-cu12==1.5\n") == ["ml_dtypes"]
