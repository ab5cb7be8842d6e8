"""The one engine: plans a run, drives the workers, yields events. Every door leads here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from oracle.checking import CheckResult, UlpHistogram
from oracle.crashes import after_crash, before_first_call, given_up
from oracle.decided import little_decided, nothing_decided
from oracle.errors import OwnFault, UsageError
from oracle.events import CaseDone, Checked, Event, Finished, Started
from oracle.findings import Disagreements
from oracle.kinds import ALL_OPS, KINDS, kind_named
from oracle.observation import Died
from oracle.plan import Selection, Unit, plan
from oracle.pool import Child, Pool, raise_faults
from oracle.properties import PROPERTIES
from oracle.scratch import scratch_environment
from oracle.store import Store
from oracle.subject import Provider
from oracle.subjects import DESCRIPTIONS, SubjectOptions
from oracle.tally import Tally
from reference.contract import CONTRACTS

CRASHES = 3
"""After so many deaths on one (op, provider, route) the rest of its checks are UNDECIDED."""


def run(selection: Selection, store: Store | None = None) -> Iterator[Event]:
    """Run a selection and yield its events, ``Finished`` last.

    Raises ``UsageError`` for a selection that names what there is not, and ``OwnFault`` where a
    judge, a strategy or the reference failed.
    """
    _refuse_unknown(selection)
    with started_pool(selection) as pool:
        yield from _Run(selection, store or Store(), pool).events()


@contextmanager
def started_pool(selection: Selection) -> Iterator[Pool]:
    """Workers for ``selection``'s device and imports, with compiler caches of their own."""
    with scratch_environment() as environment:
        pool = Pool(
            options=SubjectOptions(device=selection.device, imports=selection.imports),
            size=selection.workers,
            timeout=selection.case_timeout,
            environment=environment,
            interpret=selection.device == "cpu",
        )
        with pool:
            yield pool


def describe(selection: Selection) -> dict[str, tuple[str, tuple[Provider, ...]]]:
    """Version and providers of each selected subject, asked of a worker process."""
    with started_pool(selection) as pool:
        return described(selection, pool)


def described(selection: Selection, pool: Pool) -> dict[str, tuple[str, tuple[Provider, ...]]]:
    """As ``describe``, of workers that run already."""
    found: dict[str, tuple[str, tuple[Provider, ...]]] = {}
    for name in selection.subjects:
        reply = pool.ask(("describe", name), "described")
        if isinstance(reply, Died):
            raise UsageError(
                f"subject {name!r} could not be started: its process ended ({reply.how})"
            )
        found[name] = (reply[1], reply[2])
    return found


def _refuse_unknown(selection: Selection) -> None:
    for what, given, known in (
        ("subject", selection.subjects, tuple(DESCRIPTIONS)),
        ("property", selection.properties, tuple(PROPERTIES)),
        ("op", selection.ops, ALL_OPS),
        ("contract", (selection.contract,) if selection.contract else (), tuple(CONTRACTS)),
        ("dtype", selection.dtypes, _all_dtypes()),
    ):
        for name in given:
            if name not in known:
                raise UsageError(f"{what} {name!r}; accepted: {', '.join(known)}")
    for name in selection.properties:
        kind = kind_named(PROPERTIES[name].kind)
        if selection.ops and not set(selection.ops) & set(kind.ops):
            raise UsageError(
                f"op {', '.join(selection.ops)} for property {name!r}; "
                f"accepted there: {', '.join(kind.ops)}"
            )
        if selection.dtypes and not any(any(kind.dtypes(op)) for op in kind.ops):
            raise UsageError(f"dtype for property {name!r}, which has none; leave --dtype out")
    index, shards = selection.shard
    if not 1 <= index <= shards:
        raise UsageError(f"shard {index}/{shards}; accepted: 1/n to n/n")
    if selection.workers < 1:
        raise UsageError(f"workers {selection.workers}; accepted: 1 or more, 0 for one per core")
    if selection.case_timeout <= 0:
        raise UsageError(f"case timeout {selection.case_timeout}; accepted: seconds above 0")


