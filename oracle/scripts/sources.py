"""Definitions of modules that drive programs, as they stand: a script takes them with it."""

from __future__ import annotations

import ast
from importlib import resources


def definitions(module: str, *names: str) -> list[str]:
    """The texts of ``names`` in a module of ``oracle.subjects.programs``, in its order.

    Without ``names``, of all that it defines. Raises ``KeyError`` for a name that it has not.
    """
    folder = resources.files("oracle.subjects.programs")
    text = folder.joinpath(f"{module}.py").read_text(encoding="utf-8")
    lines = text.splitlines()
    found: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name, first = node.name, min([node, *node.decorator_list], key=lambda n: n.lineno)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, first = node.targets[0].id, node
        else:
            continue
        found[name] = "\n".join(lines[first.lineno - 1 : node.end_lineno])
    if missing := [name for name in names if name not in found]:
        raise KeyError(f"{missing[0]!r} in {module}; accepted: {', '.join(found)}")
    return [part for name, part in found.items() if not names or name in names]
