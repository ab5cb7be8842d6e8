"""Storages and views: which elements a window shows, and what it shares."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.model import Fill, Storage, View, is_self_overlapping, touched_elements
from reference.model.storage import contiguous_strides

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def views(draw: st.DrawFn) -> View:
    shape = draw(SHAPES)
    strides = tuple(draw(st.integers(0, 12)) for _ in shape)
    return View(0, shape, strides, draw(st.integers(0, 5)))


def _by_hand(view: View) -> list[int]:
    return [
        view.offset + sum(i * s for i, s in zip(index, view.strides, strict=True))
        for index in itertools.product(*map(range, view.shape))
    ]


@given(view=views())
def test_touched_elements_are_those_of_the_formula(view: View):
    assert touched_elements(view).tolist() == _by_hand(view)


@given(view=views())
def test_extent_ends_after_the_last_element_touched(view: View):
    assert view.extent == max(_by_hand(view), default=view.offset - 1) + 1


@given(view=views())
def test_a_view_overlaps_itself_where_two_indices_meet(view: View):
    places = _by_hand(view)
    assert is_self_overlapping(view) == (len(set(places)) < len(places))


@given(view=views())
def test_of_shows_the_elements_in_index_order(view: View):
    array = np.arange(view.extent + 2)
    shown = view.of(array)
    assert shown.shape == view.shape
    assert shown.reshape(-1).tolist() == _by_hand(view)


def test_of_is_no_copy():
    array = np.zeros(8)
    View(0, (2, 2), (4, 1), 1).of(array)[1, 1] = 7.0
    assert array.tolist() == [0, 0, 0, 0, 0, 0, 7, 0]


def test_a_view_beyond_its_storage_is_refused():
    with pytest.raises(ValueError, match="needs 7 elements; accepted: at most 6"):
        View(0, (2, 2), (4, 1), 1).of(np.zeros(6))


@given(shape=SHAPES)
def test_contiguous_strides_are_those_numpy_has(shape: tuple[int, ...]):
    sized = tuple(max(n, 1) for n in shape)
    wanted = tuple(s // 8 for s in np.zeros(sized).strides)
    assert contiguous_strides(shape) == wanted
    assert View(0, shape, wanted).is_contiguous


def test_a_transposed_view_is_not_contiguous():
    assert not View(0, (2, 3), (1, 2)).is_contiguous


def test_a_storage_is_its_bytes_or_its_fill():
    literal = Storage("float16", 3, np.array([1, -0.0, np.inf], np.float16).tobytes())
    assert literal.nbytes == 6
    assert literal.array().tobytes() == literal.content
    assert literal.array().dtype == np.float16
    filled = Storage("bfloat16", 4, Fill("ramp", 0))
    assert filled.array().astype(np.float64).tolist() == [0.125, 0.25, 0.375, 0.5]
    assert filled.nbytes == 8
    filled.array()[:] = 0
    assert filled.array()[0] != 0


def test_storages_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="storage dtype 'float7'; accepted: float64, float32"):
        Storage("float7", 1, b"\0")
    with pytest.raises(ValueError, match="has 3 bytes; accepted: 4"):
        Storage("float16", 2, b"\0\0\0")
