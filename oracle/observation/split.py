"""What a subject reports of who reads what from whom, rank by rank."""

from __future__ import annotations

from dataclasses import dataclass

Run = tuple[int, int, int, int]
"""A producer rank, the first of its units that is read, the slot that it gets, and how many."""


@dataclass(frozen=True, slots=True)
class PartSplit:
    """Of one part: units held by each rank of either side, and the runs that fill one rank's."""

    producer_holds: int
    consumer_holds: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class RankSplit:
    """What one consumer rank reads, part by part of each group, and the ranks that it notifies.

    Each of those waits for `awaited` notifications from consumers of one stage.
    """

    groups: tuple[tuple[PartSplit, ...], ...]
    notified: tuple[int, ...]
    awaited: int


@dataclass(frozen=True, slots=True)
class Split:
    """One topology: what each consumer rank reads."""

    ranks: tuple[RankSplit, ...]
