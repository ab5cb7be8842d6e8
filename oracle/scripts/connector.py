"""The script of a connector finding: ``ir``, torch and safetensors, and the engine's own driver.

What drives the worker stands in it as it is, with the case, the model's weights, and what must
be seen of each step.
"""

from __future__ import annotations

import base64
import re
import zlib
from importlib import resources
from typing import Any

from numpy.typing import NDArray

from oracle.finding import Finding
from oracle.script import ScriptError, docstring
from reference.connector import hooks_of_a_pass
from reference.model import ConnectorCase
from reference.serving import (
    HEAD_SIZE,
    MODULUS,
    POLICIES,
    VOCABULARY,
    ExpectedRun,
    ExpectedStep,
    bytes_of,
    initial,
    weights,
)

from . import piece

SCRIPTED = ("ir",)
ROUTES = ("run",)
_PARTS = (
    ("reference.model", "connector"),
    ("oracle.observation", "connector"),
    ("oracle.subjects.connector", "model"),
    ("oracle.subjects.connector", "watched"),
    ("oracle.subjects.connector", "disk"),
    ("oracle.subjects.connector", "worker"),
)
_OWN = r"^ *from (__future__|reference\S*|oracle\S*|\.\w*) import (\([^)]*\)|.*)\n"


def render(finding: Finding, expected: ExpectedRun) -> str:
    """The script. Raises ``ScriptError`` for a route on which the model is compiled."""
    if finding.route not in ROUTES:
        raise ScriptError(f"no script for route {finding.route!r}; accepted: {', '.join(ROUTES)}")
    case: ConnectorCase = finding.case
    parts = [docstring(finding), piece("connector_head"), *(_part(*part) for part in _PARTS)]
    parts += [_model(case), f"CASE = {case!r}", _told(case, expected), piece("connector_run")]
    return "\n\n\n".join(parts) + "\n"


def _part(package: str, name: str) -> str:
    """A module without its docstring and without what it takes from others of ours."""
    text = resources.files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
    text = re.sub(r'\A""".*?"""\n', "", text, flags=re.DOTALL)
    return re.sub(_OWN, "", text, flags=re.MULTILINE).strip("\n")


def _model(case: ConnectorCase) -> str:
    """What the driver else asks the reference for."""
    w = weights(case.size.layers, case.size.heads)
    names = ("embedding", "qkv", "turn", "out", "gate", "down")
    lines = [f"HEAD_SIZE, MODULUS, VOCABULARY = {HEAD_SIZE}, {MODULUS}, {VOCABULARY}"]
    lines += [f"POLICIES = {dict(POLICIES)!r}", "WEIGHTS = types.SimpleNamespace("]
    lines += [f"    {name}={getattr(w, name).tolist()!r}," for name in names]
    return "\n".join([*lines, ")", f"INITIAL = {_packed(initial(case.size))}"])


def _packed(array: NDArray[Any]) -> str:
    """An array as its dtype, its shape, and base64 of its zlib-compressed bytes."""
    text = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")
    return repr((str(array.dtype), array.shape, text))


def _told(case: ConnectorCase, expected: ExpectedRun) -> str:
    """What must be seen, as data."""
    lines = [f"REFUSED, MODE = {expected.refused}, {expected.mode!r}", "EXPECTED = ["]
    for step in expected.steps:
        given = ", ".join(f"{name}={text}" for name, text in _step(case, expected, step).items())
        lines.append(f"    dict({given}),")
    lines += ["]", "STORE = {"]
    for entry, values in expected.store.items():
        text = "None" if values is None else _packed(bytes_of(values, case.dtype))
        lines.append(f"    {entry!r}: {text},")
    return "\n".join([*lines, "}"])


def _step(case: ConnectorCase, expected: ExpectedRun, step: ExpectedStep) -> dict[str, str]:
    hooks = hooks_of_a_pass(case.size.layers)
    captured = expected.captured and step.kind == "warm-up"
    died = step.moved is not None and step.moved.died
    ran = list(hooks)
    inner = () if expected.captured and not captured else hooks
    last = () if died else ("get_finished",)
    whole = [
        *((name, 0) for name in ("bind_connector_metadata", "start_load_kv")),
        *inner,
        *((name, 0) for name in ("wait_for_save", *last, "clear_connector_metadata")),
    ]
    if step.kind == "by hand":
        whole = [whole[0], *step.reached, whole[-1]]
        ran = [call for call in step.reached if call in hooks]
    entered = case.connector != "none" and step.kind != "damage"
    moved = step.moved
    given: dict[str, object] = {
        "kind": step.kind,
        "calls": [whole] if entered else [],
        "captured": captured,
        "device": ran if entered and not captured else None,
        "known": step.known.astype(int).tolist(),
        "matched": dict(step.matched) if case.connector != "none" else {},
        "died": died,
        "admitted": step.admitted,
        "ended": step.whole,
        "finished": sorted(step.finished),
        "rows": dict(step.rows),
        "failed": sorted(moved.failed) if moved is not None else [],
        "received": sorted(moved.received) if moved is not None else [],
        "sent": sorted(moved.sent) if moved is not None else [],
        "logits": {n: None if v is None else v.tolist() for n, v in step.logits.items()},
    }
    texts = {name: repr(value) for name, value in given.items()}
    return texts | {"caches": _packed(bytes_of(step.caches, case.dtype))}
