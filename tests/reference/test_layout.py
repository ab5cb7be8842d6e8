"""Declared output layouts: dense in an input's dimension order, swapped, or free."""

import itertools

import pytest

from reference.layout import dense_like, same_strides, swapped_last_two
from reference.model import View, is_self_overlapping
from reference.model.storage import contiguous_strides


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((2, 3), (3, 1), (3, 1)),
        ((2, 3), (1, 2), (1, 2)),
        ((2, 3), (8, 1), (3, 1)),
        ((2, 3), (1, 9), (1, 2)),
        ((2, 3), (6, 2), (3, 1)),
        ((4, 2, 3), (1, 12, 4), (1, 12, 4)),
        ((2, 3), (0, 1), None),
        ((2, 3), (2, 1), None),
        ((), (), ()),
        ((5,), (2,), (1,)),
    ],
)
def test_dense_like_closes_gaps_and_keeps_the_order(
    shape: tuple[int, ...], strides: tuple[int, ...], expected: tuple[int, ...] | None
):
    assert dense_like(View(0, shape, strides), shape) == expected


def test_a_dense_input_gives_its_own_strides_whatever_its_order():
    shape = (2, 3, 4)
    for order in itertools.permutations(range(3)):
        stored = contiguous_strides(tuple(shape[i] for i in order))
        strides = [0] * 3
        for i, stride in zip(order, stored, strict=True):
            strides[i] = stride
        assert dense_like(View(0, shape, tuple(strides)), shape) == tuple(strides)


def test_another_last_size_keeps_the_order():
    assert dense_like(View(0, (3, 8), (1, 3)), (3, 4)) == (1, 3)
    assert dense_like(View(0, (3, 8), (8, 1)), (3, 4)) == (4, 1)


def test_sizes_of_one_and_zero_say_nothing():
    found = dense_like(View(0, (1, 6, 8), (48, 1, 6)), (1, 6, 8))
    assert found is not None
    assert same_strides((1, 6, 8), found, (99, 1, 6))
    assert same_strides((0, 3), (7, 7), (3, 1))
    assert not same_strides((2, 3), (3, 1), (1, 2))
    assert dense_like(View(0, (0, 3), (3, 1)), (0, 3)) == (3, 1)


def test_every_dense_layout_is_without_gap_or_overlap():
    for strides in itertools.product(range(1, 14), repeat=2):
        view = View(0, (3, 4), strides)
        found = dense_like(view, (3, 4))
        assert (found is None) == is_self_overlapping(view)
        if found is not None:
            assert View(0, (3, 4), found).extent == 12
            assert (found[0] > found[1]) == (strides[0] > strides[1])


def test_swapped_stores_the_last_two_dimensions_exchanged():
    assert swapped_last_two((3, 4)) == (1, 3)
    assert swapped_last_two((2, 3, 4)) == (12, 1, 3)
