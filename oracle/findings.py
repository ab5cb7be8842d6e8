"""From many disagreements to few findings: grouped, shrunk, written, held against known ones."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from oracle.checking import CheckResult, terms_of
from oracle.events import Found, Shrinking
from oracle.finding import AlsoOn, Finding, Source
from oracle.kinds import kind_named, kind_of
from oracle.known import Known, KnownEntry
from oracle.plan import KNOWN, Selection, Stream, Unit, share_of, wanted_routes
from oracle.pool import Pool
from oracle.properties import PROPERTIES
from oracle.redraw import smaller_draws
from oracle.shrink import shrink
from oracle.single import recheck
from oracle.store import Store
from oracle.subject import Provider
from oracle.tally import Cell
from oracle.verdict import Outcome, Place

EAGER_TRIES, COMPILED_TRIES, CRASH_TRIES = 600, 80, 25
"""Candidates tried per finding: a compiled one may cost a compilation, a crash a process."""
HANGING_SECONDS = 120.0
"""Worker time that the shrinking of one call that does not end may cost."""
REPORTED = 40
"""Groups that are shrunk and written; a run with more has one cause, not more."""


class Group(NamedTuple):
    """What results of one finding have in common."""

    prop: str
    subject: str
    op: str
    provider: str
    judge: str
    kind: str
    output: str


@dataclass(slots=True)
class _Member:
    result: CheckResult
    case: Any


@dataclass(slots=True)
class Disagreements:
    """Collects DISAGREES results of a run and settles them into findings at its end.

    Results that differ in nothing but the route are one group; its finding is shrunk on the
    first route of the property's order and names the others. A group that differs in nothing but
    the property is named there too, where that property shows the shrunk case as well. What is
    known of one cause is a group too, whatever judge it shows to.
    """

    selection: Selection
    providers: Mapping[str, tuple[Provider, ...]]
    versions: Mapping[str, str]
    units: Sequence[Unit] = ()
    """What the run planned."""
    known: Known = field(default_factory=lambda: Known.load())
    groups: dict[Group, dict[str, _Member]] = field(default_factory=dict)
    unknown: int = 0
    excused: Counter[KnownEntry] = field(default_factory=Counter)
    """How many results each known entry excused."""
    unshrunk: list[str] = field(default_factory=list)

    def note(self, result: CheckResult, case: Any) -> None:
        """Keep the smallest case of each group and route."""
        if result.verdict.outcome is not Outcome.DISAGREES:
            return
        entry = self._excuse(result, case)
        judge, kind, output = result.verdict.judge, result.verdict.kind, result.verdict.output
        if entry is not None:
            self.excused[entry] += 1
            judge, kind, output = "known", entry.reason, entry.link
        group = Group(result.prop, result.subject, result.op, result.provider, judge, kind, output)
        routes = self.groups.setdefault(group, {})
        held = routes.get(result.route)
        if held is None or kind_of(case).size(case) < kind_of(case).size(held.case):
            routes[result.route] = _Member(result, case)

    def _excuse(self, result: CheckResult, case: Any) -> KnownEntry | None:
        place = result.verdict.place
        return self.known.find(
            subject=result.subject,
            version=self.versions.get(result.subject, ""),
            kind=result.verdict.kind,
            fingerprint=result.fingerprint,
            observed=place.observed if place is not None else "",
            case=case,
            output=place.index[0] if place is not None and place.index else None,
        )

    def settle(self, pool: Pool, store: Store) -> Iterator[Shrinking | Found]:
        """Shrink and write each group, known ones marked as such."""
        with ExitStack() as stack:
            other = replace(pool, size=1, children=[])
            # Started where a finding asks for it: most runs have none.
            fresh = functools.cache(lambda: stack.enter_context(other))
            yield from self._settle(pool, store, fresh)

    def _settle(
        self, pool: Pool, store: Store, fresh: Callable[[], Pool]
    ) -> Iterator[Shrinking | Found]:
        told: set[Group] = set()
        for number, group in enumerate(self._known_first()):
            if group in told:
                continue
            told.add(group)
            first, *others = self._ranked(group)
            if number >= REPORTED:
                result = first.result
                verdict = result.verdict
                self.unshrunk.append(
                    f"{result.subject} {result.op} {result.provider}: {verdict.judge}: "
                    f"{verdict.kind} {verdict.output}"
                )
                self.unknown += 1
                continue
            also = tuple(AlsoOn(m.result.route, m.result.fingerprint) for m in others)
            entry = self._excuse(first.result, first.case)
            if entry is None:
                self.unknown += 1
                finding = yield from self._shrunk(pool, first, also)
                finding = replace(finding, alone=self._shows_alone(fresh, first, finding))
                for twin in self._twins(pool, group, finding, told):
                    told.add(twin)
                    there = tuple(
                        AlsoOn(m.result.route, m.result.fingerprint, m.result.prop)
                        for m in self._ranked(twin)
                    )
                    finding = replace(finding, also_on=finding.also_on + there)
            else:
                # Its smallest case is known too.
                provider = self._provider(first.result)
                finding = self._finding(first.result, first.case, provider, also)
            path = store.write(finding, self._expected(finding))
            yield Found(
                finding=finding, path=str(path), known=entry.reason if entry is not None else ""
            )

    def _known_first(self) -> list[Group]:
        """So that a finding with the fingerprint of a known one is the one that is kept."""
        return sorted(self.groups, key=lambda group: group.judge != "known")

    def _ranked(self, group: Group) -> list[_Member]:
        """The members of a group in the order of its property's routes."""
        order, routes = PROPERTIES[group.prop].routes, self.groups[group]
        ranked = sorted(routes, key=lambda r: order.index(r) if r in order else len(order))
        return [routes[route] for route in ranked]

    def _twins(
        self, pool: Pool, group: Group, finding: Finding, told: Set[Group]
    ) -> Iterator[Group]:
        """The groups of other properties, not told yet, that say the same of the finding's case."""
        for other in self.groups:
            if other in told or other._replace(prop=group.prop) != group:
                continue
            if all(
                self._shows(pool, member.result, finding.case) for member in self._ranked(other)
            ):
                yield other

    def _shows(self, pool: Pool, like: CheckResult, case: Any) -> bool:
        """Whether ``case`` disagrees as ``like`` does, and not for a reason that is known."""
        interpreted = self._provider(like).interpreted
        found = recheck(pool, like, case, interpreted=interpreted, device=self.selection.device)
        return found is not None and self._excuse(found, case) is None

    def known_lines(self) -> tuple[str, ...]:
        """What was excused, a line for each property and reason."""
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for entry, number in self.excused.items():
            counts[entry.subject, entry.property, entry.reason, entry.link] += number
        return tuple(
            f"{subject} {prop}: {number:,} known: {reason} ({link})"
            for (subject, prop, reason, link), number in sorted(counts.items())
        )

    def _shrunk(
        self, pool: Pool, member: _Member, also: tuple[AlsoOn, ...]
    ) -> Generator[Shrinking, None, Finding]:
        provider = self._provider(member.result)
        last: dict[str, CheckResult] = {"result": member.result}
        progress: list[Shrinking] = []

        def still_fails(case: Any) -> bool:
            if not self._wants_dtype(case):
                return False
            found = recheck(
                pool,
                member.result,
                case,
                interpreted=provider.interpreted,
                device=self.selection.device,
            )
            if found is None or self._excuse(found, case) is not None:
                return False
            last["result"] = found
            progress.append(
                Shrinking(
                    fingerprint=found.fingerprint,
                    tries=len(progress) + 1,
                    size=kind_of(case).size(case)[0],
                    unit=kind_of(case).unit,
                )
            )
            return True

        limit = _tries(member.result, self.selection.case_timeout)
        shrunk = shrink(member.case, still_fails, limit=limit)
        if limit == EAGER_TRIES and not provider.interpreted:
            # Content and strides that only together show a fault do not get smaller one by one.
            redrawn = next((c for c in smaller_draws(shrunk.case) if still_fails(c)), None)
            if redrawn is not None:
                shrunk = shrink(redrawn, still_fails, limit=limit)
        yield from progress[-1:]
        return self._finding(last["result"], shrunk.case, provider, also)

    def _shows_alone(self, fresh: Callable[[], Pool], member: _Member, finding: Finding) -> bool:
        """Whether a process that ran nothing but findings shows it, asked of users' code alone.

        A kernel that remembers earlier calls is right in a new process, and so would its script be.
        What takes its process down had each candidate to itself.
        """
        if finding.source is None or finding.kind in ("crash", "timeout"):
            return True
        found = recheck(
            fresh(),
            member.result,
            finding.case,
            interpreted=self._provider(member.result).interpreted,
            device=self.selection.device,
        )
        return found is not None

    def _wants_dtype(self, case: Any) -> bool:
        """Shrinking stays within the dtypes that the run was narrowed to."""
        chosen = self.selection.dtypes
        return not chosen or kind_of(case).dtype(case) in chosen

    def _finding(
        self, result: CheckResult, case: Any, provider: Provider, also: tuple[AlsoOn, ...]
    ) -> Finding:
        return Finding(
            fingerprint=result.fingerprint,
            property=result.prop,
            subject=result.subject,
            op=result.op,
            provider=result.provider,
            route=result.route,
            judge=result.verdict.judge,
            kind=result.verdict.kind,
            contract=kind_of(case).contract(result.op, result.contract),
            device=self.selection.device,
            case=case,
            place=result.verdict.place or Place(name="call", observed="", expected=""),
            differing=result.verdict.differing,
            versions=dict(self.versions),
            source=Source.read(Path(provider.source)) if provider.source else None,
            also_on=also,
            seed=self.selection.seed,
        )

    def _expected(self, finding: Finding) -> Any:
        prop = PROPERTIES[finding.property]
        terms = terms_of(prop, finding.route, finding.contract or None, finding.device)
        return kind_of(finding.case).expect(finding.case, terms)

    def _provider(self, result: CheckResult) -> Provider:
        for provider in self.providers[result.subject]:
            if (provider.op, provider.name) == (result.op, result.provider):
                return provider
        raise KeyError(f"{result.op} {result.provider}")

    def unreproduced(self, decided: Mapping[Cell, int]) -> tuple[str, ...]:
        """Known disagreements that this run looked for and did not see.

        On a route that ``decided`` nothing (``Tally.decided``) it saw none and missed none.
        """
        return tuple(
            f"{entry.fingerprint}: {entry.reason}"
            for entry in self.known.unreproduced(self.excused, self._looked_for)
            if decided.get((entry.subject, entry.property, entry.op, entry.provider, entry.route))
        )

    def _looked_for(self, entry: KnownEntry) -> bool:
        chosen = self.selection
        if self.versions.get(entry.subject) != entry.version:
            return False
        if entry.property not in (chosen.properties or tuple(PROPERTIES)):
            return False
        prop = PROPERTIES[entry.property]
        streams = _known_streams(entry)
        if streams:
            return all(self._planned_whole(entry, stream) for stream in streams)
        if isinstance(chosen.budget, int) or share_of(prop, chosen) < 1 or chosen.shard != (1, 1):
            # Too few of the drawn cases that showed it: such a run cannot tell.
            return False
        if chosen.dtypes or chosen.contract:
            return False
        return any(
            (provider.op, provider.name) == (entry.op, entry.provider)
            and not provider.unavailable
            and chosen.selects(provider)
            and entry.route in wanted_routes(chosen, prop, provider)
            for provider in self.providers[entry.subject]
        )

    def _planned_whole(self, entry: KnownEntry, stream: Stream) -> bool:
        """Whether the run drives every case of ``stream`` as ``entry`` says."""
        wanted = (entry.property, entry.subject, entry.op, stream.dtype, stream.name)
        planned = sum(
            unit.stop - unit.start
            for unit in self.units
            if (unit.prop, unit.subject, unit.op, unit.dtype, unit.stream) == wanted
            and (entry.provider, entry.route) in {drive[:2] for drive in unit.drives}
        )
        return planned >= stream.count


def _known_streams(entry: KnownEntry) -> list[Stream]:
    """The streams in which ``entry`` must show, none where only drawn cases may show it."""
    prop = PROPERTIES[entry.property]
    kind = kind_named(prop.kind)
    return [
        stream
        for dtype in (kind.dtypes(entry.op) if entry.op in kind.ops else ())
        for stream in prop.streams(entry.op, dtype)
        if stream.name == KNOWN and stream.is_for(entry.subject)
    ]


def _tries(result: CheckResult, timeout: float) -> int:
    if result.verdict.kind == "timeout":
        return max(1, min(CRASH_TRIES, int(HANGING_SECONDS / timeout)))
    if result.verdict.kind == "crash":
        return CRASH_TRIES
    return EAGER_TRIES if result.route.startswith("eager") else COMPILED_TRIES
