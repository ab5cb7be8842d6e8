"""Laws of plans that the byte comparison does not show: widths, order, cost, and agreement in
what is refused."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

import reference.transfer as rt
from ir.transfer import (
    EngineGeometry,
    Layout,
    ModelCache,
    RequestError,
    Worker,
    notifications_per_producer,
    plan_transfer,
)
from ir.transfer import groups as make
from ir.transfer.descriptors import Axis, Grid, Piece, expand, ids_of, pack, pieces_of, unit_grid
from ir.transfer.mapping import tp_mapping


def test_an_axis_that_abuts_on_both_sides_lengthens_the_run():
    axes = (Axis(3, 4, 4), Axis(2, 2, 2))
    assert pieces_of(2, axes, source=1, target=7) == (Piece(1, 7, 12),)


def test_an_axis_that_abuts_on_one_side_is_enumerated():
    axes = (Axis(2, 8, 4), Axis(2, 2, 2))
    assert pieces_of(2, axes, source=0, target=0) == (Piece(0, 0, 4), Piece(8, 4, 4))


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [
        # One row where all units are evenly spaced.
        ((10, 24, 3, 8, 2, 4), Grid(10, 6, (0,), 4)),
        # A row for each unit of a kernel block whose units are not.
        ((10, 24, 3, 8, 2, 2), Grid(10, 6, (0, 2), 8)),
        # A row for each unit of a padded page.
        ((10, 25, 3, 8, 2, 4), Grid(10, 6, (0, 4, 8, 12, 16, 20), 25)),
        # One kernel block a page: the padding only moves the next one away.
        ((10, 9, 1, 8, 1, 8), Grid(10, 1, (0,), 9)),
    ],
)
def test_units_take_as_few_rows_as_their_spacing_allows(sizes: tuple[int, ...], grid: Grid):
    names = ("pages", "page_stride", "kernels", "kernel_stride", "subs", "sub_stride")
    assert unit_grid(**dict(zip(names, sizes, strict=True))) == grid


def test_ids_name_the_blocks_of_their_units():
    grid = unit_grid(pages=4, page_stride=20, kernels=2, kernel_stride=8, subs=2, sub_stride=4)
    rows = pack([(100 + at + piece, 2, 0, 20, 4) for piece in (0, 2) for at in grid.inner])
    units = np.array([0, 3, 4, 15])
    ids = ids_of(grid, units, first=0, pieces=2)
    wanted = [
        100 + piece + unit // 4 * 20 + unit % 4 * 4 for piece in (0, 2) for unit in units.tolist()
    ]
    assert expand(rows, ids)[0].tolist() == wanted


def test_ids_and_addresses_beyond_32_and_63_bits_do_not_wrap():
    grid = Grid(1 << 30, 1, (0,), 1 << 20)
    ids = ids_of(grid, np.array([(1 << 30) - 1]), first=3 << 30, pieces=3)
    assert ids.tolist() == [(n << 30) - 1 for n in (4, 5, 6)]
    rows = pack([(2**63, 16, 0, 1 << 40, 1 << 20)])
    addresses, lengths = expand(rows, np.array([(1 << 20) - 1]))
    assert (addresses.tolist(), lengths.tolist()) == ([2**63 + ((1 << 20) - 1 << 40)], [16])


MODEL = ModelCache("m", 64, (make.attention(range(80), kv_heads=8, head_size=128, itemsize=2),))


def _engines(layouts: tuple[Layout, Layout], tps: tuple[int, int]) -> list[EngineGeometry]:
    return [
        EngineGeometry(
            engine_id=name,
            model=MODEL,
            tp=tp,
            num_blocks=20_000,
            block_tokens=16,
            kernel_tokens=16,
            layout=layout,
        )
        for name, layout, tp in zip("PD", layouts, tps, strict=True)
    ]


def _plan(producer: EngineGeometry, consumer: EngineGeometry):
    def bases(engine: EngineGeometry) -> list[int]:
        strides = np.array(engine.page_strides(0), dtype=np.uint64)
        ends = np.cumsum(strides * np.uint64(engine.num_blocks))
        return [(1 << 40) + int(x) for x in ends - ends[0]]

    theirs = {worker: bases(producer) for worker in producer.workers}
    return plan_transfer(
        producer, consumer, Worker(0, 0), producer_bases=theirs, consumer_bases=bases(consumer)
    )


@pytest.mark.parametrize(
    ("layout", "tps", "rows"),
    [
        # Keys and values of 80 layers, a row each: whole heads are contiguous in HND.
        (Layout.HND, (4, 2), [160, 160]),
        (Layout.HND, (2, 4), [160]),
        # In NHD each of the 16 tokens of a block has a row, but for equal shards.
        (Layout.NHD, (4, 2), [2_560, 2_560]),
        (Layout.NHD, (4, 4), [160]),
    ],
)
def test_a_large_plan_has_few_rows_and_one_broadcast(layout: Layout, tps, rows: list[int]):
    plan = _plan(*_engines((layout, layout), tps))
    assert [len(channel.consumer_rows) for channel in plan.channels] == rows
    assert [len(channel.producer_rows) for channel in plan.channels] == rows
    assert [len(channel.groups) for channel in plan.channels] == [1] * len(rows)


def test_a_latent_is_read_once_and_all_its_producers_are_told():
    groups = (make.latent((0,), width=4, itemsize=2),)
    mapping = tp_mapping(groups, producer_tp=8, consumer_tp=2, consumer_rank=1)
    assert mapping.ranks_read(0) == (4,)
    assert mapping.facing == (4, 5, 6, 7)
    assert mapping.consumers == 1
    spread = tp_mapping(groups, producer_tp=2, consumer_tp=8, consumer_rank=5)
    assert (spread.facing, spread.consumers) == ((1,), 4)


def test_replicated_heads_are_read_from_their_first_copies_and_states_from_all_ranks():
    groups = (
        make.attention((0,), kv_heads=2, head_size=1, itemsize=1),
        make.mamba1(
            (1,), channels=8, state_size=1, conv_columns=1, conv_itemsize=1, ssm_itemsize=1
        ),
    )
    mapping = tp_mapping(groups, producer_tp=8, consumer_tp=1, consumer_rank=0)
    assert mapping.ranks_read(0) == (0, 4)
    assert mapping.ranks_read(1) == tuple(range(8))


@pytest.mark.parametrize("shard", range(4))
def test_producers_await_as_many_notifications_as_are_sent(transfers, shard: int):
    for seed in range(shard, 200, 4):
        case = transfers.random_scenario(seed)
        sent = rt.expected_notifications(
            transfers.cached_groups(case.producer.model),
            transfers.as_engine(case.producer),
            transfers.as_engine(case.consumer),
            transfers.as_transfer(case.request),
        )
        awaited = notifications_per_producer(case.producer, case.consumer)
        assert awaited == {
            (w.stage, w.rank): sum(1 for producer, _, _ in sent if producer == (w.stage, w.rank))
            for w in case.producer.workers
        }


def _with_lost_blocks(rng: Random, lists):
    """The lists with one or two of their blocks gone, wherever they are."""
    lists = [list(blocks) for blocks in lists]
    for blocks in rng.choices(lists, k=rng.randint(1, 2)):
        blocks[rng.randrange(len(blocks))] = 0
    return tuple(tuple(blocks) for blocks in lists)


def test_a_lost_block_is_refused_exactly_where_it_is_needed(transfers):
    outcomes = {True: 0, False: 0}
    plain = (("full",), ("sliding",), ("mla",), ("full", "sliding"))
    for seed in range(400):
        case = transfers.random_scenario(seed, families=plain)
        rng = Random(seed)
        side = rng.choice(("producer_blocks", "consumer_blocks"))
        lists = _with_lost_blocks(rng, getattr(case.request, side))
        case = replace(case, request=replace(case.request, **{side: lists}))
        lost = rt.missing_token(
            transfers.cached_groups(case.producer.model),
            transfers.as_engine(case.producer),
            transfers.as_engine(case.consumer),
            transfers.as_transfer(case.request),
        )
        outcomes[lost is not None] += 1
        if lost is None:
            assert transfers.disagreements(case) == []
        else:
            with pytest.raises(RequestError, match="is the null block"):
                transfers.disagreements(case)
    assert min(outcomes.values()) >= 50
