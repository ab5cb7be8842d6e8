"""Who may import whom, checked on the source: no import has to run for a rule to be broken."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = frozenset({"ir", "reference", "oracle", "fuzz"})
JUDGED = frozenset({"ir", "torch", "triton", "vllm", "nixl", "nixl_cu12", "nixl_cu13"})
REFERENCE_MAY_IMPORT = frozenset(sys.stdlib_module_names) | {"numpy", "ml_dtypes", "reference"}
# Each costs more to import than `irverify --help` may take.
SLOW_TO_IMPORT = JUDGED | {"hypothesis", "sympy", "pytest"}


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    line: int
    deferred: bool
    """Inside a function, or for the type checker alone."""


def _is_for_types_only(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _imported(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, level=0):
            return [module or ""]
        case ast.ImportFrom(module=module, level=level):
            parents = package.split(".")
            base = parents[: len(parents) - level + 1]
            return [".".join([*base, module] if module else base)]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(module)), *_],
        ):
            return [module]
        case _:
            return []


def _walk(node: ast.AST, package: str, deferred: bool) -> Iterator[Import]:
    for name in _imported(node, package):
        yield Import(module=name, line=getattr(node, "lineno", 0), deferred=deferred)
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        # A default or a decorator runs with the module; only the body waits for a call.
        waits = is_function and child in _body(node)
        types_only = _is_for_types_only(node) and child in _body(node)
        yield from _walk(child, package, deferred or waits or types_only)


def _body(node: ast.AST) -> list[ast.AST]:
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else [body]


def imports_of(path: Path, root: Path) -> list[Import]:
    """Every import of a file, dynamic ones with a literal name included."""
    package = ".".join(path.relative_to(root).parent.parts)
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), package, deferred=False))


def complaint(path: Path, found: Import) -> str | None:
    """The layer rule that `found`, in the file `path` (relative to the root), breaks, or None."""
    layer, top = path.parts[0], found.module.partition(".")[0]
    if top in {"tests", "conftest"}:
        return "tests are imported by nothing"
    match layer:
        case "reference" if top not in REFERENCE_MAY_IMPORT:
            return "reference imports the standard library, numpy and ml_dtypes only"
        case "ir" if top in PACKAGES - {"ir"}:
            return "ir imports none of reference, oracle, fuzz"
        case "fuzz" if top in PACKAGES - {"fuzz", "reference"}:
            return "of the four packages fuzz imports reference only"
        case "fuzz" if top in JUDGED:
            return "a judged library is imported only in oracle/subjects"
        case "oracle" if top in JUDGED and path.parts[1] != "subjects":
            return "a judged library is imported only in oracle/subjects"
        case "oracle" if top in JUDGED and not found.deferred:
            return "oracle/subjects imports a judged library inside functions only"
        case _:
            return None


def broken_layers(root: Path) -> list[str]:
    """One line for each import under `root` that breaks a layer rule, in order of path and line."""
    complaints = []
    for package in sorted(PACKAGES):
        for path in sorted((root / package).rglob("*.py")):
            where = path.relative_to(root)
            for found in imports_of(path, root):
                why = complaint(where, found)
                if why is not None:
                    complaints.append(f"{where}:{found.line}: imports {found.module}: {why}")
    return complaints


def loaded_by(code: str) -> set[str]:
    """The top-level modules in `sys.modules` of a fresh interpreter after `code`."""
    report = "\nimport sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        pytest.fail(f"exit {done.returncode}: {done.stderr}")
    return set(done.stdout.splitlines()[-1].split())


HELP = """
import sys
from oracle.cli import main
sys.argv = ["irverify", "--help"]
try:
    main()
except SystemExit as stop:
    if stop.code not in (None, 0):
        raise
"""


def test_no_import_crosses_a_layer():
    assert broken_layers(ROOT) == []


def test_every_package_is_there_to_be_walked():
    assert {name for name in PACKAGES if (ROOT / name / "__init__.py").is_file()} == PACKAGES


def test_help_loads_nothing_slow():
    assert loaded_by(HELP) & SLOW_TO_IMPORT == set()


def test_what_a_run_imports_needs_no_judged_library_and_no_extra():
    # Which modules the parent of a run reaches may change; that none of them loads one may not.
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("reference", "fuzz", "oracle")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name not in {"__main__.py", "hypothesis.py", "profiles.py", "pytest_plugin.py"}
    ]
    code = f"import importlib\nfor name in {modules}: importlib.import_module(name)"
    assert loaded_by(code) & SLOW_TO_IMPORT == set()


def test_a_slow_import_is_seen():
    assert loaded_by("import hypothesis") & SLOW_TO_IMPORT == {"hypothesis"}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        (
            "reference/ops/a.py",
            "import math\nimport numpy as np\nimport torch\n",
            "reference/ops/a.py:3: imports torch: "
            "reference imports the standard library, numpy and ml_dtypes only",
        ),
        (
            "reference/a.py",
            "def f():\n    from ir.op import IrOp\n",
            "reference/a.py:2: imports ir.op: "
            "reference imports the standard library, numpy and ml_dtypes only",
        ),
        (
            "ir/a.py",
            "def f():\n    import oracle\n",
            "ir/a.py:2: imports oracle: ir imports none of reference, oracle, fuzz",
        ),
        (
            "ir/ops/a.py",
            "from ...reference import dtypes\n",
            "ir/ops/a.py:1: imports reference: ir imports none of reference, oracle, fuzz",
        ),
        (
            "ir/a.py",
            "import importlib\nx = importlib.import_module('fuzz.strategies')\n",
            "ir/a.py:2: imports fuzz.strategies: ir imports none of reference, oracle, fuzz",
        ),
        (
            "fuzz/a.py",
            "import oracle.engine\n",
            "fuzz/a.py:1: imports oracle.engine: of the four packages fuzz imports reference only",
        ),
        (
            "fuzz/a.py",
            "def f():\n    import torch\n",
            "fuzz/a.py:2: imports torch: a judged library is imported only in oracle/subjects",
        ),
        (
            "oracle/engine.py",
            "def f():\n    import torch\n",
            "oracle/engine.py:2: imports torch: "
            "a judged library is imported only in oracle/subjects",
        ),
        (
            "oracle/subjects/a.py",
            "import ir\n",
            "oracle/subjects/a.py:1: imports ir: "
            "oracle/subjects imports a judged library inside functions only",
        ),
        (
            "oracle/subjects/a.py",
            "def f(x=__import__('torch').float32): pass\n",
            "oracle/subjects/a.py:1: imports torch: "
            "oracle/subjects imports a judged library inside functions only",
        ),
        (
            "oracle/a.py",
            "from tests import x\n",
            "oracle/a.py:1: imports tests: tests are imported by nothing",
        ),
    ],
)
def test_a_broken_layer_is_reported(tmp_path: Path, file: str, source: str, expected: str):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert broken_layers(tmp_path) == [expected]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("oracle/subjects/a.py", "def f():\n    import torch\n    from ir import op\n"),
        ("oracle/subjects/a.py", "if TYPE_CHECKING:\n    import torch\n"),
        ("oracle/a.py", "import fuzz\nfrom reference.model import case\nfrom . import engine\n"),
        ("fuzz/a.py", "import hypothesis\nimport reference\nfrom . import strategies\n"),
        ("ir/a.py", "import torch\nfrom .op import IrOp\n"),
        ("reference/a.py", "import ml_dtypes\nfrom .model import case\n"),
    ],
)
def test_a_legal_import_is_not_reported(tmp_path: Path, file: str, source: str):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    assert broken_layers(tmp_path) == []
