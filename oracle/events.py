"""The stream that the engine yields. Text, NDJSON and the exit code are read from it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oracle.checking import CheckResult, UlpHistogram
from oracle.finding import Finding
from oracle.subject import Provider


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run begins: its seed and size, who is judged, and which providers cannot run here."""

    seed: int
    budget: str | int
    workers: int
    planned_cases: int
    versions: Mapping[str, str]
    unavailable: tuple[Provider, ...]
    interpreted: tuple[str, ...] = ()
    """Providers that run in Triton's interpreter: no GPU code is compiled for them."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One verdict."""

    result: CheckResult


@dataclass(frozen=True, slots=True)
class CaseDone:
    """All checks of one case are in; ``done`` cases of the plan so far."""

    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinking:
    """A disagreement is being shrunk: ``tries`` so far, to ``size`` of its kind's unit."""

    fingerprint: str
    tries: int
    size: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A disagreement, shrunk and on disk. ``known`` is the reason where it is a known one."""

    finding: Finding
    path: str
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Distinct cases; checks and how they came out."""

    cases: int = 0
    checks: int = 0
    agrees: int = 0
    disagrees: int = 0
    undecided: int = 0
    not_applicable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the final table."""

    subject: str
    prop: str
    counts: Counts
    undecided: Mapping[str, int]
    """Why, most frequent first; so too the next."""
    not_applicable: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The run is over. ``nothing_decided`` names the routes and judges that decided nothing."""

    cases: int
    """Cases done, as many as were planned; two streams may draw one, ``counts`` has it once."""
    counts: Counts
    rows: tuple[Row, ...]
    nothing_decided: tuple[str, ...]
    thin: tuple[str, ...]
    unexcused: int
    """Findings that no known disagreement excuses, those in ``unshrunk`` included."""
    unreproduced: tuple[str, ...]
    unshrunk: tuple[str, ...]
    """Disagreements beyond those that a run shrinks and writes."""
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    """What the properties say of what was measured over the run."""
    unmet: tuple[str, ...]
    """Claims about the whole run that do not hold."""
    histogram: UlpHistogram
    seconds: float
    exit_code: int


Event = Started | Checked | CaseDone | Shrinking | Found | Finished
