"""A finding's script: the subject and torch, nothing of ours, and the fault to be seen.

It is put together from ``oracle/scripts``: the inputs bit for bit, what the contract allows, the
call as the case makes it, the judge's claim said in torch, and a few lines for people. Exit
status: 1 while the fault is there, 0 once it is gone, 2 where it cannot run.
"""

from __future__ import annotations

import ast
import re
import textwrap

import numpy as np

from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.verdict import Place
from reference.declaration import Refusal
from reference.expectation import Expectation, Expected, memory_after
from reference.legal import DECLARATIONS
from reference.model import Fill, Storage, View

from .scripts import piece
from .scripts.call import (
    NO_FAULT,
    call_form,
    call_pieces,
    embedded,
    needs_child,
    overload,
    provider_pieces,
    runs_alone,
)
from .scripts.fill import fill_functions
from .scripts.literal import (
    LITERAL,
    is_whole,
    number,
    output_lines,
    storage_lines,
    wrapped,
)

SCRIPTED = "ir"
"""The subject whose findings have scripts: its own providers' and users'."""

SECONDS = 120
"""How long a script waits for a child that may hang: as long as a run gives a case by default."""

_LONGEST_TEXT = 300

# What a name in the script's text needs; the user's own file brings its own.
_IMPORTS = (
    (r"\bbase64\.", "import base64"),
    (r"\bcontextlib\.", "import contextlib"),
    (r"\bctypes\.", "import ctypes"),
    (r"\bimportlib\.", "import importlib.util"),
    (r"\bos\.", "import os"),
    (r"\bsignal\.", "import signal"),
    (r"\bsubprocess\.", "import subprocess"),
    (r"\bsys\.", "import sys"),
    (r"\btempfile\.", "import tempfile"),
    (r"\btypes\.", "import types"),
    (r"\bzlib\.", "import zlib"),
    (r"@cache\b", "from functools import cache"),
    (r"\bPath\b", "from pathlib import Path"),
)
_MATH = ("copysign", "inf", "isnan", "nan")


_NOT_ALONE = " Seen only after other calls in the same process: it need not show here."


class ScriptError(ValueError):
    """A finding that no script can be written for: says what was found and what is accepted."""


def render(finding: Finding, expected: Expectation | None) -> str:
    """The script of ``finding``; ``expected`` is the reference's answer to its case.

    Raises ``ScriptError`` for a subject, op or judge that scripts do not know, and where
    ``expected`` is not what the judge compares with.
    """
    _check(finding, expected)
    machinery = [*provider_pieces(finding), _main(finding)]
    pieces = [*_pieces(finding, expected), *machinery]
    constants = _constants(finding, expected)
    imports = _imports(finding, [constants, *pieces])
    settings = [each for each in (constants, user_file(finding)) if each]
    head = "\n\n".join([docstring(finding), imports, "\n".join(settings)])
    return "\n\n\n".join([head, *pieces]) + "\n"


def _check(finding: Finding, expected: Expectation | None) -> None:
    for what, given, accepted in (
        ("subject", finding.subject, (SCRIPTED,)),
        ("op", finding.op, tuple(DECLARATIONS)),
        ("judge", finding.judge, tuple(JUDGES)),
    ):
        if given not in accepted:
            raise ScriptError(f"no script for {what} {given!r}; accepted: {', '.join(accepted)}")
    wanted = {"values": Expected, "layout": Expected, "aliasing": Expected, "refusal": Refusal}
    kind = wanted.get(finding.judge)
    if kind is not None and not isinstance(expected, kind):
        raise ScriptError(
            f"judge {finding.judge!r} with {type(expected).__name__}; accepted: {kind.__name__}"
        )


def _pieces(finding: Finding, expected: Expectation | None) -> list[str]:
    pieces = [
        _inputs(finding),
        *call_pieces(finding, expected),
        _claim(finding, expected),
        _fills(finding),
    ]
    return [each for each in pieces if each]


def _constants(finding: Finding, expected: Expectation | None) -> str:
    place = finding.place
    lines = [f"OP, PROVIDER, PLACE = {finding.op!r}, {finding.provider!r}, {_where(place)!r}"]
    if finding.source is not None:
        replay = f"irverify replay {finding.fingerprint}"
        lines.append(f"FILE_NAME, REPLAY = {finding.source.name!r}, {replay!r}")
    if needs_child(finding):
        lines.append(f"SECONDS, NO_FAULT = {SECONDS}, {NO_FAULT}")
    lines += _told(finding, expected)
    match finding.judge:
        case "layout":
            lines.append(f"DEVICE = {finding.device!r}")
        case "mutation":
            views = finding.case.views()
            inplace = finding.case.overload == "maybe_inplace"
            activations = DECLARATIONS[finding.op].activations if inplace else ()
            memory = {n: (v.storage, v.shape, v.strides, v.offset) for n, v in views.items()}
            lines.append(f"VIEWS = {memory!r}  # storage, shape, strides, offset")
            lines.append(f"DONATED = {tuple(name for name in activations if name in views)!r}")
        case "refusal":
            lines.append(f"REFUSAL = {place.expected!r}")
        case "fake" if runs_alone(finding):
            lines.append(f"FAKE = {_fake_fact(finding, expected)}")
    return "\n".join(lines)


