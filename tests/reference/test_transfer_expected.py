"""What memory must hold after a transfer: small cases worked out by hand."""

import numpy as np
import pytest

from reference.transfer import (
    POISON,
    SENTINEL,
    CachedGroup,
    CachedPart,
    Engine,
    Transfer,
    consumer_memory,
    decode,
    expected_memory,
    expected_notifications,
    missing_token,
    producer_memory,
)

KEYS = (CachedPart("k", 2, 1),)
FULL = (CachedGroup("full", (0,), KEYS),)
SLIDING = (CachedGroup("sliding", (0,), KEYS, window=3),)
STATE = (CachedGroup("gdn", (0,), (CachedPart("ssm", 2, 1),)),)


def _engine(**changes) -> Engine:
    given = {
        "tp": 2,
        "stage_layers": (1,),
        "num_blocks": 4,
        "block_tokens": 2,
        "kernel_tokens": 2,
        "layout": "NHD",
        "blocks_first": False,
    }
    return Engine(**(given | changes))


P, D = _engine(), _engine(tp=1, block_tokens=4, kernel_tokens=4)


def _request(**changes) -> Transfer:
    given = {
        "producer_request": "p",
        "consumer_request": "d",
        "prompt_tokens": 3,
        "cached_tokens": 0,
        "producer_blocks": ((3, 1),),
        "consumer_blocks": ((2,),),
    }
    return Transfer(**(given | changes))


def _at(cells: np.ndarray) -> list[tuple[int, int] | str]:
    """Cells in words: (position, unit), or what is there instead."""
    names = {SENTINEL: "-", POISON: "x"}
    found: list[tuple[int, int] | str] = []
    for cell in cells.ravel().tolist():
        at = decode(cell)
        found.append((at["position"], at["unit"]) if at else names[cell])
    return found


def _expected(request: Transfer, groups=FULL) -> list[tuple[int, int] | str]:
    """The one page of the consumer's rank, tokens past the prompt marked by a question mark."""
    (tensor,) = expected_memory(groups, P, D, (0, 0), request)
    assert not np.delete(tensor.codes, 2, axis=0).any()
    cells = _at(tensor.codes[2])
    free = tensor.free[2].tolist()
    return ["?" if may else cell for cell, may in zip(cells, free, strict=True)]


def test_a_producer_holds_its_blocks_and_poison():
    (tensor,) = producer_memory(FULL, P, (0, 1), _request())
    assert [_at(row) for row in tensor] == [
        ["x", "x"],
        [(2, 1), (3, 1)],
        ["x", "x"],
        [(0, 1), (1, 1)],
    ]


def test_a_null_block_holds_nothing():
    (tensor,) = producer_memory(FULL, P, (0, 0), _request(producer_blocks=((0, 1),)))
    assert [_at(row) for row in tensor] == [["x", "x"], [(2, 0), (3, 0)], ["x", "x"], ["x", "x"]]


def test_a_consumer_starts_with_sentinels():
    (tensor,) = consumer_memory(FULL, D, (0, 0))
    assert tensor.shape == (4, 8)
    assert not tensor.any()


def test_the_prompt_lands_and_the_rest_of_its_last_unit_may():
    assert _expected(_request()) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), "?", "?"]


def test_the_units_after_the_prompt_stay_untouched():
    request = _request(prompt_tokens=2)
    assert _expected(request) == [(0, 0), (0, 1), (1, 0), (1, 1), "-", "-", "-", "-"]


def test_cached_tokens_stay_untouched():
    request = _request(prompt_tokens=4, cached_tokens=2)
    assert _expected(request) == ["-", "-", "-", "-", (2, 0), (2, 1), (3, 0), (3, 1)]


def test_a_full_hit_leaves_all_untouched():
    assert _expected(_request(cached_tokens=3)) == ["-"] * 8


def test_tokens_without_a_block_stay_untouched():
    request = _request(prompt_tokens=4, producer_blocks=((0, 1),))
    assert _expected(request) == ["-", "-", "-", "-", (2, 0), (2, 1), (3, 0), (3, 1)]


def test_a_state_lands_whole_whatever_is_cached():
    request = _request(cached_tokens=3, producer_blocks=((0, 3),), consumer_blocks=((0, 2),))
    assert _expected(request, STATE) == [(0, 0), (0, 1)]


@pytest.mark.parametrize(
    ("groups", "request_", "missing"),
    [
        (FULL, _request(), None),
        (FULL, _request(producer_blocks=((0, 1),)), (0, 0)),
        (FULL, _request(producer_blocks=((3,),)), (0, 2)),
        (FULL, _request(consumer_blocks=((0,),)), (0, 0)),
        (FULL, _request(cached_tokens=2, producer_blocks=((0, 1),)), None),
        (FULL, _request(cached_tokens=3, producer_blocks=((0, 0),)), None),
        (SLIDING, _request(prompt_tokens=4, producer_blocks=((0, 1),)), (0, 1)),
        (SLIDING, _request(prompt_tokens=6, producer_blocks=((0, 1, 2),)), (0, 4)),
        (SLIDING, _request(prompt_tokens=4, producer_blocks=((3, 0),)), (0, 2)),
        (STATE, _request(), None),
    ],
)
def test_the_first_token_that_is_needed_and_lost(groups, request_: Transfer, missing):
    assert missing_token(groups, P, D, request_) == missing


def test_every_rank_that_faces_another_tells_it():
    groups = (CachedGroup("full", (0, 1), KEYS),)
    p, d = _engine(tp=4, stage_layers=(1, 1)), _engine(tp=2, stage_layers=(2,))
    told = expected_notifications(groups, p, d, _request())
    assert set(told) == {
        ((stage, rank), (0, rank // 2), "p") for stage in (0, 1) for rank in range(4)
    }
    back = expected_notifications(groups, d, p, _request())
    assert set(back) == {
        ((0, rank // 2), (stage, rank), "p") for stage in (0, 1) for rank in range(4)
    }
