"""A finding's script for programs."""

from __future__ import annotations

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.programs import ProgramExpectation

SCRIPTED = ("ir",)


def render(finding: Finding, expected: ProgramExpectation) -> str:
    raise ScriptError("no script yet; accepted: nothing")
