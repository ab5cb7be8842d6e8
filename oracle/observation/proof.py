"""What a subject reports where a plan is to be proved instead of run: its formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oracle.proofs.polynomial import Poly

from .call import Raised
from .transfer import Rank

Row = tuple[Poly, Poly, Poly, Poly]
"""First address, length, stride and count of a row of descriptors."""


@dataclass(frozen=True, eq=False, slots=True)
class GroupFormulas:
    """The rows of one group on one channel, piece by piece, `inner` rows for each piece.

    Unit q is block ``q // inner`` of row ``q % inner`` of its piece; `first` is the id that the
    plan gives to unit 0 of the first piece, `before` counts the blocks of earlier rows.
    """

    group: int
    rows: tuple[Row, ...]
    inner: int
    first: Poly
    before: Poly


@dataclass(frozen=True, eq=False, slots=True)
class ChannelFormulas:
    """What a consumer rank reads from one producer rank: both sides, group by group."""

    source: Rank
    consumer: tuple[GroupFormulas, ...]
    producer: tuple[GroupFormulas, ...]


@dataclass(frozen=True, eq=False, slots=True)
class PathFormulas:
    """The plans of all consumer ranks where the symbols `zero` are 0 and `conditions` at least 0.

    `refused` is what the planner raised there; then there are no channels.
    Pages of tensors are `strides` bytes long, by side ("P" or "D") and stage.
    """

    zero: frozenset[str]
    channels: Mapping[Rank, tuple[ChannelFormulas, ...]]
    strides: Mapping[tuple[str, int], tuple[Poly, ...]]
    conditions: tuple[Poly, ...] = ()
    refused: Raised | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Proof:
    """The formulas of every path through the planner. Symbols:

    ``u.N.name`` bytes of a unit of a part of group N, ``n.P`` and ``n.D`` blocks, ``w.P`` and
    ``w.D`` bytes of padding, ``b.SIDE.STAGE.RANK`` the address of a rank's first tensor, and
    ``g.SIDE.T`` the bytes between tensor T and the one before. `least` are their lower bounds
    above 0; `assumed` are polynomials that are at least 0: memory ends a page below 2^64.
    """

    paths: tuple[PathFormulas, ...]
    least: Mapping[str, int]
    assumed: tuple[Poly, ...]