def user_file(finding: Finding) -> str:
    """The user's file as a constant; empty where the finding has none."""
    source = finding.source
    return "" if source is None else f"USER_FILE = {embedded(source.text)}"


def _where(place: Place) -> str:
    return place.name if place.index is None else f"{place.name}{list(place.index)}"


def docstring(finding: Finding) -> str:
    """What the script shows, where it comes from and how it ends, as its docstring."""
    kinds = JUDGES[finding.judge].kinds
    fault = kinds.get(finding.kind, finding.kind)
    place = " ".join(str(finding.place).split())
    if len(place) > _LONGEST_TEXT:
        place = f"{place[:_LONGEST_TEXT]}..."
    whose = f" of {finding.source.name}" if finding.source else ""
    against = f"contract {finding.contract}" if finding.contract else "what is legal"
    versions = ", ".join(f"{name} {version}" for name, version in finding.versions.items())
    first = f"{finding.op}, provider {finding.provider!r}{whose}: {fault}."
    paragraphs = [
        f"{first}\n{_filled(place)}",
        _filled(
            f"Judged by {finding.judge!r} ({finding.kind}) against {against}, route "
            f"{finding.route!r}{f', {versions}' if versions else ''}. Found by irverify, seed "
            f"{finding.seed}; again: irverify replay {finding.fingerprint}. Exits 1 while the "
            "fault is there, 0 once it is gone, 2 where it cannot run."
            f"{'' if finding.alone else _NOT_ALONE}"
        ),
    ]
    text = "\n\n".join(paragraphs)
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}\n"""'


def _filled(text: str) -> str:
    return textwrap.fill(text, width=98, break_long_words=False, break_on_hyphens=False)


def _imports(finding: Finding, pieces: list[str]) -> str:
    text = "\n".join(pieces)
    lines = [line for pattern, line in _IMPORTS if re.search(pattern, text)]
    maths = [name for name in _MATH if re.search(rf"\b{name}\b", text)]
    if maths:
        lines.append(f"from math import {', '.join(maths)}")
    lines.sort(key=lambda line: (line.startswith("from"), line))
    interpreted = finding.device == "cpu" and (
        "triton" in (finding.source.text if finding.source else finding.provider)
    )
    if interpreted:
        # Triton reads it when a kernel is decorated.
        lines.insert(0, "import os")
        lines.append('\nos.environ.setdefault("TRITON_INTERPRET", "1")')
    judged = ["import torch"]
    if not runs_alone(finding):
        judged.insert(0, "import ir")
        if "ir.kernels" in text:
            judged.insert(1, "import ir.kernels")
    if "FakeTensorMode" in text:
        judged.append("from torch._subclasses.fake_tensor import FakeTensorMode")
    if "reserve_workspace(" in text:
        judged.append("from ir.ops.paged_attention import reserve_workspace")
    if "has_compiler()" in text:
        judged.append("from ir.compiled import has_compiler")
    if "mark_unbacked" in text:
        judged.append("from torch._dynamo.decorators import mark_unbacked")
    attempt = "\n".join(f"    {line}" for line in judged)
    return (
        "\n".join(dict.fromkeys(lines)) + f"\n\ntry:\n{attempt}\nexcept ImportError as error:\n"
        '    sys.exit(print(f"cannot run: {error}") or 2)'
    )


def _fills(finding: Finding) -> str:
    return fill_functions(
        {
            (storage.content.pattern, storage.dtype)
            for storage in finding.case.storages
            if isinstance(storage.content, Fill) and storage.numel > LITERAL
        }
    )


def _inputs(finding: Finding) -> str:
    case = finding.case
    lines = [
        "def inputs():",
        '    """Fresh storages, and the arguments: views onto them, or plain."""',
    ]
    names = [f"s{n}" for n in range(len(case.storages))]
    for name, storage in zip(names, case.storages, strict=True):
        lines.append(storage_lines(name, storage, indent=4))
        if finding.device != "cpu":
            lines.append(f'    {name} = {name}.to("{finding.device}")')
    items: list[str] = []
    for argument in case.arguments:
        value = argument.value
        if isinstance(value, View):
            text = f"s{value.storage}.as_strided({value.shape}, {value.strides}, {value.offset})"
        else:
            text = number(value) if isinstance(value, float) else repr(value)
        items.append(f'"{argument.name}": {text}')
    lines.append(wrapped(f"return [{', '.join(names)}], {{", items, "}", indent=4, each=True))
    return "\n".join(lines)


def _told(finding: Finding, expected: Expectation | None) -> list[str]:
    """EXPECTED where outputs are compared or imitated, OUTPUTS where names are enough."""
    outputs = expected.outputs if isinstance(expected, Expected) else ()
    place = finding.place
    elements = finding.judge == "values"
    imitated = runs_alone(finding) and finding.route in ("opaque", "caller")
    lines: list[str] = []
    if outputs and (elements or imitated or finding.judge == "layout"):
        lines.append("EXPECTED = (  # name, dtype, shape, strides" + (", elements" * elements))
        for output in outputs:
            worst = None
            if place.name == output.name and place.index is not None and elements:
                worst = int(np.ravel_multi_index(place.index, output.shape))
            lines.append(output_lines(output, worst, elements=elements, indent=4))
        lines.append(")")
    if finding.judge in ("aliasing", "uninitialized", "fake"):
        lines.append(f"OUTPUTS = {tuple(output.name for output in outputs)!r}")
    if finding.judge == "aliasing":
        allowed = {o.name: o.may_alias for o in outputs if o.may_alias}
        lines.append(f"MAY_ALIAS = {allowed!r}")
    return lines


def _claim(finding: Finding, expected: Expectation | None) -> str:
    """``faults()``: what the judge claims, said in torch."""
    match finding.judge:
        case "values":
            outputs = expected.outputs if isinstance(expected, Expected) else ()
            some = "wanted.items() if isinstance(wanted, dict) else enumerate(wanted)"
            whole = all(is_whole(output) for output in outputs)
            return piece("values", enumerated="enumerate(wanted)" if whole else some)
        case "fake" if runs_alone(finding):
            return piece("fake_stated")
        case "fake":
            text = piece("fake_ir", overload=overload(finding), call=call_form(finding.case))
            if DECLARATIONS[finding.op].states:
                returned = "result if isinstance(result, (tuple, list)) else (result,)"
                text = text.replace(returned, f"(*({returned}), *left(arguments))", 1)
            return text
        case "mutation" if DECLARATIONS[finding.op].effect is not None:
            return "\n\n\n".join([_wanted(finding), _against(piece("mutation"), "wanted()")])
        case judge:
            return piece(judge)


def _wanted(finding: Finding) -> str:
    """``wanted()``: the storages as the call is meant to leave them."""
    case = finding.case
    after = memory_after(DECLARATIONS[case.op], case)
    lines = ["def wanted():", '    """The storages after the call."""']
    names = [f"s{n}" for n in range(len(case.storages))]
    for name, storage, array in zip(names, case.storages, after, strict=True):
        meant = Storage(storage.dtype, storage.numel, array.tobytes())
        lines.append(storage_lines(name, meant, indent=4))
        if finding.device != "cpu":
            lines.append(f'    {name} = {name}.to("{finding.device}")')
    lines.append(f"    return [{', '.join(names)}]")
    return "\n".join(lines)


def _against(text: str, wanted: str) -> str:
    return text.replace("[storage.clone() for storage in storages]", wanted, 1)


def _fake_fact(finding: Finding, expected: Expectation | None) -> str:
    """(output, its number, what, what the fake run says), read from the finding's place."""
    place = finding.place
    what = finding.kind.removeprefix("fake-")
    said = place.observed
    if what == "arity":
        return repr((place.name, 0, what, int(said.split()[0])))
    said = said.removeprefix("fake ").removeprefix("strides ")
    names = [o.name for o in expected.outputs] if isinstance(expected, Expected) else []
    number = (
        names.index(place.name) if place.name in names else int(place.name.removeprefix("output "))
    )
    if what == "dtype":
        return f"({place.name!r}, {number}, 'dtype', torch.{said})"
    return repr((place.name, number, what, ast.literal_eval(said)))


def _main(finding: Finding) -> str:
    pieces, entry = [piece("main")], []
    status = "main()"
    if needs_child(finding):
        pieces.append(piece("child"))
        entry = ['if sys.argv[-1] != "--child":', "    sys.exit(guarded())"]
        status = "NO_FAULT + main()"
    elif finding.judge == "uninitialized":
        entry = piece("without_tcache").splitlines()
    if finding.source is None:
        entry.append(f"sys.exit({status})")
    else:
        entry.append("with tempfile.TemporaryDirectory() as folder:")
        entry += ["    load(folder)", f"    sys.exit({status})"]
    started = "\n".join(['if __name__ == "__main__":', *(f"    {line}" for line in entry)])
    return "\n\n\n".join([*pieces, started])
