"""The model in whole numbers: exact in every dtype, and a function of a request's tokens alone."""

import numpy as np
import pytest

from reference.dtypes import numpy_dtype
from reference.model.connector import DTYPES, PagedSize
from reference.serving import MODULUS, bytes_of, computed, initial, weights

TOKENS = (3, 1, 4, 1, 5)


@pytest.mark.parametrize("layers", [1, 3])
def test_kv_of_a_token_follows_from_it_and_those_before(layers: int):
    whole, logits = computed(layers, 2, TOKENS)
    for n in range(1, len(TOKENS)):
        kv, some = computed(layers, 2, TOKENS[:n])
        assert np.array_equal(kv, whole[:, :, :n])
        assert np.array_equal(some, logits[:n])


def test_another_token_before_shows_in_every_layer_but_the_first():
    one, _ = computed(3, 1, (3, 1, 4))
    other, _ = computed(3, 1, (2, 1, 4))
    assert np.array_equal(one[0, :, 2], other[0, :, 2])
    for layer in (1, 2):
        assert not np.array_equal(one[layer, :, 2], other[layer, :, 2])


def test_a_token_has_other_kv_at_another_position():
    kv, _ = computed(1, 1, (7, 7))
    assert not np.array_equal(kv[:, :, 0], kv[:, :, 1])


def test_no_sum_is_beyond_what_float32_holds():
    # The longest sums: over a row of hidden numbers, and over the positions of a request.
    hidden, positions = 4, 12
    most = MODULUS - 1
    assert most * most * max(hidden, positions) + most * positions < 2**24


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_exact_in_every_dtype(dtype: str):
    kv, _ = computed(2, 2, TOKENS)
    for values in (kv.astype(float), initial(PagedSize(layers=2, heads=2, blocks=9))):
        stored = values.astype(numpy_dtype(dtype)).astype(float)
        assert np.array_equal(stored, values)
        assert bytes_of(values, dtype).nbytes == values.size * numpy_dtype(dtype).itemsize


def test_what_a_cache_holds_at_first_is_no_kv():
    assert initial(PagedSize(layers=2, blocks=5)).max() < 0
    assert weights(2, 1).qkv.min() >= 0
