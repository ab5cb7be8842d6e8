"""Where every byte of a cache lies, as formulas, from the definition of the layouts.

Independent of the planner: heads are dealt out by repeating and splitting, as `reference.transfer`
does it, and addresses follow from what comes before a byte in a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

from oracle.proofs.polynomial import ONE, Poly
from reference.model import CachedGroup, Engine, TransferCase

Rank = tuple[int, int]


@cache
def units_of(units: int, tp: int) -> tuple[tuple[int, ...], ...]:
    """The units on each of `tp` ranks: each repeated until there are enough, then split evenly."""
    axis = [unit for unit in range(units) for _ in range(max(1, tp // units))]
    size = len(axis) // tp
    return tuple(tuple(axis[rank * size : (rank + 1) * size]) for rank in range(tp))


@dataclass(frozen=True, slots=True)
class Slot:
    """One unit of one part for one token of a transfer's unit: `bytes` from the page's start.

    `unit` is its number in the unsharded cache, `tensor` the one it lies on. A slot stands for
    `times` where its offset has the index of any of them as a symbol.
    """

    layer: int
    part: str
    unit: int
    token: int
    tensor: int
    offset: Poly
    length: Poly
    times: Poly = ONE


class Cache(Protocol):
    """One side of a transfer, as claims need it."""

    name: str
    stages: int

    def strides(self, stage: int) -> tuple[Poly, ...]:
        """Bytes from page to page of each tensor."""
        ...

    def slots(self, rank: Rank, g: int, *, unit_tokens: int, at: int) -> list[Slot]:
        """The slots of the `at`-th unit of a page, of all layers of a group on a rank."""
        ...


class Side:
    """One engine of a case with its symbols: pages of tensors, and slots in them."""

    def __init__(self, name: str, engine: Engine, case: TransferCase, zero: frozenset[str]) -> None:
        self.name = name
        self.stages = len(engine.stage_layers)
        self._engine = engine
        self._case = case
        self._padding = Poly({}) if f"w.{name}" in zero else Poly.symbol(f"w.{name}")

    def _unit(self, group: int, part: str) -> Poly:
        return Poly.symbol(f"u.{group}.{part}")

    def _held(self, units: int) -> int:
        return len(units_of(units, self._engine.tp)[0])

    def _lengths(self, g: int, group: CachedGroup) -> list[Poly]:
        """Bytes of each part on a rank: of one state, or in one kernel block."""
        tokens = 1 if group.is_state else self._engine.kernel_tokens
        return [
            self._unit(g, part.name) * (self._held(part.units) * tokens) for part in group.parts
        ]

    @property
    def kernels(self) -> int:
        """Kernel blocks in a page of attention."""
        return self._engine.block_tokens // self._engine.kernel_tokens

    def strides(self, stage: int) -> tuple[Poly, ...]:
        """Bytes from page to page of each tensor."""
        found = []
        for g, group in enumerate(self._case.model.groups):
            lengths = self._lengths(g, group)
            together = group.is_state or self._engine.blocks_first
            kernels = 1 if group.is_state else self.kernels
            pages = [sum(lengths, Poly({}))] if together else lengths
            for layer in group.layers:
                if self._engine.stage_of(layer) == stage:
                    found += [page * kernels + self._padding for page in pages]
        return tuple(found)

    def _first_tensor(self, stage: int, g: int, layer: int) -> int:
        at = 0
        for number, group in enumerate(self._case.model.groups):
            together = group.is_state or self._engine.blocks_first
            for each in group.layers:
                if (number, each) == (g, layer):
                    return at
                if self._engine.stage_of(each) == stage:
                    at += 1 if together else len(group.parts)
        raise KeyError(f"layer {layer} of group {g}")

    def slots(self, rank: Rank, g: int, *, unit_tokens: int, at: int) -> list[Slot]:
        """The slots of the `at`-th unit of a page, of all layers of a group on a rank.

        The unit of a state is its page.
        """
        stage, tp_rank = rank
        group = self._case.model.groups[g]
        lengths = self._lengths(g, group)
        found = []
        for layer in group.layers:
            if self._engine.stage_of(layer) != stage:
                continue
            first = self._first_tensor(stage, g, layer)
            for p, part in enumerate(group.parts):
                held = units_of(part.units, self._engine.tp)[tp_rank]
                size = self._unit(g, part.name)
                if group.is_state or self._engine.blocks_first:
                    tensor, before = first, sum(lengths[:p], Poly({}))
                    block = sum(lengths, Poly({}))
                else:
                    tensor, before, block = first + p, Poly({}), lengths[p]
                tokens = range(1) if group.is_state else range(unit_tokens)
                for token in tokens:
                    kernel, inside = divmod(at * unit_tokens + token, self._engine.kernel_tokens)
                    for slot, unit in enumerate(held):
                        if group.is_state:
                            offset = before + size * slot
                        elif self._engine.layout == "HND":
                            step = slot * self._engine.kernel_tokens + inside
                            offset = block * kernel + before + size * step
                        else:
                            step = inside * len(held) + slot
                            offset = block * kernel + before + size * step
                        found.append(Slot(layer, part.name, unit, token, tensor, offset, size))
        return found


def bases(side: Cache, rank: Rank) -> tuple[Poly, ...]:
    """The addresses of a rank's tensors, in the symbols of `oracle.observation.proof.Proof`."""
    at, found = Poly.symbol(f"b.{side.name}.{rank[0]}.{rank[1]}"), []
    for tensor, stride in enumerate(side.strides(rank[0])):
        if tensor:
            at = at + Poly.symbol(f"g.{side.name}.{tensor}")
        found.append(at)
        at = at + stride * Poly.symbol(f"n.{side.name}")
    return tuple(found)
