"""One for all in lists whose length is a symbol: pieces by heads or tokens.

Where ``ir.transfer`` lists pieces, one piece with the index of any head and any token stands for
all of them; `len` of such a list counts what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from oracle.proofs.paths import UndecidableError
from oracle.proofs.polynomial import ONE, Poly


class Families:
    """What stands for lists of symbolic length while the planner runs.

    `extents` are the lengths that there may be, each with the index of any item.
    """

    def __init__(self, extents: Sequence[tuple[Poly, Poly]], piece: Any) -> None:
        self._piece = piece
        self._extents = extents
        self._times: Poly = ONE

    def _lengths(self) -> list[tuple[Poly, Poly]]:
        return [(length.bound(), index.bound()) for length, index in self._extents]

    def range(self, stop: Poly | int) -> range | _Any:
        """``range(stop)``: where `stop` is no number, any index below it."""
        length = Poly.of(stop).bound()
        number = length.number()
        if number is not None:
            return range(number)
        for extent, index in self._lengths():
            if extent.terms == length.terms:
                return _Any(index, extent)
        raise UndecidableError(f"range({length}); accepted: the units copied, or tokens of a unit")

    def product(self, *ranges: range | _Any) -> Iterator[tuple[Poly | int, ...]]:
        """``itertools.product``; its items stand for as many as the extents multiply to."""
        self._times = prod((r.extent for r in ranges if isinstance(r, _Any)), start=ONE)
        return product(*((r.index,) if isinstance(r, _Any) else r for r in ranges))

    def piece(self, source: Any, target: Any, length: Any) -> Any:
        """``Piece``, whose offsets know how many they stand for."""
        return self._piece(_Offset(source, self._times), _Offset(target, self._times), length)

    def length(self, items: Any) -> Any:
        """``len``: of offsets, how many they stand for."""
        offsets = [item for item in items if isinstance(item, _Offset)]
        if not offsets or len(offsets) < len(items):
            return len(items)
        return sum(offset.times for offset in offsets)

    def times(self, pieces: Poly | int) -> tuple[int, Poly]:
        """How many rows there are for `pieces` pieces, and how many pieces each stands for."""
        left, times = Poly.of(pieces).bound(), ONE
        for extent, _ in self._lengths():
            if extent.number() is None and left.number() is None:
                try:
                    left, times = left // extent, times * extent
                except UndecidableError:
                    continue
        number = left.number()
        if number is None:
            raise UndecidableError(f"{pieces} pieces; accepted: a number times units and tokens")
        return number, times


@dataclass(frozen=True, slots=True)
class _Any:
    """Any index below `extent`, in place of all of them."""

    index: Poly
    extent: Poly

    def __iter__(self) -> Iterator[Poly]:
        raise UndecidableError(f"a loop of {self.extent} steps; accepted: pieces alone")


class _Pieces(tuple[Any, ...]):
    """``tuple``: its length is no number where items stand for several."""

    def __getitem__(self, at: Any) -> Any:
        # Any one has the common length; a part of them is known only where the number is.
        return super().__getitem__(at if at == 0 else self._numbered(at))

    def __len__(self) -> int:
        return self._numbered(super().__len__())

    def _numbered(self, answer: Any) -> Any:
        for item in self:
            offset = getattr(item, "target", None)
            if isinstance(offset, _Offset) and offset.times.bound().number() is None:
                raise UndecidableError(f"one of {offset.times} pieces; accepted: the first")
        return answer


class _Offset(Poly):
    """An offset of any of `times` pieces."""

    __slots__ = ("times",)

    def __init__(self, offset: Poly | int, times: Poly) -> None:
        super().__init__(Poly.of(offset).terms)
        self.times = times


@contextmanager
def one_for_all(extents: Sequence[tuple[Poly, Poly]]) -> Iterator[Families]:
    """One for all in ``ir.transfer``'s lists of pieces."""
    from ir.transfer import channel, descriptors

    kept = descriptors.product, descriptors.Piece
    families = Families(extents, descriptors.Piece)
    names: Any = descriptors, channel
    names[0].range, names[0].tuple = families.range, _Pieces
    names[0].product, names[0].Piece = families.product, families.piece
    names[1].len = families.length
    try:
        yield families
    finally:
        names[0].product, names[0].Piece = kept
        del names[0].range, names[0].tuple, names[1].len
