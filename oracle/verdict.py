"""What a check yields: an outcome, a kind, and the place where the difference shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The four answers. Only the first two decide anything."""

    AGREES = "AGREES"
    DISAGREES = "DISAGREES"
    UNDECIDED = "UNDECIDED"
    NOT_APPLICABLE = "NOT_APPLICABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a difference shows first: output (or argument) name, index, both sides as text."""

    name: str
    index: tuple[int, ...] | None = None
    observed: str
    expected: str

    def __str__(self) -> str:
        index = "" if self.index is None else f"[{', '.join(map(str, self.index))}]"
        return f"{self.name}{index}: observed {self.observed}, expected {self.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One judge's answer. ``kind`` is a fixed kebab-case slug, empty where it agrees.

    ``differing`` counts the elements that differ, where elements are what was compared.
    """

    judge: str
    outcome: Outcome
    kind: str = ""
    place: Place | None = None
    differing: int = 0

    @property
    def output(self) -> str:
        return self.place.name if self.place else ""


def agrees(judge: str) -> Verdict:
    return Verdict(judge=judge, outcome=Outcome.AGREES)


def disagrees(judge: str, kind: str, place: Place, differing: int = 0) -> Verdict:
    return Verdict(
        judge=judge, outcome=Outcome.DISAGREES, kind=kind, place=place, differing=differing
    )


def undecided(judge: str, kind: str) -> Verdict:
    return Verdict(judge=judge, outcome=Outcome.UNDECIDED, kind=kind)


def not_applicable(judge: str, kind: str) -> Verdict:
    return Verdict(judge=judge, outcome=Outcome.NOT_APPLICABLE, kind=kind)


def fingerprint(
    *,
    prop: str,
    subject: str,
    op: str,
    provider: str,
    route: str,
    kind: str,
    output: str,
    contract: str | None = None,
) -> str:
    """12 hexadecimal digits that name a disagreement; ``contract`` where it is not the op's own.

    Never shapes, values, versions or addresses: what shrinks keeps it, what recurs shares it.
    """
    named = (contract,) if contract is not None else ()
    text = "\x1f".join((prop, subject, op, provider, route, kind, output, *named))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
