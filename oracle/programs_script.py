"""A finding's script for programs: the program in torch, the passes, what a caller can tell.

It holds the program as a function, traced into a graph whose values are fake. Expected is what
the function does step by step. Exit status: 1 while the fault is there, 0 once it is gone, 2
where it cannot run.
"""

from __future__ import annotations

import ast
import re

from oracle.finding import Finding
from oracle.program_text import operand_text
from oracle.script import ScriptError, docstring, user_file
from reference.model import Fill, ProgramCase
from reference.programs import ExpectedProgram, ProgramExpectation

from .scripts import piece
from .scripts.fill import fill_functions
from .scripts.literal import LITERAL, storage_lines, wrapped

SCRIPTED = ("ir",)
OWN = "passes"

_COMPARED = (
    "program-values", "program-routes", "program-inputs", "program-layout", "program-aliases",
    "program-completion", "program-steps",
)  # fmt: skip
_COMPILED = {"backend": "fx", "inductor": "inductor"}
_LOWERED = ("fx-cold", "fx-warm", "fx-uncached", "fx-inplace", "fx-blind")


def render(finding: Finding, expected: ProgramExpectation) -> str:
    """The script of ``finding``. Raises ``ScriptError`` where it would show nothing."""
    case = finding.case
    if not isinstance(case, ProgramCase) or not isinstance(expected, ExpectedProgram):
        raise ScriptError("a program that torch need not take; accepted: one that returns")
    if finding.route not in (*_LOWERED, *_COMPILED, "fx-pass"):
        raise ScriptError(f"no script for route {finding.route!r}; accepted: routes of passes")
    if finding.route == "fx-inplace":
        raise ScriptError("no script for providers of the oracle; accepted: those of ir")
    pieces = [_inputs(case), _program(case), *_passes(finding), _claim(finding), piece("main")]
    fills = _fills(case)
    if fills:
        pieces.insert(0, fills)
    if finding.source is not None:
        pieces.append(piece("load"))
    head = [docstring(finding), _imports(finding, pieces), "\n".join(_constants(finding, expected))]
    if finding.source is not None:
        head.append(user_file(finding))
        if _stands_alone(finding):
            head.append(piece("program_register"))
    text = "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(pieces)
    return f"{text}\n\n\n{_entry(finding)}\n"


def _inputs(case: ProgramCase) -> str:
    lines = ["def inputs():", '    """Fresh storages, and the arguments: views onto them."""']
    names = [f"s{n}" for n in range(len(case.storages))]
    for name, storage in zip(names, case.storages, strict=True):
        lines.append(storage_lines(name, storage, indent=4))
    for number in dict.fromkeys(case.inputs):
        view = case.tensors[number]
        made = f"s{view.storage}.as_strided({view.shape}, {view.strides}, {view.offset})"
        lines.append(f"    t{number} = {made}")
    given = ", ".join(f"t{number}" for number in case.inputs)
    lines.append(wrapped(f"return [{', '.join(names)}], [", [given], "]", indent=4))
    return "\n".join(lines)


def _program(case: ProgramCase) -> str:
    names = [f"x{i}" for i in range(len(case.inputs))]
    lines = [f"def program({', '.join(names)}):"]
    for step in case.steps:
        made = [f"v{len(names) + k}" for k in range(step.results)]
        given = [operand_text(o, names, torch="torch.") for o in step.operands]
        given += [f"{key}={operand_text(o, names, torch='torch.')}" for key, o in step.keywords]
        left = f"{', '.join(made)}{',' if _is_list(step.target) and len(made) == 1 else ''} = "
        call = f"torch.ops.{step.target}({', '.join(given)})"
        lines.append(f"    {left if made else ''}{call}")
        names += made
    lines.append(f"    return ({''.join(f'{names[n]}, ' for n in case.outputs).strip()})")
    return "\n".join(lines)


def _is_list(target: str) -> bool:
    return target.split(".")[1] in ("split", "chunk", "unbind")


