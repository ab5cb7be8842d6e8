"""Laws of contracts: planted faults fall outside, variants differ, descriptions read well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reference.contract import CONTRACTS, Operand, Step, contract_for, describe, evaluate
from reference.dtypes import FORMATS, ordinal, round_to
from reference.interval import MAYBE, MUST, NEVER
from reference.ops import (
    activation,
    fp8_delayed,
    kv_cache,
    layernorm,
    quantization,
    rotary,
)


def f32(values):
    return np.asarray(values, np.float32)


def norm_arguments(x, weight=None, dtype="bfloat16", epsilon=1e-6, variance_size=None):
    x = round_to(x, dtype)
    return {
        "x": Operand(x, dtype),
        "weight": None if weight is None else Operand(round_to(weight, dtype), dtype),
        "epsilon": epsilon,
        "variance_size": variance_size,
    }


def normalized(x, epsilon, *, variance_in="float32", epsilon_outside=False):
    xf = f32(x)
    squares = f32(round_to(np.square(xf), variance_in))
    mean = f32(round_to(squares.mean(axis=-1, keepdims=True, dtype=np.float32), variance_in))
    if epsilon_outside:
        return xf / (np.sqrt(mean) + f32(epsilon))
    return xf / np.sqrt(mean + f32(epsilon))


def is_admitted(interval, values) -> bool:
    return bool(((interval.lo <= values) & (values <= interval.hi)).all())


X = np.array([[1.0, 2.5, -3.25, 0.75], [0.0625, 0.125, -0.03125, 0.25]])


def test_the_faultless_norm_is_admitted():
    arguments = norm_arguments(X)
    y = evaluate(contract_for("rms_norm"), arguments, rounding="strict")["y"]
    assert is_admitted(y, round_to(normalized(X, 1e-6), "bfloat16"))


def test_epsilon_outside_the_root_falls_outside():
    y = evaluate(contract_for("rms_norm"), norm_arguments(X, epsilon=0.25), rounding="strict")["y"]
    good = round_to(normalized(X, 0.25), "bfloat16")
    bad = round_to(normalized(X, 0.25, epsilon_outside=True), "bfloat16")
    assert is_admitted(y, good)
    assert not is_admitted(y, bad)


def test_a_bfloat16_variance_falls_outside():
    x = np.random.default_rng(0).standard_normal((16, 4))
    x = round_to(x, "bfloat16")
    y = evaluate(contract_for("rms_norm"), norm_arguments(x), rounding="strict")["y"]
    bad = round_to(normalized(x, 1e-6, variance_in="bfloat16"), "bfloat16")
    assert is_admitted(y, round_to(normalized(x, 1e-6), "bfloat16"))
    assert not is_admitted(y, bad)


def test_a_weight_multiplied_in_float32_is_another_contract():
    rng = np.random.default_rng(1)
    x, w = (round_to(rng.standard_normal(shape), "bfloat16") for shape in ((16, 4), 4))
    arguments = norm_arguments(x, w)
    strict = evaluate(contract_for("rms_norm"), arguments, rounding="strict")["y"]
    variant = contract_for("rms_norm", "rms_norm/fp32-weight")
    once = round_to(normalized(x, 1e-6) * f32(w), "bfloat16")
    assert not is_admitted(strict, once)
    assert is_admitted(evaluate(variant, arguments, rounding="strict")["y"], once)
    optional = evaluate(contract_for("rms_norm"), arguments, rounding="optional")["y"]
    assert is_admitted(optional, once)


def test_a_norm_over_all_instead_of_the_first_columns_falls_outside():
    arguments = norm_arguments(X, variance_size=2)
    y = evaluate(contract_for("rms_norm"), arguments, rounding="strict")["y"]
    assert not is_admitted(y, round_to(normalized(X, 1e-6), "bfloat16"))


def test_the_norm_of_the_rounded_sum_falls_outside():
    rng = np.random.default_rng(2)
    x, r = (round_to(rng.standard_normal((32, 4)), "bfloat16") for _ in range(2))
    arguments = norm_arguments(x) | {"x_residual": Operand(r, "bfloat16")}
    y = evaluate(contract_for("fused_add_rms_norm"), arguments, rounding="strict")["y"]
    assert is_admitted(y, round_to(normalized(x + r, 1e-6), "bfloat16"))
    assert not is_admitted(y, round_to(normalized(round_to(x + r, "bfloat16"), 1e-6), "bfloat16"))


def test_multiplying_by_the_reciprocal_scale_is_another_contract():
    # Midpoints of e4m3fn times the scale: the quotient is a tie, the product just misses it.
    x = np.array([[41.0 * (17 + 2 * step) for step in range(8)]])
    scale = np.array([41.0])
    arguments = {"x": Operand(x, "float32"), "scale": Operand(scale, "float32")}
    by_division = round_to(f32(x) / f32(41.0), "float8_e4m3fn", overflow="saturate")
    inverse = f32(1.0) / f32(41.0)
    by_reciprocal = round_to(f32(x) * inverse, "float8_e4m3fn", overflow="saturate")
    division = evaluate(contract_for("static_quant_fp8"), arguments, rounding="strict")["y"]
    variant = contract_for("static_quant_fp8", "static_quant_fp8/reciprocal")
    reciprocal = evaluate(variant, arguments, rounding="strict")["y"]
    assert is_admitted(division, by_division)
    assert is_admitted(reciprocal, by_reciprocal)
    assert not is_admitted(division, by_reciprocal)


def test_silu_rounded_once_at_the_end_falls_outside_the_strict_contract():
    x = round_to(np.random.default_rng(3).standard_normal((64, 8)), "bfloat16")
    gate, up = x[:, :4], x[:, 4:]
    once = round_to(f32(gate) / (1 + np.exp(-f32(gate))) * f32(up), "bfloat16")
    arguments = {"x": Operand(x, "bfloat16")}
    contract = contract_for("silu_and_mul")
    assert not is_admitted(evaluate(contract, arguments, rounding="strict")["y"], once)
    assert is_admitted(evaluate(contract, arguments, rounding="optional")["y"], once)


def test_a_fused_rotation_in_float32_needs_the_optional_contract():
    rng = np.random.default_rng(4)
    x = f32(rng.standard_normal((64, 2))).astype(np.float64)
    angle = rng.random((64, 1)) * 6
    cache = f32(np.concatenate([np.cos(angle), np.sin(angle)], -1)).astype(np.float64)
    arguments = {
        "positions": Operand(np.arange(64.0), "int64"),
        "x_query": Operand(x, "float32"),
        "x_key": None,
        "head_size": 2,
        "cos_sin_cache": Operand(cache, "float32"),
        "is_neox": True,
        "rotary_dim": None,
    }
    product = f32(x[:, 1] * cache[:, 1]).astype(np.float64)
    fused = x[:, 0] * cache[:, 0] - product
    other = f32(x[:, 1] * cache[:, 0]) + f32(x[:, 0] * cache[:, 1])
    turned = f32(np.stack([fused, other], -1)).astype(np.float64)
    contract = contract_for("rotary_embedding")
    strict = evaluate(contract, arguments, rounding="strict")
    assert strict["query"].is_point
    assert strict["key"].shape == (0,)
    assert not is_admitted(strict["query"], turned)
    optional = evaluate(contract, arguments, rounding="optional")["query"]
    assert ((optional.lo <= turned) & (turned <= optional.hi)).mean() == 1.0


def test_the_textbook_variance_falls_outside_where_it_cancels():
    gate = 4000 + np.linspace(-1, 1, 16)[None]
    x = f32(np.concatenate([gate, np.ones_like(gate)], -1)).astype(np.float64)
    arguments = {"x": Operand(x, "float32"), "std_multiplier": -1.0, "approximate": "none"}
    y = evaluate(contract_for("gelu_and_mul_sparse"), arguments, rounding="strict")["y"]
    g = f32(x[:, :16])
    mean = g.mean(dtype=np.float32)
    for variance, inside in (
        (np.square(g - mean).mean(dtype=np.float32), True),
        (np.square(g).mean(dtype=np.float32) - mean * mean, False),
    ):
        kept = np.maximum(g - (mean - np.sqrt(np.maximum(variance, 0))), 0)
        value = [[0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in kept[0].astype(float)]]
        assert is_admitted(y, np.array(value)) == inside


def test_an_infinite_row_has_an_undefined_deviation():
    x = np.array([[np.inf, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    arguments = {"x": Operand(x, "float32"), "std_multiplier": 1.0, "approximate": "tanh"}
    y = evaluate(contract_for("gelu_and_mul_sparse"), arguments, rounding="strict")["y"]
    assert y.nan.tolist() == [[MUST, MUST], [NEVER, NEVER]]


def test_a_row_whose_squares_overflow_may_be_anything_but_is_not_refused():
    top = FORMATS["float32"].max
    x = np.array([[top, -top, top, 1.0, 1.0, 1.0]])
    arguments = {"x": Operand(x, "float32"), "std_multiplier": 1.0, "approximate": "none"}
    y = evaluate(contract_for("gelu_and_mul_sparse"), arguments, rounding="strict")["y"]
    assert (y.nan == MAYBE).all()


def test_an_overflowing_square_expects_what_float32_gives():
    x = np.array([[2.0**70, 1.0]])
    y = evaluate(contract_for("rms_norm"), norm_arguments(x), rounding="strict")["y"]
    assert y.lo.tolist() == y.hi.tolist() == [[0.0, 0.0]]
    assert (y.nan == NEVER).all()


def test_scales_follow_their_floors_and_nan_rows():
    x = np.array([[0.0, -0.0], [np.nan, 1.0], [np.inf, -1.0], [896.0, 1.0]])
    result = evaluate(
        contract_for("dynamic_per_token_quant_fp8"),
        {"x": Operand(x, "float32"), "scale_ub": None},
        rounding="strict",
    )
    floor = float(np.float32(1 / (448 * 512)))
    assert np.array_equal(result["scale"].lo[:, 0], [floor, np.nan, np.inf, 2.0], equal_nan=True)
    y = result["y"]
    assert y.nan.tolist() == [[0, 0], [MUST, MUST], [MUST, 0], [0, 0]]
    assert np.signbit(y.lo[0]).tolist() == [False, True]
    assert np.signbit(y.hi[2, 1])
    assert y.lo[3].tolist() == [448.0, 0.5]


@pytest.mark.parametrize(
    ("largest", "scale"), [(448.0, 1.0), (449.0, 2.0), (447.0, 1.0), (112.0, 0.25), (0.0, 2.0**-42)]
)
def test_powers_of_two_scales_are_the_smallest_at_or_above(largest, scale):
    arguments = {
        "x": Operand(np.array([[largest, 0.0]]), "float32"),
        "group_size": 2,
        "column_major_scales": False,
        "ue8m0": True,
    }
    result = evaluate(contract_for("per_token_group_quant_fp8"), arguments, rounding="strict")
    assert result["scale"].lo.tolist() == [[scale]]


@pytest.mark.parametrize("shape", [(4,), (0, 4), (3, 4), (2, 0, 4), (2, 3, 2, 4), (70, 1000, 4)])
def test_outputs_have_the_shape_of_their_rows(shape):
    x = np.resize(X, shape)
    y = evaluate(contract_for("rms_norm"), norm_arguments(x), rounding="strict")["y"]
    assert y.shape == shape
    if x.size:
        alone = evaluate(contract_for("rms_norm"), norm_arguments(X), rounding="strict")["y"]
        assert np.array_equal(y.lo.reshape(-1, 4)[:2], alone.lo[: y.lo.size // 4])
        assert np.array_equal(y.hi.reshape(-1, 4)[-1], y.hi.reshape(-1, 4)[-1])


def test_blocks_of_rows_give_what_one_row_gives():
    x = round_to(np.random.default_rng(5).standard_normal((40, 2000)), "bfloat16")
    contract = contract_for("rms_norm")
    together = evaluate(contract, norm_arguments(x), rounding="optional")["y"]
    for row in (0, 17, 39):
        one = evaluate(contract, norm_arguments(x[row]), rounding="optional")["y"]
        assert np.array_equal(together.lo[row], one.lo)
        assert np.array_equal(together.hi[row], one.hi)


def test_strict_results_are_within_optional_ones():
    rng = np.random.default_rng(6)
    x, w = (round_to(rng.standard_normal(shape), "bfloat16") for shape in ((30, 8), 8))
    both = [
        evaluate(contract_for("rms_norm"), norm_arguments(x, w), rounding=rounding)["y"]
        for rounding in ("strict", "optional")
    ]
    assert (both[1].lo <= both[0].lo).all()
    assert (both[1].hi >= both[0].hi).all()
    assert (ordinal(both[1].hi, "bfloat16") - ordinal(both[1].lo, "bfloat16")).max() >= 1


def test_wrong_use_names_what_is_accepted():
    with pytest.raises(ValueError, match="rounding='loose' is unknown; accepted: 'strict'"):
        evaluate(contract_for("rms_norm"), norm_arguments(X), rounding="loose")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match=r"rms_norm/1 needs one of its row arguments \('x',\)"):
        evaluate(contract_for("rms_norm"), {"epsilon": 0.0}, rounding="strict")
    with pytest.raises(ValueError, match="no contract of softmax; known: rms_norm/1"):
        contract_for("softmax")
    with pytest.raises(ValueError, match=r"no contract of rms_norm named 'x'; known: rms_norm/1, "):
        contract_for("rms_norm", "x")


def test_every_family_of_ops_is_registered_under_its_contracts_names():
    families = (layernorm, activation, rotary, quantization, fp8_delayed, kv_cache)
    named = [contract for family in families for contract in family.CONTRACTS]
    assert list(CONTRACTS.values()) == named
    assert all(name.startswith(f"{contract.op}/") for name, contract in CONTRACTS.items())
    assert all(bool(c.differs) == (not n.endswith("/1")) for n, c in CONTRACTS.items())


def test_every_step_names_earlier_steps_or_arguments_and_known_formats():
    arguments = {
        "x", "x_residual", "weight", "epsilon", "variance_size", "std_multiplier", "approximate",
        "positions", "x_query", "x_key", "cos_sin_cache", "scale", "scale_ub", "ue8m0",
        "amax", "next", "key", "value", "slot_mapping", "kv_cache", "query", "block_tables",
        "seq_lens",
    }  # fmt: skip
    for contract in CONTRACTS.values():
        known = set(arguments)
        for step in contract.steps:
            assert isinstance(step, Step)
            assert set(step.operands) <= known
            assert step.format is None or step.format[:1] == "@" or step.format in FORMATS
            known.add(step.name)
        assert set(contract.outputs.values()) <= known


def test_a_description_reads_like_the_definition():
    assert describe(contract_for("static_quant_fp8", "static_quant_fp8/reciprocal")) == [
        ("inverse", "1 / scale", "rounds to float32"),
        ("ratio", "x * inverse", "rounds to float32"),
        ("clamped", "ratio clamped to [-448, 448], NaN kept", ""),
        ("y", "clamped", "rounds to float8_e4m3fn"),
    ]
    norm = describe(contract_for("rms_norm"))
    assert norm[0] == ("square", "x * x", "rounds to float32; or fused into the next step")
    assert "any order, chains of at most n - 1 additions" in norm[1][2]
    assert "optional where that is not the dtype of x; only with weight" in norm[7][2]
    turned = describe(contract_for("rotary_embedding"))
    assert "or, like an optional rounding, fused into the next step" in turned[4][2]
