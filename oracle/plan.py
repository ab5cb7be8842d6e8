"""What a run will do, as data: which streams of cases, which providers and routes, in what units.

Everything here is picklable and a pure function of the selection, so that the same seed gives the
same cases for any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from oracle.errors import UsageError
from oracle.kinds import kind_named
from oracle.subject import Probes, Provider

QUICK, FULL = "quick", "full"
FULL_FACTOR = 10
KNOWN = "known"
"""A property's stream of the cases that known disagreements were kept of: not drawn, so a run
that plans it whole sees each of them again."""
CATALOGUE_FROM = 2_000
"""A numeric budget this large takes the catalogue of real shapes in, as quick and full do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the user asked for. Empty tuples select everything."""

    subjects: tuple[str, ...] = ("ir",)
    properties: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    contract: str | None = None
    device: str = "cpu"
    imports: tuple[str, ...] = ()
    budget: str | int = QUICK
    seed: int = 0
    workers: int = 2
    case_timeout: float = 120.0
    shard: tuple[int, int] = (1, 1)
    """Which part of the units, of how many: (1, 1) is all of them."""

    def selects(self, provider: Provider) -> bool:
        """Whether the user asked for this provider of this op."""
        return (not self.providers or provider.name in self.providers) and (
            not self.ops or provider.op in self.ops
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A numbered source of cases of one kind. ``case(seed, i)`` is a pure function.

    ``count`` is the quick budget's share. ``together`` keeps the stream in one unit, because its
    cases share a compiled artefact. ``routes`` restricts the property's (empty: all of them).
    """

    name: str
    op: str
    dtype: str
    count: int
    case: Callable[[int, int], Any]
    routes: tuple[str, ...] = ()
    together: bool = False
    fixed_count: bool = False
    in_full: int | None = None
    """What a full budget takes; None for ``FULL_FACTOR`` times ``count``."""
    subjects: tuple[str, ...] = ()
    """Whose cases these are; empty: everybody's."""

    def is_for(self, subject: str) -> bool:
        return not self.subjects or subject in self.subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A claim: where its cases come from, which judges apply, what a subject is asked to show.

    ``relaxed`` are the routes on which the contract's optional roundings may be skipped.
    ``histogram`` asks for the ulp distance between those routes and the eager one.
    """

    name: str
    claim: str
    judges: tuple[str, ...]
    routes: tuple[str, ...]
    probes: Probes
    streams: Callable[[str, str], tuple[Stream, ...]]
    relaxed: tuple[str, ...] = ()
    histogram: bool = False
    kind: str = "op"
    """Of its cases: a name of ``oracle.kinds``."""
    in_passing: float = 1.0
    """The share of its drawn quick cases that a run takes which names no property and no op."""
    summary: Callable[[Mapping[str, int]], tuple[str, ...]] = lambda _measures: ()
    """Lines for the report, of what its kind measured over the run."""
    demands: Callable[[Mapping[str, int]], tuple[str, ...]] = lambda _measures: ()
    """Claims about the whole run that do not hold: each fails it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A stretch of one stream for one subject: cases ``start`` to ``stop``, and how to drive them.

    ``drives`` are (provider, route, contract) triples. ``skip`` are (case, provider, route) that
    took their process down before.
    """

    number: int
    prop: str
    subject: str
    op: str
    dtype: str
    stream: str
    start: int
    stop: int
    seed: int
    drives: tuple[tuple[str, str, str | None], ...]
    interpreted: frozenset[str] = frozenset()
    skip: frozenset[tuple[int, str, str]] = frozenset()


def share_of(prop: Property, selection: Selection) -> float:
    """How much of its drawn cases ``prop`` takes: all where something of it was asked for."""
    asked = selection.properties or selection.ops or selection.budget == FULL
    return 1.0 if asked else prop.in_passing


def plan(
    selection: Selection,
    properties: Mapping[str, Property],
    providers: Mapping[str, tuple[Provider, ...]],
) -> list[Unit]:
    """The units of a run, streams that compile first so that no worker ends on one alone."""
    chosen = selection.properties or tuple(properties)
    streams: list[tuple[Property, Stream, int]] = []
    for name in chosen:
        prop = properties[name]
        kind = kind_named(prop.kind)
        share = share_of(prop, selection)
        for op in selection.ops or kind.ops:
            for dtype in kind.dtypes(op) if op in kind.ops else ():
                if selection.dtypes and dtype not in selection.dtypes:
                    continue
                streams += [
                    (prop, s, s.count if s.fixed_count else math.ceil(s.count * share))
                    for s in prop.streams(op, dtype)
                    # What nobody is driven through takes no share of the budget.
                    if any(
                        s.is_for(n) and _drives(selection, prop, s, providers[n])
                        for n in selection.subjects
                    )
                ]
    streams = _budgeted(streams, selection.budget)
    units: list[Unit] = []
    for subject in selection.subjects:
        for prop, stream, count in streams:
            drives = _drives(selection, prop, stream, providers[subject])
            if not drives or not count or not stream.is_for(subject):
                continue
            size = count if stream.together else 16
            interpreted = frozenset(
                p.name for p in providers[subject] if p.interpreted and p.op == stream.op
            )
            for start in range(0, count, size):
                units.append(
                    Unit(
                        number=0,
                        prop=prop.name,
                        subject=subject,
                        op=stream.op,
                        dtype=stream.dtype,
                        stream=stream.name,
                        start=start,
                        stop=min(start + size, count),
                        seed=selection.seed,
                        drives=drives,
                        interpreted=interpreted,
                    )
                )
    units.sort(key=lambda u: -(u.stop - u.start) * len(u.drives))
    index, shards = selection.shard
    units = units[index - 1 :: shards]
    return [replace(unit, number=number) for number, unit in enumerate(units)]


def _budgeted(
    streams: list[tuple[Property, Stream, int]], budget: str | int
) -> list[tuple[Property, Stream, int]]:
    if budget == QUICK:
        return streams
    if budget == FULL:
        return [(p, s, _in_full(s, n)) for p, s, n in streams]
    if not isinstance(budget, int) or budget < 1:
        raise UsageError(f"budget {budget!r}; accepted: quick, full or a number of cases >= 1")
    kept = [(p, s, n) for p, s, n in streams if not s.fixed_count or budget >= CATALOGUE_FROM]
    fixed = sum(n for _p, s, n in kept if s.fixed_count)
    drawn = sum(n for _p, s, n in kept if not s.fixed_count)
    share = max(budget - fixed, 0)
    out: list[tuple[Property, Stream, int]] = []
    given = 0
    seen = 0
    for prop, stream, n in kept:
        if stream.fixed_count:
            out.append((prop, stream, n))
            continue
        # Cumulative shares: the counts add up to the budget exactly, whatever the rounding.
        seen += n
        upto = share * seen // max(drawn, 1)
        out.append((prop, stream, upto - given))
        given = upto
    return out


def _in_full(stream: Stream, quick: int) -> int:
    if stream.in_full is not None:
        return stream.in_full
    return quick if stream.fixed_count else quick * FULL_FACTOR


def _drives(
    selection: Selection, prop: Property, stream: Stream, providers: tuple[Provider, ...]
) -> tuple[tuple[str, str, str | None], ...]:
    drives: list[tuple[str, str, str | None]] = []
    for provider in providers:
        if provider.op != stream.op or provider.unavailable:
            continue
        if not selection.selects(provider):
            continue
        for route in provider.routes:
            if route not in prop.routes and prop.routes and route != "reference":
                continue
            if stream.routes and route not in stream.routes and route != "reference":
                continue
            if selection.routes and route not in selection.routes:
                continue
            drives.append((provider.name, route, _contract(selection, provider)))
    return tuple(drives)


def _contract(selection: Selection, provider: Provider) -> str | None:
    chosen = selection.contract
    if chosen is not None and chosen.split("/", 1)[0] == provider.op:
        return chosen
    return provider.contract


def wanted_routes(selection: Selection, prop: Property, provider: Provider) -> tuple[str, ...]:
    """The routes on which ``provider`` must be decided for ``prop`` in this run."""
    kind = kind_named(prop.kind)
    if provider.op not in kind.ops:
        return ()
    if selection.dtypes and not set(kind.dtypes(provider.op)) & set(selection.dtypes):
        return ()
    return tuple(
        r
        for r in provider.routes
        if (r in prop.routes or r == "reference")
        and (not selection.routes or r in selection.routes)
    )
