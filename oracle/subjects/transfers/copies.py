"""Route ``proved-copy``: one rank copies from another, with all that they hold as symbols.

As on route ``proved`` the planner runs on symbols; here heads, ranks and tokens per block are
symbols too. The map of ranks is taken as given: any run of units, from anywhere on the producer's
rank to anywhere on the consumer's (route ``proved-split`` shows that a topology's map is such).
Layouts, placements and how many blocks a block of the other side holds are those of the case.
Pieces by heads or tokens are one for all (`.families`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from oracle.observation import Declined, Raised
from oracle.observation.proof import (
    NO_POLYNOMIAL,
    ChannelFormulas,
    Copies,
    Copying,
    GroupFormulas,
    PathFormulas,
    Proof,
    axis_of,
)
from oracle.proofs.paths import ImpossibleError, Path, UndecidableError, paths_through
from oracle.proofs.polynomial import Poly
from reference.model import CachedGroup, TransferCase
from reference.transfer import refused_pair

from .convert import as_engine, as_model
from .families import Families, one_for_all
from .symbolic import bases_below_limit, objects_in_arrays, rows_of

TOKEN, TOKENS = Poly.symbol("a"), Poly({(): 1, ("a",): 1, ("b",): 1})


def copies(case: TransferCase) -> Copies | Declined:
    """The formulas of all ways to copy between the engines of a case with one group."""
    if refused_pair(case) is not None:
        return Declined("no-plan-to-prove")
    if len(case.model.groups) != 1 or case.producer.shares_tensors or case.consumer.shares_tensors:
        return Declined("one-group-alone")
    return Copies(ways=tuple(_way(case, *way) for way in _ways(case.model.groups[0])))


def _ways(group: CachedGroup) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Which sides hold copies, and which parts come from one rank.

    Parts that are always sharded come from all ranks alike, others from the first of its copies.
    """
    every = tuple(part.name for part in group.parts)
    sharded = tuple(part.name for part in group.parts if part.always_sharded)
    sides: tuple[tuple[str, ...], ...] = ((),)
    if sharded != every:
        sides = ((), ("P",), ("D",), ("P", "D"))
    for copied in sides:
        yield copied, every
        if "P" in copied:
            # From a rank whose neighbour holds the same, only what is always sharded.
            yield copied, sharded


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of units: what is copied, and what either rank holds around it."""

    name: str
    copied: tuple[str, ...]

    def _symbol(self, name: str, *, unless: tuple[str, ...]) -> Poly:
        # A rank with a copy holds one unit: there is nothing beside it.
        return Poly({}) if set(unless) & set(self.copied) else Poly.symbol(f"{name}.{self.name}")

    @property
    def index(self) -> Poly:
        return self._symbol("x", unless=("P", "D"))

    @property
    def count(self) -> Poly:
        return 1 + self.index + self._symbol("y", unless=("P", "D"))

    @property
    def take(self) -> Poly:
        return self._symbol("take", unless=("P",))

    @property
    def put(self) -> Poly:
        return self._symbol("put", unless=("D",))

    def held(self, side: str) -> Poly:
        before = self.take if side == "P" else self.put
        return before + self.count + self._symbol(f"left.{side}", unless=(side,))

    def divisions(self) -> dict[tuple[str, str], tuple[Poly, Poly]]:
        """The units on each rank: none where there are more ranks than units."""
        units, found = f"units.{self.name}", {}
        for side in ("P", "D"):
            ranks = f"tp.{side}"
            if side in self.copied:
                found[units, ranks] = Poly({}), Poly.symbol(units)
                found[ranks, units] = Poly.symbol(f"copies.{side}.{self.name}"), Poly({})
            else:
                found[units, ranks] = self.held(side), Poly({})
        return found


def _way(case: TransferCase, copied: tuple[str, ...], parts: tuple[str, ...]) -> Copying:
    group = case.model.groups[0]
    axes = {
        part.name: _Axis(axis_of(group.is_state, part.name), () if part.always_sharded else copied)
        for part in group.parts
    }
    divisions = {k: v for axis in axes.values() for k, v in axis.divisions().items()}
    divisions |= {("q", f"tp.{s}"): (Poly.symbol(f"q.{s}"), Poly({})) for s in ("P", "D")}
    least = {f"u.0.{name}": 1 for name in axes} | {f"units.{a.name}": 1 for a in axes.values()}
    least |= {"n.P": 2, "n.D": 2, "tp.P": 1, "tp.D": 1, "q": 1}
    assumed: list[Poly] = []
    extents = [*dict.fromkeys((a.count, a.index) for a in axes.values()), (TOKENS, TOKEN)]

    def plan(path: Path) -> PathFormulas:
        with one_for_all(extents) as families:
            found = _observed(lambda: _formulas(case, axes, parts, path, families))
        assumed.extend(path.assumed.values())
        return replace(found, zero=frozenset(path.zero), conditions=tuple(path.conditions))

    def meet(path: Path) -> PathFormulas:
        found = _observed(lambda: _meeting(case, axes))
        return replace(found, zero=frozenset(path.zero), conditions=tuple(path.conditions))

    def start() -> Path:
        path = Path(least)
        path.divisions = _Divisions(divisions, path)
        return path

    try:
        with objects_in_arrays():
            paths = [found for _, found in paths_through(start, plan)]
            # Apart, so that what is asked of two engines is not asked again on each way.
            met = [found for _, found in paths_through(start, meet)]
            paths += [found for found in met if found.refused is not None]
    except UndecidableError:
        return Copying(copied=copied, parts=parts, proof=NO_POLYNOMIAL)
    proof = Proof(paths=tuple(paths), least=least, assumed=tuple(dict.fromkeys(assumed)))
    return Copying(copied=copied, parts=parts, proof=proof)


def _observed(act: Callable[[], PathFormulas]) -> PathFormulas:
    """What comes of it, or what the subject raises."""
    try:
        return act()
    except (UndecidableError, ImpossibleError):
        raise
    except Exception as error:  # what the subject raises is an observation
        bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
        raised = Raised(type(error).__name__, bases, str(error))
        return PathFormulas(frozenset(), {}, {}, refused=raised)


def _meeting(case: TransferCase, axes: Mapping[str, _Axis]) -> PathFormulas:
    """Nothing, where the engines may meet."""
    from ir.transfer import plan as planning

    planning.meet(_engine(case, axes, "P"), _engine(case, axes, "D"))
    return PathFormulas(frozenset(), {}, {})


class _Divisions(dict[tuple[str, str], tuple[Poly, Poly]]):
    """Known quotients and rests. Of two numbers of ranks one divides the other, or the engines
    are refused: once one is known not to, the other does."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[Poly, Poly]], path: Path) -> None:
        super().__init__(known)
        self._path = path

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        if key not in (("tp.P", "tp.D"), ("tp.D", "tp.P")):
            return super().get(key, default)
        one, two = (f"rest.{name}" for name in key)
        divides = self._path.known.get(("zero", frozenset({two}))) is False
        return Poly.symbol(f"over.{key[0]}"), Poly({}) if divides else Poly.symbol(one)


