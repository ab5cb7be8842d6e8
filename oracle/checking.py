"""One case through one subject: observe on each route, expect once, let the judges speak."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracle.errors import OwnFault
from oracle.judges import judge_named
from oracle.kinds import Terms, kind_of
from oracle.observation import Declined, Died, Observation, Returned, Unavailable
from oracle.plan import Property
from oracle.subject import Subject
from oracle.verdict import Verdict, fingerprint, not_applicable, undecided
from reference.dtypes import decode, ordinal
from reference.model import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check's verdict and what it was about. ``telling``: agreeing here says something.

    ``asked``: the judge was; none is where the subject could not be driven, nor where the
    reference cannot tell.
    """

    prop: str
    subject: str
    op: str
    dtype: str
    provider: str
    route: str
    contract: str | None
    case: str
    verdict: Verdict
    telling: bool
    asked: bool = True

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            prop=self.prop,
            subject=self.subject,
            op=self.op,
            provider=self.provider,
            route=self.route,
            kind=self.verdict.kind,
            output=self.verdict.output,
            contract=self.contract,
        )


@dataclass(slots=True)
class UlpHistogram:
    """Distances in ulps between relaxed routes and the eager one, per (op, dtype)."""

    EDGES = (0, 1, 2, 4, 8)
    counts: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    signed: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, op: str, eager: Returned, other: Returned) -> None:
        for one, two in zip(eager.outputs, other.outputs, strict=False):
            if one.dtype != two.dtype or one.shape != two.shape:
                continue
            a, b = decode(one.values, one.dtype), decode(two.values, two.dtype)
            both = ~(np.isnan(a) | np.isnan(b))
            steps = ordinal(b[both], two.dtype) - ordinal(a[both], one.dtype)
            buckets = self.counts.setdefault((op, one.dtype), [0] * (len(self.EDGES) + 1))
            places = np.searchsorted(self.EDGES, np.abs(steps), side="left")
            for place, count in enumerate(np.bincount(places, minlength=len(buckets))):
                buckets[place] += int(count)
            key = (op, one.dtype)
            self.signed[key] = self.signed.get(key, 0) + int(np.sign(steps).sum())

    def merge(self, other: UlpHistogram) -> None:
        for key, buckets in other.counts.items():
            mine = self.counts.setdefault(key, [0] * len(buckets))
            for place, count in enumerate(buckets):
                mine[place] += count
            self.signed[key] = self.signed.get(key, 0) + other.signed.get(key, 0)


class CaseChecker:
    """Checks one case; expectations are computed once per (contract, rounding) and shared."""

    def __init__(self, subject: Subject, prop: Property, case: Any, device: str) -> None:
        self._subject = subject
        self._prop = prop
        self._case = case
        self._kind = kind_of(case)
        self._device = device
        self._digest = digest(case)
        self._expected: dict[Terms, Any] = {}
        self._telling: bool | None = None
        self._eager: dict[str, Returned] = {}
        self.histogram = UlpHistogram()
        self.measures: Counter[str] = Counter()

    def observe(
        self, provider: str, route: str, contract: str | None, *, interpreted: bool
    ) -> Iterator[CheckResult]:
        """Drive the case on one route, judge what comes back."""
        observation = (
            Declined("interpreter-size")
            if interpreted and self._kind.too_big_to_interpret(self._case)
            else self._subject.observe(self._case, provider, route, self._prop.probes)
        )
        if self._prop.histogram and isinstance(observation, Returned):
            if route == "eager":
                self._eager[provider] = observation
            elif route in self._prop.relaxed and provider in self._eager:
                self.histogram.add(self._case.op, self._eager[provider], observation)
        yield from self.judge(provider, route, contract, observation)

    def judge(
        self, provider: str, route: str, contract: str | None, observation: Observation
    ) -> Iterator[CheckResult]:
        """Every judge of the property on one observation."""
        terms = terms_of(self._prop, route, contract, self._device)
        try:
            expectation = self._expect(terms)
            unknown = self._kind.unknown(expectation)
            evidence = self._kind.evidence(self._case, expectation, observation, terms)
            if self._telling is None:
                self._telling = self._kind.telling(evidence)
            verdicts = [_settle(name, evidence, observation, unknown) for name in self._prop.judges]
            self.measures.update(self._kind.measures(evidence))
        except Exception as error:  # whatever a judge or the reference raises is our bug
            raise OwnFault(
                f"judging {self._case.op} case {self._digest} ({provider}, {route}) failed:\n"
                f"{traceback.format_exc()}"
            ) from error
        asked = not isinstance(observation, Unavailable) and not _unasked(observation, unknown)
        for verdict in verdicts:
            yield CheckResult(
                prop=self._prop.name,
                subject=self._subject.name,
                op=self._case.op,
                dtype=self._kind.dtype(self._case),
                provider=provider,
                route=route,
                contract=contract,
                case=self._digest,
                verdict=verdict,
                telling=bool(self._telling),
                asked=asked,
            )

    def _expect(self, terms: Terms) -> Any:
        if terms not in self._expected:
            self._expected[terms] = self._kind.expect(self._case, terms)
        return self._expected[terms]


def terms_of(prop: Property, route: str, contract: str | None, device: str) -> Terms:
    """What ``prop`` holds a provider with that contract to on ``route``."""
    return Terms(
        contract=contract,
        rounding="optional" if route in prop.relaxed else "strict",
        device=device,
    )


def _settle(name: str, evidence: Any, observation: Observation, unknown: str) -> Verdict:
    if isinstance(observation, Declined):
        return not_applicable(name, observation.because)
    if isinstance(observation, Unavailable):
        return undecided(name, observation.because)
    if _unasked(observation, unknown):
        return undecided(name, unknown)
    return judge_named(name).judge(evidence)


def _unasked(observation: Observation, unknown: str) -> bool:
    """Whether what was observed has nothing to be held against; a death needs nothing."""
    return bool(unknown) and not isinstance(observation, Died)
