"""Laws of the formats: exact storage, one-step rounding against integers, and the order."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from reference import dtypes
from reference.dtypes import FORMATS, decode, encode, from_ordinal, ordinal, round_to, ulp

FLOATS = [entry.name for entry in FORMATS.values() if entry.kind == "float"]
NARROW = [name for name in FLOATS if name not in ("float64", "float32")]


def every_value(name: str) -> np.ndarray:
    size = FORMATS[name].size
    raw = np.arange(1 << (8 * size), dtype=f"u{size}")
    return decode(raw, name)


def rounded_by_integers(value: float, name: str, overflow: str) -> float:
    """Round to nearest even with Python integers alone."""
    fmt = FORMATS[name]
    if value != value:
        return value
    sign = -1.0 if np.signbit(value) else 1.0
    beyond = {"inf": np.inf, "nan": np.nan, "saturate": fmt.max}[overflow]
    if np.isinf(value):
        return sign * beyond
    exact = abs(Fraction(value))
    exponent = fmt.emin
    while exact >= Fraction(2) ** (exponent + 1):
        exponent += 1
    unit = Fraction(2) ** (exponent - fmt.precision + 1)
    nearest = round(exact / unit) * unit  # Fraction rounds half to even
    if nearest > Fraction(fmt.max):
        return sign * beyond
    return sign * float(nearest)


def same(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both = np.isnan(a) & np.isnan(b)
    return bool((both | ((a == b) & (np.signbit(a) == np.signbit(b)))).all())


def test_table_has_the_sizes_of_the_storage():
    assert {name: fmt.size for name, fmt in FORMATS.items()} == {
        "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e5m2": 1,
        "float8_e4m3fn": 1, "int64": 8, "int32": 4, "uint8": 1, "bool": 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_table_limits_are_those_of_the_storage_type(name):
    info = ml_dtypes.finfo(dtypes.numpy_dtype(name))
    fmt = FORMATS[name]
    assert fmt.max == float(info.max)
    assert fmt.min_normal == float(info.smallest_normal)
    assert fmt.min_subnormal == float(info.smallest_subnormal)
    assert fmt.precision == info.nmant + 1
    assert fmt.has_inf == (name != "float8_e4m3fn")


@pytest.mark.parametrize("name", NARROW)
def test_decode_agrees_with_the_storage_type_on_every_pattern(name):
    size = FORMATS[name].size
    raw = np.arange(1 << (8 * size), dtype=f"u{size}")
    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet
        cast = raw.view(dtypes.numpy_dtype(name)).astype(np.float64)
    assert same(decode(raw, name), cast)
    assert same(decode(raw.tobytes(), name), decode(raw, name))


@pytest.mark.parametrize("name", NARROW)
def test_encode_inverts_decode_on_every_value(name):
    values = every_value(name)
    stored = encode(values, name)
    assert stored.dtype == dtypes.numpy_dtype(name)
    assert same(decode(stored, name), values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float32", [1.5, -0.0, np.inf]),
        ("float64", [0.1]),
        ("int64", [-3.0, 2.0**52]),
        ("int32", [7.0]),
        ("uint8", [255.0]),
        ("bool", [0.0, 1.0]),
    ],
)
def test_encode_and_decode_are_inverse_on_wide_and_integer_storage(name, values):
    assert same(decode(encode(values, name), name), np.array(values))


def test_encode_refuses_a_value_the_format_cannot_hold():
    with pytest.raises(ValueError, match=r"1\.001 is not a value of bfloat16"):
        encode([1.0, 1.001], "bfloat16")
    with pytest.raises(ValueError, match="inf is not a value of float8_e4m3fn"):
        encode([np.inf], "float8_e4m3fn")


def test_decode_refuses_foreign_storage_and_inexact_integers():
    with pytest.raises(ValueError, match="cannot be read from an array of float32"):
        decode(np.zeros(2, np.float32), "bfloat16")
    with pytest.raises(ValueError, match=r"2\*\*53"):
        decode(np.array([2**53 + 1]), "int64")


def test_unknown_and_unroundable_formats_are_refused():
    with pytest.raises(ValueError, match="'fp4' is unknown; known are float64"):
        dtypes.numpy_dtype("fp4")
    with pytest.raises(ValueError, match="'int32' does not round"):
        round_to([1.0], "int32")


def test_one_step_rounding_of_the_double_rounding_witness():
    witness = 1 + 2.0**-8 + 2.0**-40
    assert round_to(witness, "bfloat16") == 1.0078125
    assert float(np.float64(witness).astype(ml_dtypes.bfloat16)) == 1.0


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_value_midpoint_and_their_neighbours_round_like_integers(name):
    values = every_value(name)
    finite = np.sort(np.abs(values[np.isfinite(values)]))
    finite = np.unique(finite)
    top = np.float64(FORMATS[name].max)
    middle = np.append((finite[:-1] + finite[1:]) / 2, top + ulp(top, name) / 2)
    # The law of a correctly rounded midpoint: the neighbour with the even ordinal.
    place = ordinal(finite, name)
    upper = np.append(finite[1:], np.inf)
    even = np.where(place % 2 == 0, finite, upper)
    for sign in (1.0, -1.0):
        assert same(round_to(sign * finite, name), sign * finite)
        assert same(round_to(sign * middle, name), sign * even)
        assert same(round_to(sign * np.nextafter(middle, 0), name), sign * finite)
        assert same(round_to(sign * np.nextafter(middle, np.inf), name), sign * upper)
    # And the integers themselves on a thinned set (Fractions are slow).
    thin = np.concatenate([finite[::61], middle[::53], np.nextafter(middle[::59], 0)])
    expected = [rounded_by_integers(float(v), name, "inf") for v in thin]
    assert same(round_to(thin, name), np.array(expected))


@pytest.mark.parametrize("overflow", ["nan", "saturate", "inf"])
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float32", "bfloat16", "float16"])
def test_random_and_special_values_round_like_integers(name, overflow):
    fmt = FORMATS[name]
    if overflow not in fmt.overflow:
        with pytest.raises(ValueError, match=f"overflow='{overflow}' is no rule of {name}"):
            round_to([1.0], name, overflow=overflow)
        return
    rng = np.random.default_rng(7)
    span = np.ldexp(rng.standard_normal(300), rng.integers(fmt.emin - 15, 130, 300))
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, fmt.max, -fmt.max, fmt.max * (1 + 2.0**-40)]
    edge = fmt.max + float(ulp(fmt.max, name)) / 2
    special += [edge, np.nextafter(edge, 0), np.nextafter(edge, np.inf), fmt.min_subnormal / 2]
    special += [1.5 * fmt.min_subnormal, 2.5 * fmt.min_subnormal, 5e-324, 1e308, 0.5 - 2.0**-54]
    values = np.concatenate([span, special])
    expected = [rounded_by_integers(float(v), name, overflow) for v in values]
    assert same(round_to(values, name, overflow=overflow), np.array(expected))


def test_overflow_of_e4m3fn_is_decided_after_rounding():
    values = [464.0, 464.1, -464.1, np.inf, -np.inf]
    assert same(round_to(values, "float8_e4m3fn", overflow="nan"), [448, *[np.nan] * 4])
    saturated = round_to(values, "float8_e4m3fn", overflow="saturate")
    assert saturated.tolist() == [448, 448, -448, 448, -448]
    with pytest.raises(ValueError, match="overflow=None is no rule of float8_e4m3fn"):
        round_to([1.0], "float8_e4m3fn")


def test_nan_of_any_payload_stays_nan():
    raw = np.array([0x7FF0000000000001, -1, 0x7FFFFFFFFFFFFFFF], dtype=np.int64)
    assert np.isnan(round_to(raw.view(np.float64), "bfloat16")).all()


def test_rounding_keeps_shape_and_copies():
    values = np.ones((2, 3))[:, ::2]
    assert round_to(values, "float16").shape == (2, 2)
    assert round_to(1.0, "float16").shape == ()
    same_format = round_to(values, "float64")
    assert same_format is not values
    assert same(same_format, values)
    assert round_to(np.empty((0, 4)), "bfloat16").shape == (0, 4)
    strided = np.arange(12.0).reshape(3, 4).T
    assert same(round_to(strided, "bfloat16"), strided)


@pytest.mark.parametrize("name", NARROW)
def test_ordinals_of_all_values_are_consecutive(name):
    values = every_value(name)
    values = values[~np.isnan(values)]
    values = values[np.lexsort((~np.signbit(values), values))]
    places = ordinal(values, name)
    assert (np.diff(places) == 1).all()
    assert same(from_ordinal(places, name), values)
    assert same(dtypes.next_up(values[:-1], name), values[1:])
    assert same(dtypes.next_down(values[1:], name), values[:-1])
    assert ordinal([0.0, -0.0], name).tolist() == [0, -1]


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_neighbours_are_those_of_nextafter(name):
    kind = dtypes.numpy_dtype(name).type
    tiny = FORMATS[name].min_subnormal
    values = np.array([1.0, -1.0, 3.5, tiny, FORMATS[name].min_normal, FORMATS[name].max], kind)
    with np.errstate(over="ignore", under="ignore"):
        up = np.nextafter(values, kind(np.inf)).astype(np.float64)
    assert same(dtypes.next_up(values.astype(np.float64), name), up)
    assert same(from_ordinal(ordinal(up, name), name), up)
    assert same(dtypes.next_up([-tiny, -0.0, np.inf, np.nan], name), [-0.0, 0.0, np.inf, np.nan])


def test_the_ends_of_an_order_stay():
    assert dtypes.next_up(448.0, "float8_e4m3fn") == 448.0
    assert dtypes.next_down(-448.0, "float8_e4m3fn") == -448.0
    assert dtypes.next_down(-np.inf, "float16") == -np.inf


def test_nan_has_no_ordinal():
    with pytest.raises(ValueError, match="NaN has no place"):
        ordinal([np.nan], "float16")


def test_ulp_is_the_spacing_of_the_binade():
    values = [1.0, -1.5, 2.0, 0.0, 65504.0, np.inf, np.nan]
    expected = [2.0**-10, 2.0**-10, 2.0**-9, 2.0**-24, 32.0, 32.0, np.nan]
    assert same(ulp(values, "float16"), expected)


@pytest.mark.parametrize("name", FLOATS)
def test_directed_rounding_brackets_and_keeps_values_of_the_format(name):
    fmt = FORMATS[name]
    rng = np.random.default_rng(3)
    values = np.ldexp(rng.standard_normal(500), rng.integers(fmt.emin - 30, 9, 500))
    values = np.append(values, [0.0, -0.0, np.inf, -np.inf])
    down, up = dtypes.round_down(values, name), dtypes.round_up(values, name)
    assert ((down <= values) & (values <= up)).all()
    assert ((down == up) == (down == values)).all()
    between = ordinal(up, name) - ordinal(down, name)
    # -0 and +0 are neighbours, so a pair around zero may count one more.
    assert (between[values != 0] <= 1 + (down[values != 0] * up[values != 0] == 0)).all()
    assert same(dtypes.round_up(down, name), down)
    assert same(dtypes.round_down(up, name), up)


def test_directed_rounding_beyond_the_largest_value():
    values = [70000.0, -70000.0, np.nan]
    assert same(dtypes.round_up(values, "float16"), [np.inf, -65504.0, np.nan])
    assert same(dtypes.round_down(values, "float16"), [65504.0, -np.inf, np.nan])
    assert dtypes.round_up(1.0 + 2.0**-20, "bfloat16") == 1.0078125
