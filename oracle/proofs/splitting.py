"""What must hold of the map of ranks of one topology. All numbers are known: it is counted out.

Every unit that a consumer rank holds is filled by one run, from where the producer's rank holds
that unit. Together with `oracle.proofs.copying`, which says that a run is copied as it must be
whatever its numbers are, this proves the plans of a topology for all layouts and sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from oracle.observation.split import PartSplit, RankSplit, Split
from oracle.proofs.definition import units_of
from oracle.proofs.outcome import Proved, Refuted
from oracle.proofs.ways import sides_with_copies, ways_of
from reference.model import CachedGroup, CachedPart, TransferCase
from reference.transfer.expected import facing


def prove_split(case: TransferCase, split: Split) -> Proved:
    """Whether every unit comes once and from its place, and everyone concerned is told."""
    claims, unknown, ranks = 1, "", case.consumer.tp
    if len(split.ranks) != ranks:
        # The ranks of the case, not those that the map names: one that it forgets gets nothing.
        fewer = len(split.ranks) < ranks
        refuted = Refuted(
            kind="uncovered" if fewer else "covered-twice-or-outside",
            rank=(0, min(len(split.ranks), ranks)),
            group=0,
            sizes={},
        )
        return Proved(claims=claims, refuted=refuted)
    for rank, found in enumerate(split.ranks):
        for g, group in enumerate(case.model.groups):
            for part, of in zip(group.parts, found.groups[g], strict=True):
                for kind, holds in _claims(case, part, of, rank):
                    claims += 1
                    if not holds:
                        refuted = Refuted(kind=kind, rank=(0, rank), group=g, sizes={})
                        return Proved(claims=claims, refuted=refuted)
            if not _is_copied_so(case, group, found.groups[g]):
                unknown = "no-such-copy"
    for kind, rank, holds in _told(case, split.ranks):
        claims += 1
        if not holds:
            return Proved(
                claims=claims, refuted=Refuted(kind=kind, rank=(0, rank), group=0, sizes={})
            )
    return Proved(claims=claims, unknown=unknown)


def _claims(
    case: TransferCase, part: CachedPart, found: PartSplit, rank: int
) -> Iterator[tuple[str, bool]]:
    """What is claimed of one part on one consumer rank, and whether it holds."""
    theirs, ours = (units_of(part.units, engine.tp) for engine in (case.producer, case.consumer))
    wanted = ours[rank]
    yield "page-size", found.producer_holds == len(theirs[0])
    yield "page-size", found.consumer_holds == len(wanted)
    runs = sorted(found.runs, key=lambda run: run[2])
    yield "uncovered", bool(runs) and runs[0][2] == 0
    for (_, _, put, count), (_, _, after, _) in pairwise(runs):
        yield "covered-twice", after >= put + count
        yield "uncovered", after <= put + count
    yield "covered-twice-or-outside", sum(count for *_, count in runs) == len(wanted)
    for source, take, put, count in runs:
        inside = 0 <= source < len(theirs) and take >= 0 and take + count <= len(theirs[source])
        yield "read-outside", count > 0 and inside
        yield "wrong-source", theirs[source][take : take + count] == wanted[put : put + count]


def _is_copied_so(case: TransferCase, group: CachedGroup, found: tuple[PartSplit, ...]) -> bool:
    """Whether what one rank copies from another is a way to copy that is proved: one run at most
    of each part, and of those parts."""
    sides = sides_with_copies(group, (case.producer.tp, case.consumer.tp))
    ways = {parts for copied, parts in ways_of(group) if sides == {copied}}
    read: dict[int, list[str]] = {}
    for part, of in zip(group.parts, found, strict=True):
        for source, *_ in of.runs:
            read.setdefault(source, []).append(part.name)
    return all(tuple(parts) in ways for parts in read.values())


def _told(case: TransferCase, ranks: tuple[RankSplit, ...]) -> Iterator[tuple[str, int, bool]]:
    """Every producer rank whose share overlaps is told once, read or not, and waits for all."""
    pairs = facing(case.producer.tp, case.consumer.tp)
    awaited = Counter(producer for producer, _ in pairs)
    for rank, found in enumerate(ranks):
        told = Counter(found.notified)
        wanted = {producer for producer, consumer in pairs if consumer == rank}
        yield "not-notified", rank, wanted <= set(told)
        yield "notified-wrongly", rank, told == Counter(wanted)
        yield "notified-wrongly", rank, all(awaited[p] == found.awaited for p in wanted)
        reading = {source for group in found.groups for part in group for source, *_ in part.runs}
        yield "not-notified", rank, reading <= set(told)
