"""What must hold of a plan's formulas: claims that polynomials are 0 or at least 0.

For one consumer rank, one group and one unit of a page at a time. Bytes of the unit are dealt to
*slots* (one unit of a part, one token); the plan's *pieces* must fill all slots, each byte once,
from where the producer's definition has the same unit and token. Pieces and slots come sorted at
sample sizes; that they are sorted at all sizes is one of the claims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from math import lcm

from oracle.observation.proof import ChannelFormulas, GroupFormulas, PathFormulas
from oracle.proofs.definition import Cache, Side, Slot, bases
from oracle.proofs.polynomial import ONE, Poly
from reference.model import Engine, TransferCase

Rank = tuple[int, int]
LIMIT = 1 << 64


@dataclass(frozen=True, slots=True)
class Claim:
    """`value` is 0, or where `at_least` is set no less than that, at all sizes.

    `kind` is the slug of what is wrong where it is not.
    """

    kind: str
    value: Poly
    at_least: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """The claims about one unit on one consumer rank."""

    rank: Rank
    group: int
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of bytes that a plan copies for one unit, by the addresses on both sides."""

    source_rank: Rank
    source: Poly
    target: Poly
    length: Poly
    times: Poly


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """A producer's rank: where its tensors begin and end, their page in question, and slots."""

    bases: tuple[Poly, ...]
    ends: tuple[Poly, ...]
    pages: tuple[Poly, ...]
    slots: Mapping[tuple[int, str, int, int], Slot]

    @staticmethod
    def of(side: Cache, rank: Rank, slots: list[Slot]) -> _Held:
        blocks, page = Poly.symbol(f"n.{side.name}"), Poly.symbol(f"page.{side.name}")
        first, strides = bases(side, rank), side.strides(rank[0])
        return _Held(
            first,
            tuple(base + stride * blocks for base, stride in zip(first, strides, strict=True)),
            tuple(base + stride * page for base, stride in zip(first, strides, strict=True)),
            {(s.layer, s.part, s.unit, s.token): s for s in slots},
        )


def problems(case: TransferCase, path: PathFormulas) -> Iterator[Problem]:
    """All that must hold on one path through the planner."""
    sides = Side("P", case.producer, case, path.zero), Side("D", case.consumer, case, path.zero)
    tokens = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    # The ranks of the case, not those that the plan names: one that it forgets gets nothing.
    for rank in product(range(len(case.consumer.stage_layers)), range(case.consumer.tp)):
        channels = path.channels.get(rank, ())
        for g, group in enumerate(case.model.groups):
            engines = (case.producer, case.consumer)
            per = (1, 1) if group.is_state else units_per_page(engines, tokens)
            for unit in pairs_of_units(per):
                claims = Unit(sides, path, rank, channels, g, tokens, per, unit).claims()
                yield Problem(rank, g, tuple(dict.fromkeys(claims)))


def units_per_page(engines: tuple[Engine, Engine], tokens: int) -> tuple[int, int]:
    """Units of so many tokens in a page of either engine."""
    return engines[0].block_tokens // tokens, engines[1].block_tokens // tokens


