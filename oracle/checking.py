"""One case through one subject: observe on each route, expect once, let the judges speak."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from oracle.errors import OwnFault
from oracle.judges import Evidence, judge_named
from oracle.judges.values import is_telling
from oracle.observation import Declined, Died, Observation, Returned, Unavailable
from oracle.plan import Property
from oracle.subject import Subject
from oracle.verdict import Verdict, fingerprint, not_applicable, undecided
from reference.contract import Rounding
from reference.dtypes import decode, ordinal
from reference.expectation import Expectation, Unknown, expect
from reference.legal import DECLARATIONS
from reference.model import OpCase, digest

INTERPRETED_ROWS = 8
"""Rows beyond which Triton's interpreter (1 to 3 ms a program instance) is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check's verdict and what it was about. ``telling``: agreeing here says something."""

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

    def __init__(self, subject: Subject, prop: Property, case: OpCase, device: str) -> None:
        self._subject = subject
        self._prop = prop
        self._case = case
        self._device = device
        self._digest = digest(case)
        self._expected: dict[tuple[str | None, str], Expectation] = {}
        self._telling: bool | None = None
        self._eager: dict[str, Returned] = {}
        self.histogram = UlpHistogram()

    def observe(
        self, provider: str, route: str, contract: str | None, *, interpreted: bool
    ) -> Iterator[CheckResult]:
        """Drive the case on one route, judge what comes back."""
        observation = (
            Declined("interpreter-size")
            if interpreted and self._rows() > INTERPRETED_ROWS
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
        rounding: Rounding = "optional" if route in self._prop.relaxed else "strict"
        try:
            evidence = Evidence(
                declaration=DECLARATIONS[self._case.op],
                case=self._case,
                expectation=self._expect(contract, rounding),
                observation=observation,
                device=self._device,
            )
            if self._telling is None:
                self._telling = is_telling(evidence)
            verdicts = [_settle(name, evidence) for name in self._prop.judges]
        except Exception as error:  # whatever a judge or the reference raises is our bug
            raise OwnFault(
                f"judging {self._case.op} case {self._digest} ({provider}, {route}) failed:\n"
                f"{traceback.format_exc()}"
            ) from error
        dtype = self._case.dtype_of(evidence.declaration.dtype_parameter) or ""
        for verdict in verdicts:
            yield CheckResult(
                prop=self._prop.name,
                subject=self._subject.name,
                op=self._case.op,
                dtype=dtype,
                provider=provider,
                route=route,
                contract=contract,
                case=self._digest,
                verdict=verdict,
                telling=bool(self._telling),
            )

    def _expect(self, contract: str | None, rounding: Rounding) -> Expectation:
        key = (contract, rounding)
        if key not in self._expected:
            backend = "cuda" if self._device.startswith("cuda") else "cpu"
            self._expected[key] = expect(
                DECLARATIONS[self._case.op],
                self._case,
                contract=contract,
                rounding=rounding,
                backend=backend,
            )
        return self._expected[key]

    def _rows(self) -> int:
        first = DECLARATIONS[self._case.op].dtype_parameter
        view = self._case.views().get(first)
        if view is None or not view.shape or not view.shape[-1]:
            return 0
        return view.numel // view.shape[-1]


def _settle(name: str, evidence: Evidence) -> Verdict:
    observation = evidence.observation
    if isinstance(observation, Declined):
        return not_applicable(name, observation.because)
    if isinstance(observation, Unavailable):
        return undecided(name, observation.because)
    if isinstance(evidence.expectation, Unknown) and not isinstance(observation, Died):
        return undecided(name, evidence.expectation.because)
    return judge_named(name).judge(evidence)
