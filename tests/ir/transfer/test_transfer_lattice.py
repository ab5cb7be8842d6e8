"""Every topology up to 64 ranks: the planning arithmetic alone, against ownership by definition."""

from functools import cache
from itertools import product
from math import lcm

import numpy as np
import pytest

import reference.transfer as rt
from ir.transfer import EngineGeometry, IncompatibleEnginesError, Layout, ModelCache, check_engines
from ir.transfer import groups as make
from ir.transfer.descriptors import Axis, pieces_of, unit_grid
from ir.transfer.errors import GeometryError
from ir.transfer.groups import Kind, Part
from ir.transfer.mapping import sources_of

LIMIT = 64
TOPOLOGIES = rt.topologies(LIMIT)
RATIOS = range(1, 9)
LAYOUTS = tuple(product(Layout, Layout))


@cache
def _owners(units: int, tp: int) -> tuple[tuple[int, ...], ...]:
    """The units of each rank, cut from the numbered axis."""
    axis = np.repeat(np.arange(units), max(1, tp // units))
    return tuple(tuple(part.tolist()) for part in np.split(axis, tp))


def _sources_are_exact(units: int, p: int, d: int) -> bool:
    """Whether each consumer rank's slots are filled once, with the units it must hold, and no
    rank is asked for a unit it lacks.
    """
    part = Part("k", units, 1)
    theirs, ours = _owners(units, p), _owners(units, d)
    for rank in range(d):
        slots: list[int | None] = [None] * len(ours[rank])
        for s in sources_of(part, producer_tp=p, consumer_tp=d, consumer_rank=rank):
            for i in range(s.count):
                if not (0 <= s.take + i < len(theirs[s.rank]) and 0 <= s.put + i < len(slots)):
                    return False
                if slots[s.put + i] is not None:
                    return False
                slots[s.put + i] = theirs[s.rank][s.take + i]
        if tuple(slots) != ours[rank]:
            return False
    return True


def _steps(layout: Layout, kernel: int, heads: int) -> tuple[int, int]:
    return (kernel, 1) if layout is Layout.HND else (1, heads)


@cache
def _pieces_are_exact(
    heads: tuple[int, int], at: tuple[int, int], count: int, ratio: int, layouts: tuple
) -> bool:
    """Whether the pieces of one unit move every (head, token) of a read once and to its place.

    `heads` are held, `at` are the first of the read, each on the producer and on the consumer,
    whose kernel block is `ratio` units of two tokens.
    """
    unit, kernels = 2, (2, 2 * ratio)
    steps = [_steps(o, k, h) for o, k, h in zip(layouts, kernels, heads, strict=True)]
    pieces = pieces_of(
        1,
        (Axis(count, steps[0][0], steps[1][0]), Axis(unit, steps[0][1], steps[1][1])),
        source=at[0] * steps[0][0],
        target=at[1] * steps[1][0],
    )
    moved = [(p.source + i, p.target + i) for p in pieces for i in range(p.length)]
    wanted = [
        tuple((at[s] + head) * steps[s][0] + token * steps[s][1] for s in (0, 1))
        for head in range(count)
        for token in range(unit)
    ]
    grid = unit_grid(
        pages=3,
        page_stride=kernels[1] * heads[1],
        kernels=1,
        kernel_stride=kernels[1] * heads[1],
        subs=ratio,
        sub_stride=unit * steps[1][1],
    )
    rows = len(grid.inner)
    starts = {
        q: grid.inner[q % rows] + q // rows * grid.stride for q in range(grid.pages * grid.per_page)
    }
    placed = {
        q: q // ratio * kernels[1] * heads[1] + q % ratio * unit * steps[1][1] for q in starts
    }
    return sorted(moved) == sorted(wanted) and starts == placed


def _lattice(topologies) -> tuple[int, list[object]]:
    """The cases decided, and those that are wrong."""
    decided, wrong = 0, []
    for units, p, d in topologies:
        exact = _sources_are_exact(units, p, d)
        theirs, ours = len(_owners(units, p)[0]), len(_owners(units, d)[0])
        reads = {
            (s.take, s.put, s.count)
            for rank in range(d)
            for s in sources_of(
                Part("k", units, 1), producer_tp=p, consumer_tp=d, consumer_rank=rank
            )
        }
        for kind, layouts, ratio in product((Kind.FULL, Kind.SLIDING), LAYOUTS, RATIOS):
            decided += 1
            if not exact or not all(
                _pieces_are_exact((theirs, ours), (take, put), count, ratio, layouts)
                for take, put, count in reads
            ):
                wrong.append((kind, units, p, d, layouts, ratio))
    return decided, wrong


def test_the_lattice_has_3160_topologies():
    assert len(TOPOLOGIES) == 3_160


def test_a_shard_of_the_lattice_agrees():
    decided, wrong = _lattice(TOPOLOGIES[::40])
    assert wrong == []
    assert decided == 79 * 2 * 4 * 8


def test_every_topology_has_exact_sources():
    assert [t for t in TOPOLOGIES if not _sources_are_exact(*t)] == []


def _pairs(limit: int) -> list[tuple[int, int]]:
    numbers = range(1, limit + 1)
    return [(p, d) for p, d in product(numbers, repeat=2) if not (p % d and d % p)]


def _states_are_exact(limit: int) -> bool:
    """Heads of states are shared out among all ranks: once, twice or three times as many."""
    return all(
        _sources_are_exact(max(p, d) * times, p, d) for p, d in _pairs(limit) for times in (1, 2, 3)
    )


def test_states_have_exact_sources_for_every_pair_up_to_24():
    assert _states_are_exact(24)


@pytest.mark.slow
def test_states_have_exact_sources_for_every_pair():
    assert _states_are_exact(LIMIT)


def test_latents_are_read_once_by_every_pair_of_sizes():
    pairs = _pairs(LIMIT)
    assert len(pairs) == 496
    part = Part("latent", 1, 1)
    for p, d in pairs:
        for rank in range(d):
            sizes = {"producer_tp": p, "consumer_tp": d, "consumer_rank": rank}
            assert len(sources_of(part, **sizes)) == 1
        assert _sources_are_exact(1, p, d)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(8))
def test_the_whole_lattice_agrees(shard: int):
    decided, wrong = _lattice(TOPOLOGIES[shard::8])
    assert wrong == []
    # 3,160 topologies x 2 kinds x 4 pairs of layouts x 8 ratios = 202,240 in all shards.
    assert decided * 8 == 202_240


def _engine(name: str, tp: int, heads: int) -> EngineGeometry:
    group = make.attention(range(1), kv_heads=heads, head_size=1, itemsize=1)
    return EngineGeometry(
        engine_id=name,
        # Query heads that every size here divides, so that KV heads alone decide.
        model=ModelCache("any", lcm(*range(1, LIMIT + 1)), (group,)),
        tp=tp,
        num_blocks=2,
        block_tokens=1,
        kernel_tokens=1,
    )


def _is_refused(heads: int, p: int, d: int) -> bool:
    try:
        check_engines(_engine("P", p, heads), _engine("D", d, heads))
    except (GeometryError, IncompatibleEnginesError):
        return True
    return False


def _admitted_among(limit: int) -> set[tuple[int, int, int]]:
    numbers = range(1, limit + 1)
    return {(k, p, d) for k, p, d in product(numbers, repeat=3) if not _is_refused(k, p, d)}


def test_every_other_topology_up_to_12_is_refused():
    assert _admitted_among(12) == set(rt.topologies(12))


@pytest.mark.slow
def test_every_other_topology_up_to_64_is_refused():
    assert _admitted_among(LIMIT) == set(TOPOLOGIES)
