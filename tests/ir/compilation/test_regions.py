"""Regions meet where bytes coincide and hold where bytes are contained, against sets of bytes."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from ir.compilation.regions import EVERYTHING, Region, region_of


def bytes_of(t: Tensor) -> set[int]:
    size = t.element_size()
    found: set[int] = set()
    for index in itertools.product(*map(range, t.shape)):
        at = t.storage_offset() + sum(i * s for i, s in zip(index, t.stride(), strict=True))
        found |= set(range(at * size, (at + 1) * size))
    return found


def a_view(pick: random.Random) -> Tensor:
    """Slices, selections and transposes of a matrix in 192 bytes."""
    dtype = pick.choice([torch.float32, torch.float16, torch.int8])
    t = torch.empty(192, dtype=torch.uint8).view(dtype).view(4, -1)
    for _ in range(pick.randrange(5)):
        dim = pick.randrange(t.dim())
        size = t.shape[dim]
        match pick.randrange(5):
            case 0:
                low = pick.randrange(size)
                t = t.narrow(dim, low, pick.randrange(low, size + 1) - low)
            case 1:
                t = t.transpose(dim, 0)
            case 2 if size and t.dim() > 1:
                t = t.select(dim, pick.randrange(size))
            case 3:
                t = t[:: pick.randrange(1, 3)]
            case _ if t.numel() and size % 2 == 0:
                t = t.unflatten(dim, (2, size // 2))
        if not t.numel():
            break
    return t


def any_strides(pick: random.Random) -> Tensor:
    shape = [pick.randrange(1, 5) for _ in range(pick.randrange(4))]
    strides = [pick.randrange(9) for _ in shape]
    dtype = pick.choice([torch.float32, torch.int8])
    return torch.empty(200, dtype=dtype).as_strided(shape, strides, pick.randrange(12))


@pytest.mark.parametrize("block", range(2))
def test_views_meet_exactly_where_they_share_a_byte(block: int):
    pick = random.Random(block)
    seen = {True: 0, False: 0}
    for _ in range(400):
        a, b = a_view(pick), a_view(pick)
        truth = bool(bytes_of(a) & bytes_of(b))
        assert region_of(a).meets(region_of(b)) is truth, (a, b)
        assert region_of(b).meets(region_of(a)) is truth
        seen[truth] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize("block", range(2))
def test_no_meeting_is_missed_and_no_holding_claimed_with_any_strides(block: int):
    pick = random.Random(block)
    for _ in range(400):
        a, b = any_strides(pick), pick.choice([a_view, any_strides])(pick)
        first, second = bytes_of(a), bytes_of(b)
        assert region_of(a).meets(region_of(b)) >= bool(first & second)
        assert region_of(a).covers(region_of(b)) <= (second <= first)
        assert region_of(b).covers(region_of(a)) <= (first <= second)


def test_common_views_hold_what_lies_in_them():
    t = torch.empty(6, 8)
    pairs = [
        (t, t[1:3, 2:5]),
        (t[:, 2:6], t[:, 3:5]),
        (t[:, 2:6], t[1::2, 2]),
        (t[1:5], t[2, 3:]),
        (t.t(), t),
        (t[:, :4], t[:0]),
    ]
    for outer, inner in pairs:
        assert region_of(outer).covers(region_of(inner))
    for a, b in [(t[:, 2:6], t[:, 3:7]), (t[1:5], t[4:]), (t[::2], t[1])]:
        assert not region_of(a).covers(region_of(b))


def test_what_is_not_known_meets_all_and_holds_nothing():
    assert EVERYTHING.meets(Region(8, 4, ()))
    assert not EVERYTHING.covers(Region(8, 4, ()))
    assert region_of(None) is EVERYTHING
    assert Region(8, 4, ()).moved(4) == Region(12, 4, ())
