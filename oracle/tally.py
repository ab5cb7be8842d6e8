"""What a run adds up to: counts, reasons, and what was decided where."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from oracle.checking import CheckResult
from oracle.events import Counts, Row
from oracle.verdict import Outcome

VALUE_JUDGE = "values"
Cell = tuple[str, str, str, str, str]
"""subject, property, op, provider, route."""


@dataclass(slots=True)
class _Bucket:
    cases: set[str] = field(default_factory=set)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: dict[Outcome, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Why checks decided nothing, by the answer that says so."""
    seconds: float = 0.0

    def counts(self) -> Counts:
        return Counts(
            cases=len(self.cases),
            checks=sum(self.outcomes.values()),
            agrees=self.outcomes[Outcome.AGREES],
            disagrees=self.outcomes[Outcome.DISAGREES],
            undecided=self.outcomes[Outcome.UNDECIDED],
            not_applicable=self.outcomes[Outcome.NOT_APPLICABLE],
        )


@dataclass(slots=True)
class Tally:
    """Adds check results up. Distinct cases are counted, checks beside them."""

    buckets: dict[tuple[str, str], _Bucket] = field(default_factory=lambda: defaultdict(_Bucket))
    decided: Counter[Cell] = field(default_factory=Counter)
    judged: set[tuple[Cell, str]] = field(default_factory=set)
    """Where which judge decided anything."""
    undecided: dict[tuple[Cell, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """Why which judge left checks UNDECIDED where."""
    measures: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """Per (subject, property)."""
    telling: dict[tuple[str, str, str, str, str], set[str]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Cases with a telling value verdict per (subject, op, provider, dtype, route)."""

    def add(self, result: CheckResult) -> None:
        bucket = self.buckets[result.subject, result.prop]
        bucket.cases.add(result.case)
        outcome = result.verdict.outcome
        bucket.outcomes[outcome] += 1
        cell = (result.subject, result.prop, result.op, result.provider, result.route)
        if outcome in (Outcome.UNDECIDED, Outcome.NOT_APPLICABLE):
            bucket.reasons[outcome][result.verdict.kind] += 1
        if outcome is Outcome.UNDECIDED and result.asked:
            self.undecided[cell, result.verdict.judge][result.verdict.kind] += 1
        if outcome in (Outcome.AGREES, Outcome.DISAGREES):
            self.decided[cell] += 1
            self.judged.add((cell, result.verdict.judge))
            if result.telling and result.verdict.judge == VALUE_JUDGE:
                key = (result.subject, result.op, result.provider, result.dtype, result.route)
                self.telling[key].add(result.case)

    def silent(self) -> Iterator[tuple[Cell, str, Mapping[str, int]]]:
        """Each judge that decided nothing where others did, and why: most frequent reason first.

        One that was NOT_APPLICABLE throughout had nothing to decide and is not among them.
        """
        for (cell, judge), reasons in sorted(self.undecided.items()):
            if self.decided[cell] and (cell, judge) not in self.judged:
                yield cell, judge, dict(reasons.most_common())

    def measured(self, subject: str, prop: str, measures: Mapping[str, int]) -> None:
        """Add up what a case's kind counted."""
        self.measures[subject, prop].update(measures)

    def spent(self, subject: str, prop: str, seconds: float) -> None:
        """Worker time that went into one row."""
        self.buckets[subject, prop].seconds += seconds

    def rows(self) -> tuple[Row, ...]:
        return tuple(
            Row(
                subject=subject,
                prop=prop,
                counts=bucket.counts(),
                undecided=dict(bucket.reasons[Outcome.UNDECIDED].most_common()),
                not_applicable=dict(bucket.reasons[Outcome.NOT_APPLICABLE].most_common()),
                seconds=bucket.seconds,
            )
            for (subject, prop), bucket in sorted(self.buckets.items())
        )

    def total(self) -> Counts:
        every = _Bucket()
        for bucket in self.buckets.values():
            every.cases |= bucket.cases
            every.outcomes.update(bucket.outcomes)
        return every.counts()