def pairs_of_units(per: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Which unit of a producer's page can meet which one of a consumer's."""
    for at in range(lcm(*per)):
        yield at % per[0], at % per[1]


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a page: `per` units are in a page, `unit` is which, on producer and consumer."""

    sides: tuple[Cache, Cache]
    path: PathFormulas
    rank: Rank
    channels: tuple[ChannelFormulas, ...]
    group: int
    tokens: int
    per: tuple[int, int]
    unit: tuple[int, int]

    def claims(self) -> Iterator[Claim]:
        yield from self._strides()
        pieces: list[_Piece] = []
        for channel in self.channels:
            for consumer, producer in zip(channel.consumer, channel.producer, strict=True):
                if consumer.group != self.group:
                    continue
                targets = list(self._blocks(consumer, 1))
                sources = list(self._blocks(producer, 0))
                if len(targets) != len(sources):
                    yield Claim("does-not-pair", Poly({(): 1}), False)
                    return
                for each, formulas in ((1, consumer), (0, producer)):
                    yield from self._row_claims(formulas, each)
                for (target, length), (source, read) in zip(targets, sources, strict=True):
                    yield Claim("does-not-pair", length - read, False)
                    pieces.append(_Piece(channel.source, source, target, length, consumer.times))
        yield from self._cover(pieces)

    def _strides(self) -> Iterator[Claim]:
        for side in self.sides:
            for stage in range(side.stages):
                found, wanted = self.path.strides.get((side.name, stage)), side.strides(stage)
                if found is None or len(found) != len(wanted):
                    yield Claim("page-size", Poly({(): 1}), False)
                    continue
                for one, two in zip(found, wanted, strict=True):
                    yield Claim("page-size", _bound(one, self.path) - two, False)

    def _step(self, formulas: GroupFormulas, side: int) -> Poly:
        """The block of its row that the unit is."""
        page = Poly.symbol(f"page.{self.sides[side].name}")
        each, rest = divmod(self.per[side], formulas.inner)
        if rest:
            return Poly.symbol("no-such-block")
        return page * each + self.unit[side] // formulas.inner

    def _blocks(self, formulas: GroupFormulas, side: int) -> Iterator[tuple[Poly, Poly]]:
        """Address and length of the unit in each piece."""
        step = self._step(formulas, side)
        for row in formulas.rows[self.unit[side] % formulas.inner :: formulas.inner]:
            address, length, stride, _ = (_bound(value, self.path) for value in row)
            yield address + step * stride, length

    def _row_claims(self, formulas: GroupFormulas, side: int) -> Iterator[Claim]:
        """The unit is a block of its row, rows end below 2^64, ids begin where rows do."""
        for found, wanted in (
            (formulas.first, formulas.before),
            (formulas.per_piece, formulas.count * formulas.inner),
            *((row[3], formulas.count) for row in formulas.rows),
        ):
            yield Claim("wrong-id", _bound(found - wanted, self.path), at_least=False)
        step = self._step(formulas, side)
        for row in formulas.rows[self.unit[side] % formulas.inner :: formulas.inner]:
            address, length, stride, count = (_bound(value, self.path) for value in row)
            yield Claim("beyond-its-row", count - 1 - step, at_least=True)
            yield Claim("wraps", LIMIT - address - stride * (count - 1) - length, at_least=True)

    def _cover(self, pieces: list[_Piece]) -> Iterator[Claim]:
        producer, consumer = self.sides
        slots = consumer.slots(self.rank, self.group, unit_tokens=self.tokens, at=self.unit[1])
        if slots and not pieces:
            yield Claim("uncovered", Poly({(): 1}), at_least=False)
            return
        ours = bases(consumer, self.rank)
        strides = consumer.strides(self.rank[0])
        page = Poly.symbol("page.D")
        total = sum((s.length * s.times for s in slots), Poly({}))
        total = total - sum((p.length * p.times for p in pieces), Poly({}))
        yield Claim("covered-twice-or-outside", total, at_least=False)
        sample = _sample(pieces, slots, self.path.conditions)
        ordered = sorted(pieces, key=lambda piece: piece.target.at(sample))
        # Where a piece stands for many, that all slots are met and nothing is left must do.
        alone = all(piece.times == ONE for piece in pieces)
        for one, two in pairwise(ordered) if alone else ():
            yield Claim("covered-twice", two.target - one.target - one.length, at_least=True)
        held: dict[Rank, _Held] = {}
        inside: set[tuple[int, int]] = set()
        at = 0
        placed = [(ours[s.tensor] + page * strides[s.tensor] + s.offset, s) for s in slots]
        for target, slot in sorted(placed, key=lambda pair: pair[0].at(sample)):
            first = target.at(sample)
            while at < len(ordered) - 1 and _end(ordered[at], sample) <= first:
                at += 1
            # Where none has it, claims of the next fail, at sizes that can be run.
            piece = ordered[at]
            yield Claim("uncovered", target - piece.target, at_least=True)
            rest = piece.target + piece.length - target - slot.length
            yield Claim("uncovered", rest, at_least=True)
            source_rank = piece.source_rank
            if source_rank not in held:
                slots_there = producer.slots(
                    source_rank, self.group, unit_tokens=self.tokens, at=self.unit[0]
                )
                held[source_rank] = _Held.of(producer, source_rank, slots_there)
            there = held[source_rank]
            origin = there.slots.get((slot.layer, slot.part, slot.unit, slot.token))
            if origin is None:
                yield Claim("wrong-source", Poly({(): 1}), at_least=False)
                return
            if (at, origin.tensor) not in inside:
                inside.add((at, origin.tensor))
                base, end = there.bases[origin.tensor], there.ends[origin.tensor]
                yield Claim("read-outside", piece.source - base, at_least=True)
                yield Claim("read-outside", end - piece.source - piece.length, at_least=True)
            # The byte that a piece brings to a slot is the same one of the producer's.
            found = piece.source + target - piece.target
            origins = there.pages[origin.tensor] + origin.offset
            yield Claim("wrong-source", found - origins, at_least=False)


def _bound(value: Poly, path: PathFormulas) -> Poly:
    """Without the symbols that are 0 on this path."""
    if not path.zero:
        return value
    return Poly({m: c for m, c in value.terms.items() if not path.zero.intersection(m)})


def _sample(
    pieces: list[_Piece], slots: list[Slot], conditions: tuple[Poly, ...]
) -> Mapping[str, int]:
    """Some sizes at which to sort: units of odd lengths, everything else apart, if that may be."""
    values = [value for piece in pieces for value in (piece.target, piece.length)]
    values += [value for slot in slots for value in (slot.offset, slot.length)]
    names = sorted({s for value in (*values, *conditions) for m in value.terms for s in m})
    samples = [_Sizes({name: 3 + step * i for i, name in enumerate(names)}) for step in (2, 0, -2)]
    meeting = (s for s in samples if all(value.at(s) >= 0 for value in conditions))
    return next(meeting, samples[0])


class _Sizes(dict[str, int]):
    """Sizes for symbols; those that no piece has are as good as any."""

    def __missing__(self, symbol: str) -> int:
        return 1


def _end(piece: _Piece, sample: Mapping[str, int]) -> int:
    return piece.target.at(sample) + piece.length.at(sample)
