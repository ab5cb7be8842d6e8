"""The script of a finding of a captured function: ``ir`` and torch, on the host.

The function is written out as calls, its owners are made as the case says, and each event stands
with what the reference expects of it: a refusal, results, and what memory then holds.
"""

from __future__ import annotations

import inspect

import numpy as np

from oracle.finding import Finding
from oracle.program_text import operand_text
from oracle.script import ScriptError, docstring
from reference.dtypes import FORMATS, decode, numpy_dtype
from reference.model import ProgramCase, Storage, View, is_self_overlapping
from reference.model.capture import (
    CaptureCase,
    CaptureEvent,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Seal,
    Write,
)
from reference.programs import ExpectedTensor
from reference.programs.stateful import STATEFUL
from reference.replays import CaptureExpectation, ExpectedCapture, ExpectedEvent, Refused

from . import piece
from .literal import storage_lines

SCRIPTED = ("ir",)
ROUTES = ("host",)

_HEAD = """
import sys

try:
    import torch

    import ir
    import ir.ops
    from ir.capture import CaptureError, CaptureRefused, ReplayError, StaleAddress
    from ir.capture import capture, capture_buckets
    from ir.state import SealedError, ir_state
except ImportError as error:
    sys.exit(print(f"cannot run: {error}") or 2)
"""


def render(finding: Finding, expected: CaptureExpectation) -> str:
    """The script of ``finding``. Raises ``ScriptError`` where it would show nothing."""
    case = finding.case
    if not isinstance(case, CaptureCase) or not isinstance(expected, ExpectedCapture):
        raise ScriptError("a function of which the reference knows nothing; accepted: another")
    if finding.route not in ROUTES:
        raise ScriptError(f"no script for route {finding.route!r}; accepted: host")
    if case.noise or (not expected.exact and expected.refused is None):
        raise ScriptError("results that no contract settles; accepted: exact ones")
    if finding.judge == "capture-ledger":
        raise ScriptError("no script for judge 'capture-ledger'; accepted: what a caller can tell")
    pieces = [_inputs(case.body), _steps(case)]
    if case.trap:
        pieces.append(_traps())
    pieces += [piece("capture_run"), piece("main")]
    head = [docstring(finding), _HEAD.strip(), _constants(case, expected, finding)]
    text = "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(pieces)
    return f'{text}\n\n\nif __name__ == "__main__":\n    sys.exit(main())\n'


def _inputs(body: ProgramCase) -> str:
    lines = ["def inputs():", '    """Fresh storages, and the inputs: views onto them."""']
    names = [f"s{n}" for n in range(len(body.storages))]
    lines += [
        storage_lines(name, storage, indent=4)
        for name, storage in zip(names, body.storages, strict=True)
    ]
    made = f"[{', '.join(names)}]"
    lines += [f"    return {made}, inputs_on({made})", "", "", "def inputs_on(storages):"]
    for number in dict.fromkeys(body.inputs):
        view = body.tensors[number]
        text = f"storages[{view.storage}].as_strided({view.shape}, {view.strides}, {view.offset})"
        lines.append(f"    t{number} = {text}")
    lines.append(f"    return [{', '.join(f't{number}' for number in body.inputs)}]")
    return "\n".join(lines)


def _steps(case: CaptureCase) -> str:
    """The function, with its trap where the case has it."""
    body = case.body
    names = [f"x{i}" for i in range(len(body.inputs))]
    given = ", ".join(["module", *names[: case.static]])
    lines = [f"def steps({given}):"]
    lines += [f"    {names[i]} = lookup.get(module, {i})" for i in range(case.static, len(names))]
    for i, step in enumerate(body.steps):
        if case.trap and i == case.at:
            lines.append("    left = module.trap()")
        made = [f"v{len(names) + k}" for k in range(step.results)]
        operands = [operand_text(o, names, torch="torch.") for o in step.operands]
        operands += [f"{key}={operand_text(o, names, torch='torch.')}" for key, o in step.keywords]
        call = "lookup.written" if step.target in STATEFUL else f"torch.ops.{step.target}"
        listed = step.target.split(".")[1] in ("split", "chunk", "unbind") and len(made) == 1
        left = f"{', '.join(made)}{',' if listed else ''} = " if made else ""
        lines.append(f"    {left}{call}({', '.join(operands)})")
        names += made
    if case.trap and case.at >= len(body.steps):
        lines.append("    left = module.trap()")
    outputs = [names[n] for n in body.outputs] + (["left"] if case.trap else [])
    lines.append(f"    return ({''.join(f'{name}, ' for name in outputs).strip()})")
    return "\n".join(lines)


def _traps() -> str:
    from oracle.subjects.capture.traps import traps

    return "from typing import Any\n\n\n" + inspect.getsource(traps).strip()


def _constants(case: CaptureCase, expected: ExpectedCapture, finding: Finding) -> str:
    owners = {i: case.owner(i) for i in range(case.static, len(case.body.inputs))}
    lines = [
        f"PLACE = {finding.place.name!r}",
        f"STATIC, OWNERS = {case.static}, {owners!r}",
        f"SIZES, PADDING, BATCHED = {case.sizes!r}, {case.padding!r}, {case.batched!r}",
        f"TRAP, REFUSED = {case.trap!r}, {_refused(expected.refused)}",
        "EVENTS = [  # what happens, how; the refusal, results and memory that are expected",
    ]
    for event, wanted in zip(case.events, expected.events, strict=False):
        lines.append(f"    {_event(case, event, wanted)},")
    return "\n".join([*lines, "]"])


def _refused(refused: Refused | None) -> str:
    if refused is None:
        return "None"
    return repr((refused.family, refused.reason, tuple(sorted(refused.owners))))


def _event(case: CaptureCase, event: CaptureEvent, wanted: ExpectedEvent) -> str:
    match event:
        case Replay():
            given = [g if isinstance(g, int) else _values(g) for g in event.given]
            what = f"'replay', ({given!r}, {event.how!r})"
        case Write():
            what = f"'write', ({event.position}, {_values(event.content)!r})"
        case Move():
            what = f"'move', ({event.position}, {event.how!r})"
        case Misfit():
            what = f"'misfit', ({event.how!r},)"
        case Poison():
            what = f"'poison', ({event.byte},)"
        case Churn():
            what = f"'churn', ({event.byte},)"
        case Seal():
            what = f"'seal', ({event.on},)"
        case Create():
            what = f"'create', ({event.position},)"
        case _:
            raise ScriptError(f"no script for event {event!r}; accepted: one without chance")
    outputs = "None"
    if isinstance(event, Replay):
        outputs = f"[{', '.join(_output(o) for o in wanted.outputs)}]"
    memory = [
        None if content is None else _numbers(content, storage.dtype)
        for content, storage in zip(wanted.memory, case.body.storages, strict=True)
    ]
    return f"({what}, {_refused(wanted.refused)}, {outputs}, {memory!r})"


def _output(wanted: ExpectedTensor) -> str:
    values = _numbers(wanted.content, wanted.dtype)
    # A copy has each element once.
    repeats = is_self_overlapping(View(0, wanted.shape, wanted.strides))
    strides = None if repeats else wanted.strides
    return repr((f"torch.{wanted.dtype}", wanted.shape, values, strides))


def _values(content: Storage) -> list[object]:
    return _numbers(content.array().tobytes(), content.dtype)


def _numbers(content: bytes, dtype: str) -> list[object]:
    array = np.frombuffer(content, numpy_dtype(dtype))
    if FORMATS[dtype].kind == "float":
        return decode(array, dtype).tolist()
    return array.tolist()
