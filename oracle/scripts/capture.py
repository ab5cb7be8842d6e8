"""The script of a finding of a captured function."""

from __future__ import annotations

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.replays import CaptureExpectation

SCRIPTED: tuple[str, ...] = ()


def render(finding: Finding, _expected: CaptureExpectation) -> str:
    """Raises ``ScriptError``."""
    raise ScriptError(f"no script for {finding.op}; accepted: other ops")
