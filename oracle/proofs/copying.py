"""What must hold of any rank that copies from any other, whatever the two of them hold.

The bytes of a part that are copied are dealt to one slot: that of any unit and any token. As its
index is a symbol, what holds of the slot holds of all; the bytes of all are counted with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from oracle.observation.proof import Copying, GroupFormulas, PathFormulas, axis_of
from oracle.proofs.claims import Claim, Problem, Unit, pairs_of_units, units_per_page
from oracle.proofs.definition import Rank, Slot
from oracle.proofs.polynomial import Poly
from reference.model import CachedPart, Engine, TransferCase

RANK: Rank = (0, 0)
"""What the one rank on either side is called: which one it is is a symbol, and meets nobody."""


class AnyRank:
    """Any rank of one engine of a case with one group: pages of tensors, and slots in them."""

    def __init__(
        self, name: str, engine: Engine, case: TransferCase, way: Copying, zero: frozenset[str]
    ) -> None:
        self.name = name
        self.stages = 1
        self._engine = engine
        self._group = case.model.groups[0]
        self._way = way
        self._zero = zero
        unit = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
        self._per_kernel = engine.kernel_tokens // unit
        self._kernels = engine.block_tokens // engine.kernel_tokens

    def _symbol(self, name: str) -> Poly:
        return Poly({}) if name in self._zero else Poly.symbol(name)

    def _copied(self, part: CachedPart) -> tuple[str, ...]:
        return () if part.always_sharded else self._way.copied

    def _along(self, part: CachedPart, name: str, *, unless: tuple[str, ...]) -> Poly:
        """A number of units, which is 0 where a rank holds one as a copy."""
        if set(unless) & set(self._copied(part)):
            return Poly({})
        return self._symbol(f"{name}.{axis_of(self._group.is_state, part.name)}")

    def _index(self, part: CachedPart) -> Poly:
        return self._along(part, "x", unless=("P", "D"))

    def _count(self, part: CachedPart) -> Poly:
        return 1 + self._index(part) + self._along(part, "y", unless=("P", "D"))

    def _before(self, part: CachedPart) -> Poly:
        """Units on the rank before those that are copied."""
        name = "take" if self.name == "P" else "put"
        return self._along(part, name, unless=(self.name,))

    def _held(self, part: CachedPart) -> Poly:
        after = self._along(part, f"left.{self.name}", unless=(self.name,))
        return self._before(part) + self._count(part) + after

    @property
    def _tokens(self) -> Poly:
        """In a unit; of a state one, which is all of it."""
        return Poly({(): 1}) if self._group.is_state else 1 + self._symbol("a") + self._symbol("b")

    def _lengths(self) -> list[Poly]:
        """Bytes of each part on a rank: of one state, or in one kernel block."""
        tokens = self._tokens * (1 if self._group.is_state else self._per_kernel)
        return [
            self._symbol(f"u.0.{part.name}") * self._held(part) * tokens
            for part in self._group.parts
        ]

    @property
    def _together(self) -> bool:
        return self._group.is_state or self._engine.blocks_first

    def strides(self, stage: int) -> tuple[Poly, ...]:
        """Bytes from page to page of each tensor."""
        lengths = self._lengths()
        pages = [sum(lengths, Poly({}))] if self._together else lengths
        kernels = 1 if self._group.is_state else self._kernels
        padding = self._symbol(f"w.{self.name}")
        return tuple(page * kernels + padding for _ in self._group.layers for page in pages)

    def slots(self, rank: Rank, g: int, *, unit_tokens: int, at: int) -> list[Slot]:
        """One slot for each layer and part that is copied, for any unit and token of it."""
        lengths, parts = self._lengths(), self._group.parts
        found = []
        for i, layer in enumerate(self._group.layers):
            first = i * (1 if self._together else len(parts))
            for p, part in enumerate(parts):
                if part.name not in self._way.parts:
                    continue
                size = self._symbol(f"u.0.{part.name}")
                unit = self._before(part) + self._index(part)
                tensor = first if self._together else first + p
                start = sum(lengths[:p], Poly({})) if self._together else Poly({})
                block = sum(lengths, Poly({})) if self._together else lengths[p]
                if self._group.is_state:
                    offset = start + size * unit
                else:
                    kernel, inside = divmod(at, self._per_kernel)
                    token = self._tokens * inside + self._symbol("a")
                    if self._engine.layout == "HND":
                        step = unit * self._tokens * self._per_kernel + token
                    else:
                        step = token * self._held(part) + unit
                    offset = block * kernel + start + size * step
                times = self._count(part) * self._tokens
                found.append(Slot(layer, part.name, 0, 0, tensor, offset, size, times))
        return found


def copy_problems(case: TransferCase, way: Copying, path: PathFormulas) -> Iterator[Problem]:
    """All that must hold on one path through the planner, for every unit of a page."""
    engines = (case.producer, case.consumer)
    sides = (
        AnyRank("P", case.producer, case, way, path.zero),
        AnyRank("D", case.consumer, case, way, path.zero),
    )
    tokens = min(engine.kernel_tokens for engine in engines)
    per = (1, 1) if case.model.groups[0].is_state else units_per_page(engines, tokens)
    channels = path.channels[RANK]
    # Read or not, a rank must hear that its blocks are free.
    told = Claim("not-notified", Poly({(): int(not path.told)}), at_least=False)
    yield Problem(RANK, 0, (told,))
    for unit in pairs_of_units(per):
        claims = Unit(sides, path, RANK, channels, 0, tokens, per, unit).claims()
        yield Problem(RANK, 0, tuple(dict.fromkeys(claims)))


def is_even(way: Copying, path: PathFormulas) -> bool:
    """Whether nothing but addresses depends on which unit or token was meant by the index.

    Else one would not stand for all: their number, lengths and strides, and the path itself must
    be the same for each.
    """
    groups: tuple[GroupFormulas, ...] = tuple(
        group
        for channel in path.channels.get(RANK, ())
        for side in (channel.consumer, channel.producer)
        for group in side
    )
    values = [value for group in groups for row in group.rows for value in row[1:]]
    values += [value for group in groups for value in (group.times, group.first)]
    values += path.conditions
    symbols = {s for value in values for m in value.terms for s in m} | path.zero
    axes = {s[2:] for s in symbols if s[:2] in ("x.", "y.")}
    pairs = [("a", "b"), *((f"x.{axis}", f"y.{axis}") for axis in sorted(axes))]
    return all(
        (one in path.zero) == (two in path.zero)
        and all((_moved(value, one, two) - value).terms == {} for value in values)
        for one, two in pairs
    )


def _moved(value: Poly, one: str, two: str) -> Poly:
    """With ``one = 0`` and ``two = one + two``: the same where only their sum matters."""
    found = Poly({})
    for monomial, c in value.terms.items():
        if one in monomial:
            continue
        rest = tuple(s for s in monomial if s != two)
        product = Poly({rest: c})
        for _ in range(monomial.count(two)):
            product = product * Poly({(one,): 1, (two,): 1})
        found = found + product
    return found
