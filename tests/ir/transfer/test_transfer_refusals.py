"""What cannot be transferred is refused by a typed error that names both sides and the numbers."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from ir.transfer import (
    Arena,
    DescriptorError,
    EngineGeometry,
    GeometryError,
    IncompatibleEnginesError,
    MemoryTransport,
    ModelCache,
    Placement,
    RequestError,
    TransferRequest,
    Worker,
    check_engines,
    plan_transfer,
)
from ir.transfer import groups as make
from ir.transfer.compatibility import check_bases
from ir.transfer.descriptors import check_rows, expand, pack
from ir.transfer.memory import copy_blocks

GROUP = make.attention(range(2), kv_heads=4, head_size=2, itemsize=1)
MODEL = ModelCache("m", 8, (GROUP,))
WINDOWED = make.attention((2,), kv_heads=4, head_size=2, itemsize=1, window=6, name="window")
STATE = make.mamba1((2,), channels=8, state_size=2, conv_columns=1, conv_itemsize=1, ssm_itemsize=1)
P = EngineGeometry(engine_id="P", model=MODEL, tp=4, num_blocks=9, block_tokens=8, kernel_tokens=4)
D = replace(P, engine_id="D", tp=2, num_blocks=7)
W = Worker(0, 0)


def _bases(engine: EngineGeometry) -> tuple[int, ...]:
    return tuple(1 << 20 + i for i in range(len(engine.page_strides(0))))


def _plan(p: EngineGeometry = P, d: EngineGeometry = D):
    theirs = {worker: _bases(p) for worker in p.workers}
    return plan_transfer(p, d, W, producer_bases=theirs, consumer_bases=_bases(d))


def _request(**changes) -> TransferRequest:
    request = TransferRequest(
        producer_request="p",
        consumer_request="d",
        prompt_tokens=20,
        producer_blocks=((1, 2, 3),),
        consumer_blocks=((4, 5, 6),),
    )
    return replace(request, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tp": 3}, "tp is 3; accepted: a divisor of the 8 query heads; for m 1, 2, 4 or 8"),
        ({"tp": 0}, "tp is 0; accepted: 1 or more"),
        ({"num_blocks": 0}, "num_blocks is 0; accepted: 1 or more"),
        ({"page_padding": -1}, "page_padding is -1; accepted: 0 or more"),
        (
            {"block_tokens": 6},
            "block_tokens is 6; accepted: a multiple of kernel_tokens 4",
        ),
        (
            {"stage_layers": (1, 2)},
            "stage_layers is (1, 2); accepted: counts of 1 or more with the sum 2",
        ),
        (
            {"model": ModelCache("m", 12, (GROUP,)), "tp": 6},
            "tp for k of group full attention is 6; "
            "accepted: a divisor or a multiple of its 4 units; for m 1, 2, 4 or 12",
        ),
        (
            {"model": ModelCache("m", 16, (GROUP, STATE)), "tp": 16},
            "tp for conv.x of group mamba-1 is 16; accepted: a divisor of its 8 units; "
            "for m 1, 2, 4 or 8",
        ),
        (
            {"model": ModelCache("m", 8, (GROUP, GROUP))},
            "layers of the groups is [0, 1, 0, 1]; accepted: each number once, from 0",
        ),
        (
            {"model": ModelCache("m", 8, (GROUP, STATE)), "shares_tensors": True},
            "placement is K and V apart; accepted: blocks first where unlike groups share tensors",
        ),
    ],
)
def test_an_impossible_geometry_is_refused(changes: dict, message: str):
    with pytest.raises(GeometryError) as refused:
        replace(P, **({"stage_layers": ()} | changes))
    assert str(refused.value) == f"engine 'P': {message}"


def test_a_part_of_nothing_is_refused():
    empty = make.attention((0,), kv_heads=0, head_size=2, itemsize=1)
    with pytest.raises(GeometryError, match="at least one unit of one byte"):
        replace(P, model=ModelCache("m", 8, (empty,)), stage_layers=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine_id": "P"}, "engine_id: P and P; accepted: two distinct ids"),
        (
            {"model": ModelCache("other", 8, (GROUP,))},
            "model: name m and name other; accepted: equal models",
        ),
        (
            {"model": ModelCache("m", 16, (GROUP,))},
            "model: query_heads 8 and query_heads 16; accepted: equal models",
        ),
        (
            {"model": ModelCache("m", 8, (GROUP, WINDOWED)), "stage_layers": ()},
            "model: 1 groups and 2 groups; accepted: equal models",
        ),
        (
            {"kernel_tokens": 3, "block_tokens": 3},
            "kernel_tokens: 4 and 3; accepted: one block that divides the other, such as 4 on both",
        ),
    ],
)
def test_unlike_engines_are_refused_when_the_plan_is_made(changes: dict, message: str):
    consumer = replace(D, **changes)
    with pytest.raises(IncompatibleEnginesError) as refused:
        _plan(P, consumer)
    named = f"producer 'P' and consumer {consumer.engine_id!r} differ in "
    assert str(refused.value) == named + message


@pytest.mark.parametrize(
    ("group", "shown"),
    [
        (
            make.attention(range(2), kv_heads=4, head_size=1, itemsize=1),
            (
                "k 4 x 2 bytes, v 4 x 2 bytes of group full attention",
                "k 4 x 1 bytes, v 4 x 1 bytes of group full attention",
            ),
        ),
        (
            make.attention((1, 2), kv_heads=4, head_size=2, itemsize=1),
            (
                "layers (0, 1) of group full attention",
                "layers (1, 2) of group full attention",
            ),
        ),
    ],
)
def test_groups_that_differ_are_shown_where_they_differ(group, shown: tuple[str, str]):
    with pytest.raises(IncompatibleEnginesError) as refused:
        check_engines(P, replace(D, model=ModelCache("m", 8, (group,)), stage_layers=()))
    assert (refused.value.producer_has, refused.value.consumer_has) == shown


def test_tp_sizes_must_divide():
    heads = make.attention(range(2), kv_heads=6, head_size=2, itemsize=1)
    model = ModelCache("m", 6, (heads,))
    two, three = (replace(e, model=model, tp=tp) for e, tp in ((P, 2), (D, 3)))
    with pytest.raises(IncompatibleEnginesError) as refused:
        check_engines(two, three)
    assert str(refused.value) == (
        "producer 'P' and consumer 'D' differ in tp: 2 and 3; accepted: one size that divides "
        "the other; beside producer 2 a consumer of 1, 2 or 6, "
        "beside consumer 3 a producer of 1, 3 or 6"
    )


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ((0, 10_000), "number of tensors of .* is 2; accepted: 4"),
        ((0, 10, 20_000, 30_000), "tensor 1 of .* is at 10, before the end 224 of tensor 0"),
        ((0, 1_000, 2_000, 2**64 - 223), "end of tensor 3 of .*; accepted: at most 2\\^64"),
    ],
)
def test_impossible_addresses_are_refused(bases: tuple[int, ...], message: str):
    with pytest.raises(GeometryError, match=message):
        check_bases(D, W, bases)


def test_addresses_may_end_at_the_last_byte():
    check_bases(D, W, (0, 1_000, 2_000, 2**64 - 224))


REFUSED_REQUESTS = [
    ({"prompt_tokens": 0}, "prompt_tokens is 0; accepted: 1 or more"),
    ({"cached_tokens": 5}, "cached_tokens is 5; accepted: a multiple of 4 up to 20, or all 20"),
    ({"cached_tokens": 24}, "cached_tokens is 24; accepted: a multiple of 4 up to 20, or all 20"),
    ({"producer_blocks": ()}, "lists of producer_blocks is 0; accepted: 1"),
    (
        {"producer_blocks": ((1, 2),)},
        "number of producer blocks of full attention is 2; accepted: at least 3 for 20 tokens",
    ),
    (
        {"consumer_blocks": ((1, 2, 7),)},
        "consumer blocks of full attention is 1 to 7; accepted: 0 to 6",
    ),
    (
        {"producer_blocks": ((-1, 2, 7),)},
        "producer blocks of full attention is -1 to 7; accepted: 0 to 8",
    ),
    ({"consumer_blocks": ((4, 4, 5),)}, "consumer blocks named twice is [4]; accepted: distinct"),
    ({"producer_blocks": ((4, 4, 5),)}, "producer blocks named twice is [4]; accepted: distinct"),
    (
        {"producer_blocks": ((1, 0, 3),)},
        "producer block of full attention for token 8 is the null block; "
        "accepted: a block for each of the last 20 tokens",
    ),
    (
        {"consumer_blocks": ((1, 2, 0),)},
        "consumer block of full attention for token 16 is the null",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED_REQUESTS)
def test_a_bad_request_fails_alone(changes: dict, message: str):
    plan = _plan()
    with pytest.raises(RequestError) as refused:
        plan.bind(_request(**changes))
    assert str(refused.value).startswith(f"request 'd': {message}")
    assert sum(len(bound.consumer_ids) for bound in plan.bind(_request())) > 0


def test_nobody_is_notified_of_a_refused_request():
    transport = MemoryTransport({})
    arena = Arena({0: np.zeros(1, dtype=np.uint8)})
    with pytest.raises(RequestError):
        transport.pull(_plan(), _request(prompt_tokens=0), arena)
    assert transport.notified == []


def test_the_window_alone_must_be_there():
    model = ModelCache("m", 8, (GROUP, WINDOWED))
    p, d = (replace(e, model=model, stage_layers=()) for e in (P, D))
    lists = {"consumer_blocks": ((4, 5, 6), (1, 2, 3))}
    plan = _plan(p, d)
    # Tokens 14 to 19 are in the window: the block of tokens 8 to 15 is needed, the first is not.
    plan.bind(_request(producer_blocks=((1, 2, 3), (0, 5, 6)), **lists))
    with pytest.raises(RequestError, match="producer block of window for token 12"):
        plan.bind(_request(producer_blocks=((1, 2, 3), (0, 0, 6)), **lists))


@pytest.mark.parametrize("theirs", [(), (0,), (5, 6)])
def test_states_must_pair_up(theirs: tuple[int, ...]):
    model = ModelCache("m", 8, (GROUP, STATE))
    p, d = (replace(e, model=model, stage_layers=()) for e in (P, D))
    request = _request(producer_blocks=((1, 2, 3), theirs), consumer_blocks=((4, 5, 6), (1,)))
    with pytest.raises(RequestError, match=r"states of mamba-1 is .*, 1 on the consumer"):
        _plan(p, d).bind(request)


def test_groups_that_share_tensors_share_block_numbers():
    model = ModelCache("m", 8, (GROUP, STATE))
    apart = {"placement": Placement.BLOCKS_FIRST, "model": model, "stage_layers": ()}
    p, d = replace(P, **apart), replace(D, **apart)
    request = _request(producer_blocks=((1, 2, 3), (4,)), consumer_blocks=((4, 5, 6), (6,)))
    _plan(p, d).bind(request)
    with pytest.raises(RequestError, match=r"consumer blocks named twice is \[6\]"):
        _plan(p, replace(d, shares_tensors=True)).bind(request)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((100, 0, 0, 8, 2), "length and count of a row of x is"),
        ((100, 8, 0, 8, 0), "length and count of a row of x is"),
        ((100, 8, 0, 1 << 63, 2), "the end of a row of x is .* below 2"),
        ((2**64 - 8, 9, 0, 8, 1), "the end of a row of x is .* below 2"),
        ((99, 8, 0, 8, 2), "a row of x is 99 to 115; accepted: addresses from 100 to 200"),
        ((100, 8, 0, 93, 2), "a row of x is 100 to 201; accepted: addresses from 100 to 200"),
    ],
)
def test_a_row_that_leaves_its_memory_is_refused(row: tuple, message: str):
    with pytest.raises(DescriptorError, match=message):
        check_rows([row], [(100, 200)], what="x")


def test_an_id_without_a_block_is_refused():
    rows = pack([(0, 4, 0, 4, 3), (100, 4, 0, 4, 2)])
    assert expand(rows, np.array([0, 2, 3, 4]))[0].tolist() == [0, 8, 100, 104]
    for bad in (-1, 5):
        with pytest.raises(DescriptorError, match=f"a descriptor id is {bad} .* 0 to 4"):
            expand(rows, np.array([bad]))
    with pytest.raises(DescriptorError, match="0 to -1"):
        expand(pack([]), np.array([0]))


def test_copies_must_pair_up_and_stay_inside():
    arena = Arena({100: np.arange(8, dtype=np.uint8), 200: np.arange(8, dtype=np.uint8)})
    rows, long = pack([(100, 4, 0, 4, 4)]), pack([(100, 8, 0, 8, 1)])
    one, outside = np.array([0]), np.array([2])

    def copy(target_rows, target_ids, source_rows, source_ids):
        copy_blocks(
            arena,
            arena,
            target_rows=target_rows,
            target_ids=target_ids,
            source_rows=source_rows,
            source_ids=source_ids,
        )

    with pytest.raises(DescriptorError, match="number of blocks is 1 and 2"):
        copy(rows, one, rows, np.array([0, 1]))
    with pytest.raises(DescriptorError, match="length of a pair is 4 and 8"):
        copy(rows, one, long, one)
    with pytest.raises(DescriptorError, match=r"a block is 4 bytes at 108; .* inside a tensor"):
        copy(rows, outside, rows, one)
    with pytest.raises(DescriptorError, match="a block is 4 bytes at 5"):
        copy(pack([(5, 4, 0, 4, 1)]), one, rows, one)
    assert not arena.writes.any()


def test_an_arena_needs_tensors_that_do_not_overlap():
    cells = np.zeros(8, dtype=np.uint8)
    with pytest.raises(DescriptorError, match="number of tensors of an arena is 0"):
        Arena({})
    with pytest.raises(DescriptorError, match="the end of a tensor is 8; accepted: at most 7"):
        Arena({0: cells, 7: cells})


@pytest.mark.parametrize(
    "error",
    [
        GeometryError("e", "tp", 3, "1"),
        IncompatibleEnginesError(
            producer="p", consumer="d", field="tp", producer_has=2, consumer_has=3, accepted="1"
        ),
        RequestError("r", "cached_tokens", 3, "1"),
        DescriptorError("a row", 3, "1"),
    ],
)
def test_errors_travel_between_processes(error: Exception):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
