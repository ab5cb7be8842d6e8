"""Fills: the same bytes everywhere, representable values, and what each pattern promises."""

import numpy as np
import pytest

from reference.dtypes import FORMATS, encode, round_to
from reference.model import PATTERNS, Fill, fill_values
from reference.model.fill import words

FLOATS = ("float32", "float16", "bfloat16")


def test_words_are_splitmix64_of_a_counter():
    def mix(z: int) -> int:
        mask = (1 << 64) - 1
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    for key in (0, 1, 12345, 2**63):
        wanted = [mix((key * golden + i) * golden & mask) for i in range(1, 6)]
        assert words(key, 5).tolist() == wanted


def test_a_longer_fill_begins_with_the_shorter_one():
    for pattern in PATTERNS:
        long = fill_values(Fill(pattern, 9, 5), "float32", 64)
        short = fill_values(Fill(pattern, 9, 5), "float32", 10)
        assert np.array_equal(long[:10], short, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_every_value_is_one_of_its_format(pattern: str, dtype: str):
    values = fill_values(Fill(pattern, 3, 7), dtype, 500)
    assert np.array_equal(round_to(values, dtype), values, equal_nan=True)
    assert encode(values, dtype).shape == (500,)


@pytest.mark.parametrize("dtype", FLOATS)
def test_patterns_keep_their_ranges(dtype: str):
    def drawn(pattern: str, parameter: int = 0) -> np.ndarray:
        return fill_values(Fill(pattern, 11, parameter), dtype, 4000)

    assert set(drawn("zeros")) == {0.0}
    assert set(drawn("ones")) == {1.0}
    assert set(drawn("ramp")) == {i / 8 for i in range(1, 65)}
    dyadic = drawn("dyadic")
    assert set(dyadic * 8) == set(range(-32, 33))
    assert np.abs(drawn("uniform")).max() <= 2
    assert np.abs(drawn("unit")).max() <= 1
    assert drawn("positive").min() > 0
    assert set(drawn("index", 5)) == {0, 1, 2, 3, 4}
    assert set(drawn("index", 0)) == {0}
    normal = drawn("normal")
    assert abs(normal.mean()) < 0.1
    assert 0.9 < normal.std() < 1.1
    assert np.abs(drawn("outlier")).max() == 256
    wide = np.abs(drawn("wide"))
    assert wide.min() < 2.0**-3 < 2.0**3 < wide.max() < np.inf
    edge = np.abs(drawn("scale-edge")).max()
    assert abs(np.frexp(edge)[0] - 0.875) < 2.0 ** (2 - FORMATS[dtype].precision) * 2
    tiny = np.abs(drawn("subnormal"))
    assert tiny.max() == 8 * FORMATS[dtype].min_subnormal
    signs = drawn("signed-zero")
    assert set(signs) == {0.0, 1.0, -1.0}
    assert 0 < np.signbit(signs[signs == 0]).sum() < (signs == 0).sum()
    special = drawn("special")
    assert np.isnan(special).any()
    assert {np.inf, -np.inf, FORMATS[dtype].max} <= set(special)
    finite = drawn("special-finite")
    assert np.isfinite(finite).all()
    assert {FORMATS[dtype].max, FORMATS[dtype].min_subnormal} <= set(finite)


def test_only_these_patterns_are_declared_independent():
    independent = {pattern for pattern in PATTERNS if Fill(pattern, 0).independent}
    assert independent == {"uniform", "normal", "unit"}


def test_integers_are_filled_with_indices():
    assert set(fill_values(Fill("index", 2, 3), "int64", 50)) == {0, 1, 2}


def test_an_unknown_pattern_is_refused():
    with pytest.raises(ValueError, match="fill pattern 'noise'; accepted: dyadic, index"):
        fill_values(Fill("noise", 0), "float32", 1)
