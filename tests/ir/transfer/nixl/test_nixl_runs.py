"""Blocks that abut on both sides move as one, and what would be written twice is refused."""

import random
from itertools import pairwise

import numpy as np
import pytest

from ir.transfer import DescriptorError
from ir.transfer.nixl.runs import runs_of


def _arrays(blocks: list[tuple[int, int, int]]):
    target, source, length = zip(*blocks, strict=True)
    return (
        np.array(target, dtype=np.uint64),
        np.array(source, dtype=np.uint64),
        np.array(length, dtype=np.int64),
    )


def _rows(blocks: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    target, source, length = _arrays(blocks)
    runs = runs_of(target, source, length)
    at = runs.order[runs.first]
    return list(zip(target[at].tolist(), source[at].tolist(), runs.lengths.tolist(), strict=True))


def test_blocks_that_abut_on_both_sides_are_one_run():
    assert _rows([(20, 120, 10), (0, 100, 10), (10, 110, 10)]) == [(0, 100, 30)]


@pytest.mark.parametrize("second", [(11, 110, 10), (10, 111, 10), (10, 90, 10)])
def test_a_gap_on_either_side_begins_another_run(second: tuple[int, int, int]):
    assert _rows([(0, 100, 10), second]) == [(0, 100, 10), second]


def test_addresses_close_to_the_end_of_memory_do_not_wrap():
    top = (1 << 64) - 64
    assert _rows([(top, 0, 32), (top + 32, 32, 31)]) == [(top, 0, 63)]


@pytest.mark.parametrize("seed", range(50))
def test_runs_cover_each_byte_with_its_own_source(seed: int):
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, 200), 20))
    blocks = [
        (low, low + rng.choice((1000, 1000, 2000)), high - low)
        for low, high in zip([0, *cuts], [*cuts, 200], strict=True)
    ]
    rng.shuffle(blocks)
    wanted = {to + i: come + i for to, come, n in blocks for i in range(n)}
    rows = _rows(blocks)
    assert {to + i: come + i for to, come, n in rows for i in range(n)} == wanted
    assert sum(n for *_, n in rows) == len(wanted)
    assert all(a[0] + a[2] != b[0] or a[1] + a[2] != b[1] for a, b in pairwise(rows))


def test_blocks_that_overlap_at_the_target_are_refused():
    with pytest.raises(DescriptorError, match="the end of a block is 10; accepted: at most 9"):
        runs_of(*_arrays([(9, 100, 10), (0, 200, 10)]))


def test_blocks_may_overlap_at_the_source():
    assert _rows([(0, 100, 10), (10, 100, 10)]) == [(0, 100, 10), (10, 100, 10)]


def test_an_empty_block_is_refused():
    with pytest.raises(DescriptorError, match="the length of a block is 0; accepted: 1 or more"):
        runs_of(*_arrays([(0, 100, 0)]))


def test_nothing_has_no_runs():
    none = np.empty(0, dtype=np.int64)
    assert len(runs_of(none.astype(np.uint64), none.astype(np.uint64), none).first) == 0