def _all_dtypes() -> tuple[str, ...]:
    every = (d for kind in KINDS.values() for op in kind.ops for d in kind.dtypes(op) if d)
    return tuple(dict.fromkeys(every))


class _Run:
    """The state of one run."""

    def __init__(self, selection: Selection, store: Store, pool: Pool) -> None:
        self.selection = selection
        self.store = store
        self.pool = pool
        self.tally = Tally()
        self.histogram = UlpHistogram()
        self.crashes: Counter[tuple[str, str, str, str]] = Counter()
        self.providers: dict[str, tuple[Provider, ...]] = {}
        self.versions: dict[str, str] = {}
        self.done_cases = 0
        self.restarted: set[Unit] = set()
        self.uncharged: list[str] = []
        """Deaths of workers that no call is charged with."""

    def events(self) -> Iterator[Event]:
        began = time.monotonic()
        for name, (version, providers) in described(self.selection, self.pool).items():
            self.versions[name] = version
            self.providers[name] = providers
        self._refuse_unknown_providers()
        units = plan(self.selection, PROPERTIES, self.providers)
        planned = sum(u.stop - u.start for u in units)
        skipped = self._skipped()
        yield Started(
            seed=self.selection.seed,
            budget=self.selection.budget,
            workers=self.selection.workers,
            planned_cases=planned,
            versions=self.versions,
            unavailable=skipped,
            interpreted=self._interpreted(units),
        )
        disagreements = Disagreements(self.selection, self.providers, self.versions, units)
        try:
            for event in self._units(units, disagreements):
                if isinstance(event, Checked):
                    self.tally.add(event.result)
                yield event
        except OwnFault:
            yield from self._settled_after_fault(disagreements)
            raise
        yield from disagreements.settle(self.pool, self.store)
        if self.done_cases != planned:
            raise OwnFault(f"{self.done_cases:,} cases were done; planned: {planned:,}")
        nothing = nothing_decided(self.selection, self.providers, self.tally)
        total = self.tally.total()
        unreproduced = disagreements.unreproduced(self.tally.decided)
        unmet = self._unmet()
        wrong = disagreements.unknown or unreproduced or unmet
        yield Finished(
            cases=self.done_cases,
            counts=total,
            rows=self.tally.rows(),
            nothing_decided=nothing,
            thin=little_decided(self.selection, self.providers, self.tally),
            unexcused=disagreements.unknown,
            unreproduced=unreproduced,
            unshrunk=tuple(disagreements.unshrunk),
            skipped=tuple(f"{p.op} {p.name}: {p.unavailable}" for p in skipped),
            notes=(*self._notes(), *disagreements.known_lines(), *self.uncharged),
            unmet=unmet,
            histogram=self.histogram,
            seconds=time.monotonic() - began,
            exit_code=1 if wrong else 3 if nothing else 0,
        )

    def _settled_after_fault(self, disagreements: Disagreements) -> Iterator[Event]:
        """What was seen before a fault of ours stands: it is written, though the run is not."""
        for child in list(self.pool.children):
            if child.busy is not None:
                # Its answers would be those of a unit that nobody waits for.
                self.pool.replace(child)
        # The fault that ended the run is the one to tell of.
        with suppress(OwnFault):
            yield from disagreements.settle(self.pool, self.store)

    def _refuse_unknown_providers(self) -> None:
        every = [p for group in self.providers.values() for p in group]
        for kind, given, known in (
            ("provider", self.selection.providers, {p.name for p in every}),
            ("route", self.selection.routes, {r for p in every for r in p.routes}),
        ):
            for name in given:
                if name not in known:
                    hint = "; one of your own needs --import" if kind == "provider" else ""
                    raise UsageError(f"{kind} {name!r}; accepted: {', '.join(sorted(known))}{hint}")

    def _interpreted(self, units: list[Unit]) -> tuple[str, ...]:
        driven = {(u.op, provider) for u in units for provider, _route, _contract in u.drives}
        names = {
            p.name
            for group in self.providers.values()
            for p in group
            if p.interpreted and (p.op, p.name) in driven
        }
        return tuple(sorted(names))

    def _skipped(self) -> tuple[Provider, ...]:
        """Providers that were selected, or would have been, and cannot run here."""
        return tuple(
            p
            for group in self.providers.values()
            for p in group
            if p.unavailable and self.selection.selects(p)
        )

    def _units(self, units: list[Unit], disagreements: Disagreements) -> Iterator[Event]:
        """Drive every unit; events come in unit order, whichever worker was faster."""
        waiting = list(reversed(units))
        if len(units) > 1:
            self.pool.grow()
        held: dict[int, list[Event]] = {unit.number: [] for unit in units}
        finished: set[int] = set()
        released = 0
        for child in list(self.pool.children):
            self._give(child, waiting, held)
        while any(c.busy is not None for c in self.pool.children) or waiting:
            for child, message in self.pool.next_messages():
                unit: Unit = child.busy
                self._absorb(child, unit, message, held, finished, disagreements, waiting)
            while released < len(units) and units[released].number in finished:
                yield from held.pop(units[released].number)
                released += 1

    def _give(self, child: Child, waiting: list[Unit], held: dict[int, list[Event]]) -> None:
        child.busy, child.at = None, None
        if not waiting:
            return
        unit, undecided = given_up(waiting.pop(), self.crashes, CRASHES)
        held[unit.number] += [Checked(r) for r in undecided]
        child.send(("unit", unit))
        child.busy, child.heard = unit, time.monotonic()

    def _absorb(
        self,
        child: Child,
        unit: Unit,
        message: tuple | Died,
        held: dict[int, list[Event]],
        finished: set[int],
        disagreements: Disagreements,
        waiting: list[Unit],
    ) -> None:
        if isinstance(message, Died):
            if child.at is None:
                self.uncharged.append(before_first_call(unit, message, self.restarted))
                waiting.append(unit)
            else:
                device = self.selection.device
                results, case, resumed = after_crash(unit, child.at, message, device)
                self._keep(results, case, held[unit.number], disagreements)
                self.crashes[unit.subject, unit.op, child.at[1], child.at[2]] += 1
                waiting.append(resumed)
            self._give(self.pool.replace(child), waiting, held)
            return
        raise_faults(message)
        match message:
            case ("at", at):
                child.at = at
            case ("case", _index, results, case, seconds, measures):
                self.tally.spent(unit.subject, unit.prop, seconds)
                self.tally.measured(unit.subject, unit.prop, measures)
                self._keep(results, case, held[unit.number], disagreements)
                self.done_cases += 1
                held[unit.number].append(CaseDone(self.done_cases))
                # The unit resumes behind this case should its process die later.
                child.busy = replace(unit, start=message[1] + 1)
            case ("done", histogram):
                self.histogram.merge(histogram)
                finished.add(unit.number)
                self._give(child, waiting, held)
            case _:
                raise OwnFault(f"a worker sent {message[0]!r}, which a unit does not send")

    def _keep(
        self,
        results: list[CheckResult],
        case: Any,
        held: list[Event],
        disagreements: Disagreements,
    ) -> None:
        for result in results:
            held.append(Checked(result))
            if case is not None:
                disagreements.note(result, case)

    def _notes(self) -> tuple[str, ...]:
        return tuple(
            f"{subject} {name}: {line}"
            for (subject, name), measures in sorted(self.tally.measures.items())
            for line in PROPERTIES[name].summary(measures)
        )

    def _unmet(self) -> tuple[str, ...]:
        """Claims about a whole run that fail; a handful of cases, or a part of them, has none."""
        if isinstance(self.selection.budget, int) or self.selection.shard != (1, 1):
            return ()
        return tuple(
            f"{subject} {name}: {line}"
            for (subject, name), measures in sorted(self.tally.measures.items())
            for line in PROPERTIES[name].demands(measures)
        )