def _formulas(
    case: TransferCase, axes: Mapping[str, _Axis], parts: tuple[str, ...], path: Path, families: Any
) -> PathFormulas:
    from ir.transfer import Worker
    from ir.transfer import plan as planning
    from ir.transfer.mapping import Source, TpMapping

    engines: dict[str, Any] = {
        "P": _engine(case, axes, "P"),
        "D": _engine(case, axes, "D"),
    }
    ranks: dict[str, Any] = {side: Poly.symbol(f"rank.{side}") for side in engines}
    sources = tuple(
        (Source(ranks["P"], axes[p.name].take, axes[p.name].put, axes[p.name].count),)  # pyright: ignore[reportArgumentType]
        if p.name in parts
        else ()
        for p in case.model.groups[0].parts
    )
    given = TpMapping((sources,), (ranks["P"],), 1)
    bases = {
        side: bases_below_limit(f"b.{side}.0.0", engine, 0, path)
        for side, engine in engines.items()
    }
    kept = planning.tp_mapping, planning.check_engines
    planning.tp_mapping = lambda *_args, **_sizes: given
    # See `_meeting`.
    planning.check_engines = lambda _producer, _consumer: None
    try:
        plan = planning.plan_transfer(
            engines["P"],
            engines["D"],
            Worker(0, ranks["D"]),
            producer_bases={Worker(0, ranks["P"]): bases["P"]},  # pyright: ignore[reportArgumentType]
            consumer_bases=bases["D"],  # pyright: ignore[reportArgumentType]
        )
    finally:
        planning.tp_mapping, planning.check_engines = kept
    strides = {(side, 0): engine.page_strides(0) for side, engine in engines.items()}
    found = tuple(
        ChannelFormulas(
            (0, 0),
            _groups(channel.consumer_rows, channel.groups, "consumer", families),
            _groups(channel.producer_rows, channel.groups, "producer", families),
        )
        for channel in plan.channels
    )
    return PathFormulas(frozenset(), {(0, 0): found}, strides, told=_told(plan, ranks["P"]))


