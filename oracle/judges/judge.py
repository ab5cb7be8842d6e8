"""What a judge is: a pure function, its claim, and its kinds of disagreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oracle.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A judge: its name, what it claims, the codes it answers for, and its kinds in a sentence."""

    name: str
    claim: str
    codes: tuple[str, ...]
    kinds: Mapping[str, str]
    judge: Callable[[Any], Verdict]
    """Of the evidence that its kind of case gives."""
