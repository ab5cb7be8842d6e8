"""What follows when a worker's process ends in the middle of a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from oracle.checking import CaseChecker, CheckResult
from oracle.errors import OwnFault
from oracle.observation import Died, Observation, Unavailable
from oracle.plan import Unit
from oracle.pool import At
from oracle.properties import PROPERTIES
from oracle.subject import Probes, Provider


@dataclass(frozen=True, slots=True)
class Absent:
    """Stands for a subject whose process is gone: only its name is left."""

    name: str

    def version(self) -> str:
        return ""

    def providers(self) -> tuple[Provider, ...]:
        return ()

    def observe(self, case: Any, provider: str, route: str, probes: Probes) -> Observation:
        return Died("gone")


def case_of(unit: Unit, index: int) -> Any:
    """Case ``index`` of the unit's stream: made anew, since it is a pure function."""
    prop = PROPERTIES[unit.prop]
    for stream in prop.streams(unit.op, unit.dtype):
        if stream.name == unit.stream:
            return stream.case(unit.seed, index)
    raise OwnFault(f"unit {unit.number} names stream {unit.stream!r}, which {unit.prop} has not")


def judge_observation(
    unit: Unit, index: int, provider: str, route: str, observation: Observation, device: str
) -> tuple[list[CheckResult], Any]:
    """The verdicts on an observation that the parent made itself."""
    case = case_of(unit, index)
    contract = next((c for p, r, c in unit.drives if (p, r) == (provider, route)), None)
    checker = CaseChecker(Absent(unit.subject), PROPERTIES[unit.prop], case, device)
    return list(checker.judge(provider, route, contract, observation)), case


def after_crash(
    unit: Unit, at: At, died: Died, device: str
) -> tuple[list[CheckResult], Any | None, Unit]:
    """Verdicts on the call that took its process down, its case, and the unit that remains.

    The case is run again without that call, so its other checks are not lost. A process that ends
    between calls is charged to the last one, since a damaged heap shows late.
    """
    index, provider, route = at
    results, case = judge_observation(unit, index, provider, route, died, device)
    return results, case, replace(unit, start=max(index, unit.start), skip=unit.skip | {at})


def before_first_call(unit: Unit, died: Died, seen: set[Unit]) -> str:
    """What to tell of a death that no call of ``unit`` can be charged with; it is ``seen`` then.

    The calls before it were another unit's, and what they damaged may show this late, so the unit
    is to be run again, in a fresh process. Raises ``OwnFault`` where that ended there too.
    """
    line = f"a worker ended before its first call of {unit.prop}/{unit.op}: {died.how}"
    if unit in seen:
        raise OwnFault(f"{line}, twice")
    seen.add(unit)
    return f"{line}; another took over"


def given_up(
    unit: Unit, crashes: Counter[tuple[str, str, str, str]], limit: int
) -> tuple[Unit, list[CheckResult]]:
    """The unit without what crashed too often, and an UNDECIDED for each check that costs."""
    gone = [
        drive
        for drive in unit.drives
        if crashes[unit.subject, unit.op, drive[0], drive[1]] >= limit
    ]
    if not gone:
        return unit, []
    kept = tuple(d for d in unit.drives if d not in gone)
    return replace(unit, drives=kept), list(_undecided(unit, gone))


def _undecided(unit: Unit, gone: list[tuple[str, str, str | None]]) -> Iterator[CheckResult]:
    for index in range(unit.start, unit.stop):
        for provider, route, _contract in gone:
            if (index, provider, route) in unit.skip:
                continue
            results, _case = judge_observation(
                unit, index, provider, route, Unavailable("crashed-before"), "cpu"
            )
            yield from results
