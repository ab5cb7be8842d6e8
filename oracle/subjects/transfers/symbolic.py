"""Route ``proved``: the planner itself, run on symbols instead of numbers.

Sizes that a plan must be right for, whatever they are, are polynomials here: bytes per unit,
numbers of blocks, padding and with it strides, addresses. What decides how the plan looks stays a
number: heads, ranks, tokens per block. ``ir`` runs unchanged but for NumPy's 64-bit integers,
which cannot hold a symbol: for the time of a run its arrays hold objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.observation import Declined, Raised
from oracle.observation.proof import (
    NO_POLYNOMIAL,
    ChannelFormulas,
    GroupFormulas,
    PathFormulas,
    Proof,
    Row,
)
from oracle.proofs.paths import ImpossibleError, Path, UndecidableError, paths_through
from oracle.proofs.polynomial import Poly
from reference.model import TransferCase
from reference.transfer import refused_pair

from .convert import as_engine, as_model

if TYPE_CHECKING:
    from ir.transfer import EngineGeometry

ADDRESS_LIMIT = 1 << 64


def formulas(case: TransferCase) -> Proof | Raised | Declined:
    """The formulas of the plans of all consumer ranks, or what the planner raised everywhere."""
    try:
        found = _all_paths(case)
    except UndecidableError:
        return NO_POLYNOMIAL
    if isinstance(found, Proof) and found.paths:
        refused = [path.refused for path in found.paths]
        if refused[0] is not None and all(refused):
            return refused[0]
    return found


def _all_paths(case: TransferCase) -> Proof | Declined:
    if refused_pair(case) is not None:
        return Declined("no-plan-to-prove")
    if case.producer.shares_tensors or case.consumer.shares_tensors:
        return Declined("shared-tensors-not-symbolic")
    assumed: list[Poly] = []

    def run(path: Path) -> PathFormulas:
        try:
            producer, consumer = _engines(case)
            found = _formulas(producer, consumer, path)
        except (UndecidableError, ImpossibleError):
            raise
        except Exception as error:  # what the subject raises is an observation
            bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
            raised = Raised(type(error).__name__, bases, str(error))
            found = PathFormulas(frozenset(), {}, {}, refused=raised)
        assumed.extend(path.assumed.values())
        return replace(found, zero=frozenset(path.zero), conditions=tuple(path.conditions))

    least = _least(case)
    with objects_in_arrays():
        paths = tuple(found for _, found in paths_through(lambda: Path(least), run))
    return Proof(paths=paths, least=least, assumed=tuple(dict.fromkeys(assumed)))


def unit_symbol(group: int, part: str) -> str:
    return f"u.{group}.{part}"


def _least(case: TransferCase) -> dict[str, int]:
    """Bounds above 0: a byte per unit, a block of data beside the null block."""
    units = {
        unit_symbol(g, part.name): 1
        for g, group in enumerate(case.model.groups)
        for part in group.parts
    }
    return units | {"n.P": 2, "n.D": 2}


def _engines(case: TransferCase) -> tuple[EngineGeometry, EngineGeometry]:
    model = as_model(case.model)
    groups = tuple(
        replace(
            group,
            parts=tuple(
                replace(part, unit_bytes=Poly.symbol(unit_symbol(g, part.name)))
                for part in group.parts
            ),
        )
        for g, group in enumerate(model.groups)
    )
    model = replace(model, groups=groups)
    sides = (("P", case.producer, case.producer_id), ("D", case.consumer, case.consumer_id))
    producer, consumer = (
        as_engine(
            replace(
                engine,
                num_blocks=Poly.symbol(f"n.{side}"),
                page_padding=Poly.symbol(f"w.{side}"),
            ),
            model,
            name,
        )
        for side, engine, name in sides
    )
    return producer, consumer


def bases_below_limit(first: str, engine: Any, stage: int, path: Path) -> tuple[Poly, ...]:
    """The tensors of a rank one after the other, with any gaps, ending a page below 2^64.

    `first` is the symbol of the first one's address.
    """
    side = first.split(".")[1]
    at, bases = Poly.symbol(first), []
    for tensor, stride in enumerate(engine.page_strides(stage)):
        if tensor:
            at = at + Poly.symbol(f"g.{side}.{tensor}")
        bases.append(at)
        at = at + stride * engine.num_blocks
    # A page of each kind, which is no shorter than the longest; layers are alike.
    longest = sum(dict.fromkeys(engine.page_strides(stage)), Poly({}))
    path.assumed[first] = ADDRESS_LIMIT - at - longest
    return tuple(bases)


def _bases(side: str, engine: Any, worker: Any, path: Path) -> tuple[Poly, ...]:
    first = f"b.{side}.{worker.stage}.{worker.rank}"
    return bases_below_limit(first, engine, worker.stage, path)


def _formulas(producer: Any, consumer: Any, path: Path) -> PathFormulas:
    """The engines have symbols where their class has numbers."""
    from ir.transfer import plan as planning

    p_bases: Any = {w: _bases("P", producer, w, path) for w in producer.workers}
    channels, pair = {}, planning.meet(producer, consumer)
    for worker in consumer.workers:
        bases: Any = _bases("D", consumer, worker, path)
        plan = planning.plan_transfer(
            producer,
            consumer,
            worker,
            pair=pair,
            producer_bases=p_bases,
            consumer_bases=bases,
        )
        channels[worker.stage, worker.rank] = tuple(_channel(c) for c in plan.channels)
    strides = {
        (side, stage): engine.page_strides(stage)
        for side, engine in (("P", producer), ("D", consumer))
        for stage in range(len(engine.stage_layers))
    }
    return PathFormulas(frozenset(), channels, strides)


def _channel(channel: Any) -> ChannelFormulas:
    return ChannelFormulas(
        (channel.source.stage, channel.source.rank),
        _groups(channel.consumer_rows, channel.groups, "consumer"),
        _groups(channel.producer_rows, channel.groups, "producer"),
    )


def rows_of(rows: np.ndarray) -> tuple[Row, ...]:
    """Rows of descriptors without their devices."""
    return tuple(
        (Poly.of(row[0]), Poly.of(row[1]), Poly.of(row[3]), Poly.of(row[4])) for row in rows
    )


def _groups(rows: np.ndarray, groups: Any, side: str) -> tuple[GroupFormulas, ...]:
    found, at, before = [], 0, Poly({})
    for each in groups:
        grid = getattr(each, f"{side}_grid")
        inner = len(grid.inner)
        count = each.pieces * inner
        mine = rows_of(rows[at : at + count])
        first = Poly.of(getattr(each, f"{side}_first"))
        steps = Poly.of(grid.count), Poly.of(grid.blocks_per_piece)
        found.append(GroupFormulas(each.group, mine, inner, first, before, *steps))
        before = before + sum((row[3] for row in mine), Poly({}))
        at += count
    return tuple(found)


@contextmanager
def objects_in_arrays() -> Iterator[None]:
    """NumPy in ``ir.transfer.descriptors`` with objects for its 64-bit integers."""
    from ir.transfer import descriptors

    kept = descriptors.np
    descriptors.np = SimpleNamespace(**(vars(np) | {"uint64": object, "int64": object}))
    try:
        yield
    finally:
        descriptors.np = kept
