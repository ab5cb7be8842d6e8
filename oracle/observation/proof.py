"""What a subject reports where a plan is to be proved instead of run: its formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oracle.proofs.polynomial import ONE, Poly

from .call import Raised
from .transfer import Rank

Row = tuple[Poly, Poly, Poly, Poly]
"""First address, length, stride and count of a row of descriptors."""


@dataclass(frozen=True, eq=False, slots=True)
class GroupFormulas:
    """The rows of one group on one channel, piece by piece, `inner` rows for each piece.

    Unit q is block ``q // inner`` of row ``q % inner`` of its piece; `first` is the id that the
    plan gives to unit 0 of the first piece, `before` counts the blocks of earlier rows. A row
    stands for `times` rows where its address has the index of any of them as a symbol. Ids step
    by `count` from row to row and by `per_piece` from piece to piece.
    """

    group: int
    rows: tuple[Row, ...]
    inner: int
    first: Poly
    before: Poly
    count: Poly
    per_piece: Poly
    times: Poly = ONE


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
    Pages of tensors are `strides` bytes long, by side ("P" or "D") and stage. `told` says whether
    a producer's rank hears of a request's end, where there is but one.
    """

    zero: frozenset[str]
    channels: Mapping[Rank, tuple[ChannelFormulas, ...]]
    strides: Mapping[tuple[str, int], tuple[Poly, ...]]
    conditions: tuple[Poly, ...] = ()
    refused: Raised | None = None
    told: bool | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Proof:
    """The formulas of every path through the planner. Symbols:

    ``u.N.name`` bytes of a unit of a part of group N, ``n.P`` and ``n.D`` blocks, ``w.P`` and
    ``w.D`` bytes of padding, ``b.SIDE.STAGE.RANK`` the address of a rank's first tensor, and
    ``g.SIDE.T`` the bytes between tensor T and the one before. `least` are their lower bounds
    above 0; `assumed` are polynomials that are at least 0: memory ends a page below 2^64.
    `unknown` says why there are no formulas, where the planner asked what symbols cannot answer.
    """

    paths: tuple[PathFormulas, ...]
    least: Mapping[str, int]
    assumed: tuple[Poly, ...]
    unknown: str = ""


NO_POLYNOMIAL = Proof(paths=(), least={}, assumed=(), unknown="no-polynomial")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Copying:
    """One of the ways in which a rank may hold what it copies, and the formulas for it.

    `copied` are the sides with more ranks than units, whose ranks hold one unit each, the same as
    their neighbours; `parts` are those that come from the rank in question.
    """

    copied: tuple[str, ...]
    parts: tuple[str, ...]
    proof: Proof


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Copies:
    """What any consumer rank copies from any producer rank, whatever either of them holds.

    Beside the symbols of `Proof`, for each axis A (`axis_of`) along which parts are split: ``x.A``
    and ``y.A``, where ``1 + x + y`` units are copied and x is the index of one of them; ``take.A``
    and ``left.P.A`` units of the producer's rank before and after those, ``put.A`` and
    ``left.D.A`` of the consumer's. ``1 + a + b`` tokens are in a unit, a is the index of one.
    """

    ways: tuple[Copying, ...]


def axis_of(kind_is_state: bool, part: str) -> str:
    """The axis along which tensor parallelism splits a part: heads, or of a state its own."""
    return part if kind_is_state else "heads"
