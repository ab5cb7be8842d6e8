"""Rules of the source that ruff does not know, or that must hold where ruff is not run."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ir", "reference", "oracle", "fuzz")
LONGEST_MODULE = 400


def _modules(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def _lines_with(
    root: Path,
    is_wrong: Callable[[ast.AST], bool],
    why: str,
    modules: Callable[[Path], Iterator[Path]] = _modules,
) -> list[str]:
    return [
        f"{path.relative_to(root)}:{node.lineno}: {why}"
        for path in modules(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.stmt | ast.expr) and is_wrong(node)
    ]


def asserts(root: Path) -> list[str]:
    """`python -O` removes them, and with them the validation that they stand for."""
    return _lines_with(
        root, lambda node: isinstance(node, ast.Assert), "assert is gone under -O: raise instead"
    )


def lenient_zips(root: Path) -> list[str]:
    """A judge that zips two lists of outputs leniently never sees the output that is missing."""

    def is_lenient(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "zip"
            and all(keyword.arg != "strict" for keyword in node.keywords)
        )

    return _lines_with(root, is_lenient, "zip without strict=")


def long_modules(root: Path) -> list[str]:
    found = []
    for path in _modules(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_MODULE:
            found.append(f"{path.relative_to(root)}: {lines} lines, at most {LONGEST_MODULE}")
    return found


def vague_names(root: Path) -> list[str]:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    return [
        f"{path.relative_to(root)}: the name says nothing of its job"
        for path in _modules(root)
        if vague & {path.stem, *path.relative_to(root).parent.parts}
    ]


def packages_under_tests(root: Path) -> list[str]:
    """With importlib mode a package under tests/ would shadow the one that it mirrors."""
    return [str(path.relative_to(root)) for path in sorted((root / "tests").rglob("__init__.py"))]


def repeated_test_files(root: Path) -> list[str]:
    """importlib mode tells modules of one name apart; people and snapshot files do not."""
    seen: dict[str, Path] = {}
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        first = seen.setdefault(path.name, path)
        if first is not path:
            found.append(f"{path.relative_to(root)}: named like {first.relative_to(root)}")
    return found


def fixed_examples(root: Path) -> list[str]:
    """A number in a test's settings outranks the profile of a fuzz job, which asks for more."""

    def is_fixed(node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and any(
            keyword.arg == "max_examples" and isinstance(keyword.value, ast.Constant)
            for keyword in node.keywords
        )

    return _lines_with(
        root,
        is_fixed,
        "max_examples is a number: say examples(...) of fuzz.profiles",
        lambda root: iter(sorted((root / "tests").rglob("*.py"))),
    )


RULES = (
    asserts,
    fixed_examples,
    lenient_zips,
    long_modules,
    vague_names,
    packages_under_tests,
    repeated_test_files,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule):
    assert rule(ROOT) == []


@pytest.mark.parametrize(
    ("rule", "files", "expected"),
    [
        (
            asserts,
            {"oracle/a.py": "x = 1\nassert x\n", "tests/test_a.py": "assert True\n"},
            ["oracle/a.py:2: assert is gone under -O: raise instead"],
        ),
        (
            lenient_zips,
            {"reference/a.py": "zip([], [], strict=True)\nlist(zip([], []))\n"},
            ["reference/a.py:2: zip without strict="],
        ),
        (
            long_modules,
            {"ir/a.py": "\n" * 401, "ir/b.py": "\n" * 400},
            ["ir/a.py: 401 lines, at most 400"],
        ),
        (
            fixed_examples,
            {"tests/test_a.py": "settings(max_examples=examples(9))\nsettings(max_examples=9)\n"},
            ["tests/test_a.py:2: max_examples is a number: say examples(...) of fuzz.profiles"],
        ),
        (
            vague_names,
            {"fuzz/utils.py": "", "oracle/common/a.py": "", "ir/op.py": ""},
            [
                "oracle/common/a.py: the name says nothing of its job",
                "fuzz/utils.py: the name says nothing of its job",
            ],
        ),
        (
            packages_under_tests,
            {"tests/ir/__init__.py": "", "ir/__init__.py": ""},
            ["tests/ir/__init__.py"],
        ),
        (
            repeated_test_files,
            {"tests/ir/test_op.py": "", "tests/oracle/test_op.py": "", "tests/test_b.py": ""},
            ["tests/oracle/test_op.py: named like tests/ir/test_op.py"],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_breach_is_reported(tmp_path: Path, rule, files: dict[str, str], expected: list[str]):
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    assert rule(tmp_path) == expected
