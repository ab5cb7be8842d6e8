"""The script of a state finding: ``ir`` alone, and the driver of scripts of actions as it is."""

from __future__ import annotations

import re
import textwrap
from importlib import resources
from typing import Any

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.model import StateCase
from reference.state import RULES, ExpectedAnswer, ExpectedState

from . import piece

_PARTS = ("contexts", "ops", "driver")
_HEAD = """
from __future__ import annotations

import sys
import warnings

try:
    import ir
except ImportError as error:
    sys.exit(print(f"cannot run: {error}") or 2)
"""


def render(finding: Finding, expected: ExpectedState) -> str:
    """The script. Raises ``ScriptError`` for a script of actions that means nothing."""
    case: StateCase = finding.case
    if expected.illegal:
        raise ScriptError(
            f"no script for actions that are {expected.illegal}; accepted: legal ones"
        )
    texts = [_part(name) for name in _PARTS]
    parts = [
        _docstring(finding),
        _HEAD,
        *texts,
        "",
        "",
        _constants(finding, case, expected),
        "",
        "",
    ]
    return "\n".join([*parts, piece("state_run"), ""])


def _part(name: str) -> str:
    """A module of the driver without its docstring and what it takes from the other one."""
    path = resources.files("oracle.subjects.state").joinpath(f"{name}.py")
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'\A""".*?"""\n', "", text, flags=re.DOTALL)
    taken = r"^from (__future__|\.\w*) import (\([^)]*\)|.*)\n"
    return re.sub(taken, "", text, flags=re.MULTILINE)


def _docstring(finding: Finding) -> str:
    place = " ".join(str(finding.place).split())
    versions = ", ".join(f"{name} {version}" for name, version in finding.versions.items())
    text = (
        f"Judged by {finding.judge!r} ({finding.kind}), route {finding.route!r}, {versions}. "
        f"Found by irverify, seed {finding.seed}; again: irverify replay {finding.fingerprint}. "
        "Exits 1 while the fault is there, 0 once it is gone, 2 where it cannot run."
    )
    lines = [f"{finding.op}, provider {finding.provider!r}: {place}", "", text]
    filled = "\n".join(
        textwrap.fill(line, width=98, break_long_words=False) if line else "" for line in lines
    )
    escaped = filled.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}\n"""'


def _constants(finding: Finding, case: StateCase, expected: ExpectedState) -> str:
    models = [
        [{"name": layer.name, "keys": layer.keys, "use": layer.use} for layer in model]
        for model in case.models
    ]
    lines = [f"ROUTE = {finding.route!r}", f"MODELS = {models!r}", "ACTIONS = ["]
    lines += [f"    {dict(verb=action.verb, **action.given())!r}," for action in case.actions]
    lines += ["]", "EXPECTED = ["]
    lines += [f"    {_answer(each)!r}," for each in expected.answers]
    return "\n".join([*lines, "]"])


def _answer(wanted: ExpectedAnswer) -> dict[str, Any]:
    name, *bases = RULES[wanted.rule] if wanted.rule else ("",)
    return {
        "raises": (name, bases, wanted.shown) if name else None,
        "objects": list(wanted.objects),
        "values": list(wanted.values),
        "text": wanted.text,
        "calls": [[call.name, dict(call.keys), call.identity] for call in wanted.calls],
        "changed": {number: list(content) for number, content in wanted.changed.items()},
        "moved": list(wanted.moved),
    }
