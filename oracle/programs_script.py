"""A finding's script for programs: the program in torch, the passes, what a caller can tell.

It holds the program as a function. Expected is what the reference knows of it, and beside that
what the function does step by step. Exit status: 1 while the fault is there, 0 once it is gone, 2
where it cannot run.
"""

from __future__ import annotations

import re

from oracle.finding import Finding
from oracle.script import ScriptError, docstring, user_file
from reference.model import Fill, ProgramCase
from reference.programs import ExpectedProgram, ProgramExpectation

from .scripts import piece
from .scripts.fill import fill_functions
from .scripts.literal import LITERAL, storage_lines, wrapped
from .scripts.program_claims import constants, steps_claimed
from .scripts.program_drives import STANDING, drives, program_lines, stands_alone

SCRIPTED = ("ir", "torch")

_COMPARED = (
    "program-values", "program-routes", "program-inputs", "program-layout", "program-aliases",
    "program-completion", "program-steps",
)  # fmt: skip
_ALSO = ("program-clones", "program-graph", "program-cache")

# What a name in the script's text needs.
_IMPORTS = (
    (r"\bbase64\.", "import base64"),
    (r"\bfunctools\.", "import functools"),
    (r"\bhashlib\.", "import hashlib"),
    (r"\bimportlib\.", "import importlib.util"),
    (r"\bsys\.", "import sys"),
    (r"\btempfile\.", "import tempfile"),
    (r"\btypes\.", "import types"),
    (r"\bzlib\.", "import zlib"),
    (r"\b(Callable|Iterator|Mapping)\[", "from collections.abc import Callable, Iterator, Mapping"),
    (
        r"\b(AbstractContextManager|ExitStack|contextmanager|nullcontext)\b",
        "from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext",
    ),
    (r"@dataclass\b", "from dataclasses import dataclass, replace"),
    (r"\bPath\b", "from pathlib import Path"),
    (r"\b(Any|Optional)\b", "from typing import Any, Optional"),
)
_JUDGED = (
    (r"\bir\.ops\b|\btorch\.ops\.ir\.|\bir\.compilation\b", "import ir"),
    (r"\bir\.compilation\b", "import ir.compilation.registry"),
    (r"\bir\.ops\b|\btorch\.ops\.ir\.|\bir\.compilation\b", "import ir.ops"),
    (r"\btorch\b", "import torch"),
    (r"\bfx\.", "from torch import fx"),
    (r"\bFakeTensorMode\b", "from torch._subclasses.fake_tensor import FakeTensorMode"),
    (r"\bFakeTensorProp\b", "from torch.fx.passes.fake_tensor_prop import FakeTensorProp"),
    (r"\bTorchDispatchMode\b", "from torch.utils._python_dispatch import TorchDispatchMode"),
)


def render(finding: Finding, expected: ProgramExpectation) -> str:
    """The script of ``finding``. Raises ``ScriptError`` where it would show nothing."""
    case = finding.case
    if finding.subject not in SCRIPTED:
        accepted = ", ".join(SCRIPTED)
        raise ScriptError(f"no script for subject {finding.subject!r}; accepted: {accepted}")
    if not isinstance(case, ProgramCase) or not isinstance(expected, ExpectedProgram):
        raise ScriptError("a program that torch need not take; accepted: one that returns")
    pieces = [_inputs(case), program_lines(finding), *drives(finding)]
    pieces += [*_claim(finding), piece("main")]
    fills = _fills(case)
    if fills:
        pieces.insert(0, fills)
    if finding.source is not None:
        pieces.append(piece("load"))
    told = "\n".join(constants(finding, expected))
    head = [docstring(finding), _imports(finding, "\n".join([told, *pieces])), told]
    if finding.source is not None:
        head.append(user_file(finding))
        if stands_alone(finding):
            head.append(piece(STANDING))
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


def _claim(finding: Finding) -> list[str]:
    match finding.judge:
        case "program-clones":
            return [piece("program_random")]
        case "program-graph":
            return [piece("program_facts")]
        case "program-cache":
            return [piece("program_pairs" if finding.route == "fx-perturbed" else "program_cache")]
        case judge if judge in _COMPARED:
            if not steps_claimed(finding):
                return [piece("program_compare", outside="")]
            outside = "    yield from outside()\n"
            return [piece("program_steps"), piece("program_compare", outside=outside)]
    accepted = ", ".join((*_COMPARED, *_ALSO))
    raise ScriptError(f"no script for judge {finding.judge!r}; accepted: {accepted}")


def _imports(finding: Finding, text: str) -> str:
    if finding.source is not None:
        text += "\nimportlib. sys. tempfile. types. Path"
    lines = [line for pattern, line in _IMPORTS if re.search(pattern, f"{text}\nsys.")]
    names = [n for n in ("copysign", "inf", "isnan", "nan") if re.search(rf"\b{n}\b", text)]
    if names:
        lines.append(f"from math import {', '.join(names)}")
    alone = stands_alone(finding)
    judged = [
        line
        for pattern, line in _JUDGED
        if re.search(pattern, text) and not (alone and line.startswith("import ir"))
    ]
    plain = [line for line in lines if line.startswith("import")]
    lines = [*plain, *(line for line in lines if line not in plain)]
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