def _passes(finding: Finding) -> list[str]:
    if finding.route in _COMPILED:
        options = f'{{"run": "{_COMPILED[finding.route]}", "cache": None}}'
        if finding.route == "inductor":
            options = options[:-1] + ', "emulate_precision_casts": True}'
        return [piece("program_compiled", options=options)]
    told = "x.clone()" if finding.route == "fx-blind" else "x"
    lines = [
        "def run_passes(module):",
        '    """What is judged, on a graph whose nodes have values."""',
    ]
    donated = finding.case.donated
    if finding.provider != OWN:
        registry = "PASSES" if _stands_alone(finding) else "ir.compilation.registry.PASSES"
        lines.append(f"    {registry}[PROVIDER](module.graph)")
    else:
        if finding.route in _LOWERED:
            lines += ["    cache = ir.compilation.ReplacementCache()"] * (
                finding.route == "fx-warm"
            )
            cache = "cache" if finding.route == "fx-warm" else "None"
            if finding.route == "fx-warm":
                lines.append("    ir.compilation.lower(graph(inputs()[1]).graph, cache=cache)")
            lines.append(f"    ir.compilation.lower(module.graph, cache={cache})")
        lines.append(f"    ir.compilation.eliminate_clones(module.graph, donated={donated})")
    return [piece("program_graph", told=told), "\n".join(lines)]


def _claim(finding: Finding) -> str:
    if finding.judge == "program-clones":
        return piece("program_random")
    if finding.judge == "program-graph":
        return piece("program_facts")
    if finding.judge in _COMPARED:
        return piece("program_compare")
    raise ScriptError(f"no script for judge {finding.judge!r}; accepted: {', '.join(_COMPARED)}")


def _constants(finding: Finding, expected: ExpectedProgram) -> list[str]:
    free = tuple(i for i, s in enumerate(expected.storages) if s.given or s.free is not None)
    lines = [f"PROVIDER, PLACE = {finding.provider!r}, {finding.place.name!r}"]
    lines.append(f"FREE = {free!r}  # storages whose content was given away")
    if finding.judge == "program-clones":
        lines.append(f"DONATED = {finding.case.donated!r}")
    if finding.judge == "program-graph":
        lines.append(f"LOWERED = {finding.route != 'fx-pass'}")
    if finding.source is not None:
        lines.append(f"FILE_NAME = {finding.source.name!r}")
    return lines


def _stands_alone(finding: Finding) -> bool:
    """Whether a user's file needs no more of ``ir`` than the place where a pass registers."""
    if finding.source is None or any(s.target.startswith("ir.") for s in finding.case.steps):
        return False
    taken: set[str] = set()
    for node in ast.walk(ast.parse(finding.source.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ir":
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and "ir.compilation" in ast.unparse(node.value):
            taken.add(node.attr)
    return taken <= {"register_pass", "compilation"}


def _imports(finding: Finding, pieces: list[str]) -> str:
    text = "\n".join(pieces)
    lines = ["import sys"]
    if finding.source is not None:
        lines = ["import importlib.util", "import sys", "import tempfile", "import types"]
        lines.append("from pathlib import Path")
    for module in ("base64", "zlib"):
        if f"{module}." in text:
            lines.insert(0, f"import {module}")
    for name in ("inf", "nan"):
        if re.search(rf"\b{name}\b", text):
            lines.append(f"from math import {name}")
    judged = ["import torch", "from torch import fx"]
    if not _stands_alone(finding):
        judged = ["import ir", "import ir.compilation.registry", "import ir.ops", *judged]
    judged.append("from torch._subclasses.fake_tensor import FakeTensorMode")
    judged.append("from torch.fx.passes.fake_tensor_prop import FakeTensorProp")
    attempt = "\n".join(f"    {line}" for line in judged)
    return (
        "\n".join(lines) + f"\n\ntry:\n{attempt}\nexcept ImportError as error:\n"
        '    sys.exit(print(f"cannot run: {error}") or 2)'
    )


def _fills(case: ProgramCase) -> str:
    return fill_functions(
        {
            (storage.content.pattern, storage.dtype)
            for storage in case.storages
            if isinstance(storage.content, Fill) and storage.numel > LITERAL
        }
    )


def _entry(finding: Finding) -> str:
    if finding.source is None:
        return 'if __name__ == "__main__":\n    sys.exit(main())'
    return (
        'if __name__ == "__main__":\n    with tempfile.TemporaryDirectory() as folder:\n'
        "        load(folder)\n        sys.exit(main())"
    )