def _told(plan: Any, rank: Poly) -> bool:
    """Whether a request's end is told to the producer's rank, once, under the producer's name."""
    from ir.transfer import TransferRequest, Worker

    request = TransferRequest(
        producer_request="p",
        consumer_request="d",
        prompt_tokens=1,
        producer_blocks=((1,),),
        consumer_blocks=((1,),),
    )
    told = [(notice.source, notice.request) for notice in plan.notifications(request)]
    return told == [(Worker(0, rank), "p")]  # pyright: ignore[reportArgumentType]


def _engine(case: TransferCase, axes: Mapping[str, _Axis], side: str) -> Any:
    model = as_model(case.model)
    (group,) = model.groups
    units: dict[str, Any] = {name: Poly.symbol(f"units.{axis.name}") for name, axis in axes.items()}
    symbolic: Any = tuple(
        replace(part, units=units[part.name], unit_bytes=Poly.symbol(f"u.0.{part.name}"))  # pyright: ignore[reportArgumentType]
        for part in group.parts
    )
    heads: Any = Poly.symbol("q")
    model = replace(model, groups=(replace(group, parts=symbolic),), query_heads=heads)
    engine = case.producer if side == "P" else case.consumer
    unit = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    sizes: dict[str, Any] = {
        "tp": Poly.symbol(f"tp.{side}"),
        "num_blocks": Poly.symbol(f"n.{side}"),
        "page_padding": Poly.symbol(f"w.{side}"),
        "block_tokens": TOKENS * (engine.block_tokens // unit),
        "kernel_tokens": TOKENS * (engine.kernel_tokens // unit),
    }
    name = case.producer_id if side == "P" else case.consumer_id
    return as_engine(replace(engine, **sizes), model, name)


def _groups(rows: Any, groups: Any, side: str, families: Families) -> tuple[GroupFormulas, ...]:
    found, at, before = [], 0, Poly({})
    for each in groups:
        grid = getattr(each, f"{side}_grid")
        inner = len(grid.inner)
        pieces, times = families.times(each.pieces)
        mine = rows_of(rows[at : at + pieces * inner])
        first = Poly.of(getattr(each, f"{side}_first"))
        steps = Poly.of(grid.count), Poly.of(grid.blocks_per_piece)
        found.append(GroupFormulas(each.group, mine, inner, first, before, *steps, times))
        before = before + sum((row[3] for row in mine), Poly({})) * times
        at += pieces * inner
    if at != len(rows):
        raise UndecidableError(f"{len(rows)} rows; accepted: {at}, as the groups have")
    return tuple(found)
