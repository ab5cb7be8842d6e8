"""torch's own eager and compiled results lie inside the intervals of every contract.

The torch computations are written here from the ops' definitions, independently of ``ir``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from reference.contract import CONTRACTS, Operand, Rounding, contract_for, evaluate
from reference.dtypes import FORMATS, decode, encode, ordinal, round_to
from reference.interval import MUST, NEVER, Interval

TORCH = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
NAMES = {dtype: name for name, dtype in TORCH.items()}
BITS = {4: np.uint32, 2: np.uint16, 1: np.uint8}
DTYPES = ["float32", "float16", "bfloat16"]
WIDTHS = [1, 2, 3, 16, 17, 64]


def tensor(values: np.ndarray, dtype: str) -> torch.Tensor:
    size = FORMATS[dtype].size
    raw = np.array(encode(values, dtype), order="C").view(BITS[size])
    signed = raw.view({4: np.int32, 2: np.int16, 1: np.uint8}[size])
    return torch.from_numpy(signed.copy()).view(TORCH[dtype])


def values_of(result: torch.Tensor) -> np.ndarray:
    name = NAMES[result.dtype]
    size = FORMATS[name].size
    as_integers = {4: torch.int32, 2: torch.int16, 1: torch.uint8}[size]
    raw = result.detach().contiguous().view(as_integers).numpy()
    return decode(raw.view(BITS[size]), name)


def outside(interval: Interval, observed: np.ndarray) -> np.ndarray:
    """Where an observed value is not admitted."""
    assert interval.shape == observed.shape
    nan = np.isnan(observed)
    low = (observed > interval.lo) | (
        (observed == interval.lo) & (np.signbit(interval.lo) | ~np.signbit(observed))
    )
    high = (observed < interval.hi) | (
        (observed == interval.hi) & (~np.signbit(interval.hi) | np.signbit(observed))
    )
    return np.where(nan, interval.nan == NEVER, ~(low & high) | (interval.nan == MUST))


def show(interval: Interval, observed: np.ndarray) -> str:
    bad = outside(interval, observed)
    first = tuple(np.argwhere(bad)[0])
    return (
        f"{bad.sum()} of {bad.size} outside, first at {first}: {observed[first]!r} not in "
        f"[{interval.lo[first]!r}, {interval.hi[first]!r}] nan={interval.nan[first]}"
    )


def check(name: str, arguments: Mapping, results: Mapping, rounding: Rounding = "strict") -> dict:
    admitted = evaluate(CONTRACTS[name], arguments, rounding=rounding)
    assert list(admitted) == list(results)
    for output, result in results.items():
        observed = values_of(result)
        if outside(admitted[output], observed).any():
            pytest.fail(f"{name} {output}: {show(admitted[output], observed)}")
    return admitted


def random_rows(rng, rows, width, dtype):
    return round_to(rng.standard_normal((rows, width)) * 3, dtype)


def special_rows(rng, rows, width, dtype):
    """Special values among ordinary ones, sparse enough that rows differ in kind."""
    fmt = FORMATS[dtype]
    pool = [0.0, -0.0, np.inf, -np.inf, np.nan, fmt.max, -fmt.max, fmt.min_normal]
    pool += [-fmt.min_subnormal, 3 * fmt.min_subnormal, 1.0, -1.0, 448.0, 464.0, -90.0, 1e-3, 60.0]
    pool = np.array(pool)
    chosen = rng.choice(pool, (rows, width))
    ordinary = rng.standard_normal((rows, width))
    share = rng.choice([0.02, 0.3, 1.0], (rows, 1))
    return round_to(np.where(rng.random((rows, width)) < share, chosen, ordinary), dtype)


def dyadic_rows(rng, rows, width, dtype):
    return rng.integers(-6, 7, (rows, width)) / 4.0


def tie_rows(rng, rows, width, dtype):
    """Values of few bits, whose products and quotients fall on midpoints of the format often."""
    odd = 1 + 2.0 ** (1 - FORMATS[dtype].precision) * rng.integers(0, 8, (rows, width))
    return round_to(odd * np.ldexp(1.0, rng.integers(-3, 3, (rows, width))), dtype)


def tiny_rows(rng, rows, width, dtype):
    scale = rng.choice([1e-3, 1e-6, 1e-20, 1e-38], (rows, 1))
    return round_to(rng.standard_normal((rows, width)) * scale, dtype)


DATA: dict[str, Callable] = {
    "random": random_rows,
    "special": special_rows,
    "dyadic": dyadic_rows,
    "ties": tie_rows,
    "tiny": tiny_rows,
}

every_kind = pytest.mark.parametrize("kind", list(DATA))
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


# torch, eagerly


def norm_of(xf, like, weight, epsilon, size):
    part = xf if size is None else xf[..., :size]
    xf = xf * torch.rsqrt(part.pow(2).mean(dim=-1, keepdim=True) + epsilon)
    if weight is None:
        return xf.to(like)
    return (xf.to(weight.dtype) * weight).to(like)


def rms_norm(x, weight, epsilon, variance_size=None):
    return norm_of(x.float(), x.dtype, weight, epsilon, variance_size)


def fused_add_rms_norm(x, x_residual, weight, epsilon, variance_size=None):
    added = x.float() + x_residual.float()
    return norm_of(added, x.dtype, weight, epsilon, variance_size), added.to(x.dtype)


def halves(x):
    width = x.shape[-1] // 2
    return x[..., :width], x[..., width:]


def silu_and_mul(x):
    gate, up = halves(x)
    return torch.nn.functional.silu(gate.float()).to(x.dtype) * up


def gelu_and_mul(x, approximate):
    gate, up = halves(x)
    return torch.nn.functional.gelu(gate.float(), approximate=approximate).to(x.dtype) * up


def gelu_and_mul_sparse(x, std_multiplier, approximate):
    gate, up = halves(x)
    mean = gate.mean(dim=-1, keepdim=True)
    std = torch.std(gate, dim=-1, keepdim=True, unbiased=False)
    kept = torch.relu(gate - (mean + std * std_multiplier))
    return torch.nn.functional.gelu(kept, approximate=approximate) * up


def rotary_one(x, positions, head_size, cache, is_neox, rotary_dim):
    table = cache[positions].to(x.dtype)
    cos, sin = (part.unsqueeze(1) for part in table.chunk(2, dim=-1))
    heads = x.reshape(x.shape[0], -1, head_size)
    turned, rest = heads[..., :rotary_dim], heads[..., rotary_dim:]
    if is_neox:
        x1, x2 = turned.chunk(2, dim=-1)
    else:
        x1, x2 = turned[..., ::2], turned[..., 1::2]
    o1, o2 = x1 * cos - x2 * sin, x2 * cos + x1 * sin
    pairs = torch.stack((o1, o2), dim=-1).flatten(-2)
    turned = torch.cat((o1, o2), dim=-1) if is_neox else pairs
    return torch.cat((turned, rest), dim=-1).reshape(x.shape)


def e4m3(ratio):
    return ratio.clamp(-448.0, 448.0).to(torch.float8_e4m3fn)


def static_quant(x, scale):
    return e4m3(x.float() / scale)


def dynamic_quant(x, scale_ub):
    largest = x.float().abs().amax(dim=-1, keepdim=True)
    if scale_ub is not None:
        largest = torch.minimum(largest, scale_ub)
    scale = (largest / 448.0).clamp(min=1.0 / (448.0 * 512.0))
    return e4m3(x.float() / scale), scale


def group_quant(x, group_size, ue8m0):
    groups = x.float().unflatten(-1, (-1, group_size))
    scale = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-10) / 448.0
    if ue8m0:
        fraction, exponent = torch.frexp(scale)
        power = torch.ldexp(torch.ones_like(scale), exponent - (fraction == 0.5).int())
        scale = torch.where(torch.isfinite(scale), power, scale)
    return e4m3(groups / scale).flatten(-2), scale.squeeze(-1)


# The laws


@every_kind
@every_dtype
@pytest.mark.parametrize("weight_dtype", [None, *DTYPES])
def test_eager_rms_norm_is_admitted(kind, dtype, weight_dtype):
    rng = np.random.default_rng(11)
    for width in WIDTHS:
        x = DATA[kind](rng, 40, width, dtype)
        weight, tw = None, None
        if weight_dtype is not None:
            w = DATA["special" if kind == "special" else "random"](rng, 1, width, weight_dtype)[0]
            weight, tw = Operand(w, weight_dtype), tensor(w, weight_dtype)
        for epsilon in (1e-6, 0.0, 0.1):
            size = None if width < 3 or epsilon else width - 1
            arguments = {
                "x": Operand(x, dtype),
                "weight": weight,
                "epsilon": epsilon,
                "variance_size": size,
            }
            check("rms_norm/1", arguments, {"y": rms_norm(tensor(x, dtype), tw, epsilon, size)})


@every_kind
@every_dtype
def test_eager_fused_add_rms_norm_is_admitted(kind, dtype):
    rng = np.random.default_rng(12)
    for width in WIDTHS:
        x, r = (DATA[kind](rng, 40, width, dtype) for _ in range(2))
        w = random_rows(rng, 1, width, dtype)[0]
        arguments = {
            "x": Operand(x, dtype),
            "x_residual": Operand(r, dtype),
            "weight": Operand(w, dtype),
            "epsilon": 1e-5,
            "variance_size": None,
        }
        y, residual = fused_add_rms_norm(tensor(x, dtype), tensor(r, dtype), tensor(w, dtype), 1e-5)
        admitted = check("fused_add_rms_norm/1", arguments, {"y": y, "residual": residual})
        assert admitted["residual"].is_point or kind == "special"


@every_kind
@every_dtype
def test_eager_silu_and_mul_is_admitted(kind, dtype):
    rng = np.random.default_rng(13)
    for width in WIDTHS:
        x = DATA[kind](rng, 60, 2 * width, dtype)
        check("silu_and_mul/1", {"x": Operand(x, dtype)}, {"y": silu_and_mul(tensor(x, dtype))})


@pytest.fixture
def _without_onednn(monkeypatch):
    # oneDNN's gelu multiplies before halving: inf beyond half the largest float32, and NaN at inf.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.mark.usefixtures("_without_onednn")
@every_kind
@every_dtype
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_eager_gelu_and_mul_is_admitted(kind, dtype, approximate):
    rng = np.random.default_rng(14)
    for width in WIDTHS:
        x = DATA[kind](rng, 60, 2 * width, dtype)
        check(
            "gelu_and_mul/1",
            {"x": Operand(x, dtype), "approximate": approximate},
            {"y": gelu_and_mul(tensor(x, dtype), approximate)},
        )


def test_onednn_gelu_is_refused_at_infinity_alone():
    gates = np.array([np.inf, -np.inf, 3.0, -3.0, 2.0**100] + [1.0] * 11)
    x = np.concatenate([gates, np.ones(16)])[None]
    arguments = {"x": Operand(x, "float32"), "approximate": "none"}
    y = evaluate(CONTRACTS["gelu_and_mul/1"], arguments, rounding="strict")["y"]
    got = values_of(torch.nn.functional.gelu(tensor(gates, "float32")))[None]
    expected = [torch.backends.mkldnn.is_available()] + [False] * 15
    assert outside(y, got)[0].tolist() == expected


@pytest.mark.usefixtures("_without_onednn")
@every_kind
@every_dtype
@pytest.mark.parametrize("multiplier", [0.0, 1.6448536, -0.3])
def test_eager_gelu_and_mul_sparse_is_admitted(kind, dtype, multiplier):
    rng = np.random.default_rng(15)
    for width in WIDTHS:
        x = DATA[kind](rng, 60, 2 * width, dtype)
        for approximate in ("none", "tanh"):
            arguments = {
                "x": Operand(x, dtype),
                "std_multiplier": multiplier,
                "approximate": approximate,
            }
            y = gelu_and_mul_sparse(tensor(x, dtype), multiplier, approximate)
            check("gelu_and_mul_sparse/1", arguments, {"y": y})


@every_kind
@every_dtype
@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize("cache_dtype", ["float32", None])
def test_eager_rotary_embedding_is_admitted(kind, dtype, is_neox, cache_dtype):
    rng = np.random.default_rng(16)
    cache_dtype = cache_dtype or dtype
    for head_size, rotary_dim, heads in ((2, 2, 1), (8, 6, 3), (16, None, 2)):
        dim = rotary_dim or head_size
        angle = rng.random((32, dim // 2)) * 6
        cache = round_to(np.concatenate([np.cos(angle), np.sin(angle)], -1), cache_dtype)
        positions = rng.integers(0, 32, 21)
        q = DATA[kind](rng, 21, heads * head_size, dtype)
        k = DATA[kind](rng, 21, head_size, dtype).reshape(21, 1, head_size)
        shared = {
            "positions": Operand(positions.astype(np.float64), "int64"),
            "head_size": head_size,
            "cos_sin_cache": Operand(cache, cache_dtype),
            "is_neox": is_neox,
            "rotary_dim": rotary_dim,
        }
        place, table = torch.from_numpy(positions), tensor(cache, cache_dtype)
        query, key = (
            rotary_one(tensor(x, dtype), place, head_size, table, is_neox, dim) for x in (q, k)
        )
        arguments = {**shared, "x_query": Operand(q, dtype), "x_key": Operand(k, dtype)}
        admitted = check("rotary_embedding/1", arguments, {"query": query, "key": key})
        assert admitted["query"].is_point
        alone = {**shared, "x_query": Operand(q, dtype), "x_key": None}
        empty = torch.empty(0, dtype=TORCH[dtype])
        check("rotary_embedding/1", alone, {"query": query, "key": empty})


@every_kind
@every_dtype
def test_eager_static_quant_is_the_one_admitted_value(kind, dtype):
    rng = np.random.default_rng(17)
    for scale in (0.013, 1.0, 3e-5, 1e-42, -2.0, 0.0, np.inf, np.nan):
        x = DATA[kind](rng, 50, 33, dtype)
        value = round_to([scale], "float32")
        arguments = {"x": Operand(x, dtype), "scale": Operand(value, "float32")}
        y = static_quant(tensor(x, dtype), tensor(value, "float32"))
        admitted = check("static_quant_fp8/1", arguments, {"y": y})
        assert np.array_equal(admitted["y"].lo, admitted["y"].hi, equal_nan=True)


@every_kind
@every_dtype
@pytest.mark.parametrize("bound", [None, 0.7, np.nan, 0.0])
def test_eager_dynamic_quant_is_the_one_admitted_value(kind, dtype, bound):
    rng = np.random.default_rng(18)
    for width in WIDTHS:
        x = DATA[kind](rng, 50, width, dtype)
        value = None if bound is None else round_to(np.array(bound), "float32")
        arguments = {
            "x": Operand(x, dtype),
            "scale_ub": None if value is None else Operand(value, "float32"),
        }
        y, scale = dynamic_quant(
            tensor(x, dtype), None if value is None else tensor(value, "float32")
        )
        admitted = check("dynamic_per_token_quant_fp8/1", arguments, {"y": y, "scale": scale})
        assert np.array_equal(admitted["y"].lo, admitted["y"].hi, equal_nan=True)


@every_kind
@every_dtype
@pytest.mark.parametrize("ue8m0", [False, True])
def test_eager_group_quant_is_the_one_admitted_value(kind, dtype, ue8m0):
    rng = np.random.default_rng(19)
    for groups, size in ((1, 1), (3, 5), (4, 16)):
        x = DATA[kind](rng, 50, groups * size, dtype).reshape(10, 5, groups * size)
        arguments = {
            "x": Operand(x, dtype),
            "group_size": size,
            "column_major_scales": True,
            "ue8m0": ue8m0,
        }
        y, scale = group_quant(tensor(x, dtype), size, ue8m0)
        admitted = check("per_token_group_quant_fp8/1", arguments, {"y": y, "scale": scale})
        assert admitted["scale"].shape == (10, 5, groups)
        assert np.array_equal(admitted["y"].lo, admitted["y"].hi, equal_nan=True)


@pytest.mark.parametrize("kind", ["random", "special", "tiny"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_delayed_quantization(kind: str, dtype: str):
    """Six calls over a history of 16, as a list that is cut: its places are the contract's."""
    rng = np.random.default_rng(23)
    past: list[float] = [0.5, 2.0] if kind == "random" else []
    amax = np.zeros(16)
    amax[14:] = past + [0.0] * (2 - len(past))
    following = 0 if past else 14
    for _ in range(6):
        x = DATA[kind](rng, 3, 17, dtype)
        given = tensor(x, dtype)
        top = torch.tensor(max(past[-16:], default=0.0), dtype=torch.float32)
        scale = (top / 448 if top > 0 else torch.ones(())).reshape(1)
        y = (given.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        own = given.abs().max()
        after, place = amax.copy(), following
        if own.isfinite() and own > 0:
            past.append(float(own))
            after[following] = float(own)
            place = (following + 1) % 16
        arguments = {
            "x": Operand(x, dtype),
            "amax": Operand(amax, "float32"),
            "next": Operand(np.array([float(following)]), "int64"),
        }
        admitted = evaluate(CONTRACTS["quant_fp8_delayed/1"], arguments, rounding="strict")
        for output, observed in (
            ("y", values_of(y)),
            ("scale", values_of(scale)),
            ("amax", after),
            ("next", np.array([float(place)])),
        ):
            assert not outside(admitted[output], observed).any(), output
        amax, following = after, place


def test_every_op_is_checked_against_torch():
    """But those on a paged cache, which are checked against rational numbers, in test_paged."""
    assert {contract.op for contract in CONTRACTS.values()} == {
        "rms_norm", "fused_add_rms_norm", "gelu_and_mul_sparse", "silu_and_mul", "gelu_and_mul",
        "rotary_embedding", "static_quant_fp8", "dynamic_per_token_quant_fp8",
        "per_token_group_quant_fp8", "quant_fp8_delayed", "reshape_and_cache",
        "paged_decode_attention",
    }  # fmt: skip


# Stock Inductor leaves the optional roundings out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
@every_dtype
def test_compiled_results_are_admitted_by_the_optional_contract(dtype):
    rng = np.random.default_rng(20)
    width = 48
    x = np.concatenate([rows(rng, 20, 2 * width, dtype) for rows in DATA.values()])
    w = random_rows(rng, 1, 2 * width, dtype)[0]
    angle = rng.random((len(x), width // 2))
    cache = round_to(np.concatenate([np.cos(angle), np.sin(angle)], -1), dtype)
    positions = np.arange(len(x))
    tx, tw = tensor(x, dtype), tensor(w, dtype)
    place, table = torch.from_numpy(positions), tensor(cache, dtype)
    operand = Operand(x, dtype)

    def everything(x, w, table):
        return (
            rms_norm(x, w, 1e-6),
            fused_add_rms_norm(x, x.flip(0), w, 1e-6),
            silu_and_mul(x),
            gelu_and_mul(x, "none"),
            gelu_and_mul(x, "tanh"),
            gelu_and_mul_sparse(x, 0.5, "none"),
            rotary_one(x, place, width, table, True, width),
        )

    torch._dynamo.reset()
    norm, (added, residual), silu, gelu, tanh, sparse, turned = torch.compile(everything)(
        tx, tw, table
    )
    weight = {"weight": Operand(w, dtype), "epsilon": 1e-6, "variance_size": None}
    both = {"x": operand, "x_residual": Operand(x[::-1].copy(), dtype)}
    angles = {
        "positions": Operand(positions.astype(np.float64), "int64"),
        "cos_sin_cache": Operand(cache, dtype),
        "x_query": operand,
        "x_key": None,
        "head_size": width,
        "is_neox": True,
        "rotary_dim": None,
    }
    empty = torch.empty(0, dtype=TORCH[dtype])
    for name, arguments, results in (
        ("rms_norm/1", {"x": operand, **weight}, {"y": norm}),
        ("fused_add_rms_norm/1", {**both, **weight}, {"y": added, "residual": residual}),
        ("silu_and_mul/1", {"x": operand}, {"y": silu}),
        ("gelu_and_mul/1", {"x": operand, "approximate": "none"}, {"y": gelu}),
        ("gelu_and_mul/1", {"x": operand, "approximate": "tanh"}, {"y": tanh}),
        (
            "gelu_and_mul_sparse/1",
            {"x": operand, "approximate": "none", "std_multiplier": 0.5},
            {"y": sparse},
        ),
        ("rotary_embedding/1", angles, {"query": turned, "key": empty}),
    ):
        check(name, arguments, results, rounding="optional")


# Widths


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("width", [64, 1024, 4096])
def test_half_precision_norms_are_admitted_two_ulps_wide_at_most(dtype, width):
    rng = np.random.default_rng(21)
    arguments = {
        "x": Operand(random_rows(rng, 8, width, dtype), dtype),
        "weight": Operand(random_rows(rng, 1, width, dtype)[0], dtype),
        "epsilon": 1e-6,
        "variance_size": None,
    }
    y = evaluate(contract_for("rms_norm"), arguments, rounding="strict")["y"]
    assert (ordinal(y.hi, dtype) - ordinal(y.lo, dtype)).max() <= 2


@every_dtype
def test_exactly_summable_rows_of_a_power_of_two_are_narrow(dtype):
    rng = np.random.default_rng(22)
    arguments = {
        "x": Operand(dyadic_rows(rng, 8, 4096, dtype), dtype),
        "weight": None,
        "epsilon": 2.0**-4,
        "variance_size": None,
    }
    y = evaluate(contract_for("rms_norm"), arguments, rounding="strict")["y"]
    wide = ordinal(y.hi, dtype) - ordinal(y.lo, dtype)
    assert wide.max() <= {"float32": 2, "float16": 1, "bfloat16": 0}[dtype]


@every_dtype
def test_silu_is_admitted_at_most_four_ulps_wide(dtype):
    x = random_rows(np.random.default_rng(23), 500, 64, dtype)
    y = evaluate(contract_for("silu_and_mul"), {"x": Operand(x, dtype)}, rounding="strict")["y"]
    wide = ordinal(y.hi, dtype) - ordinal(y.lo, dtype)
    assert wide.max() <= {"float32": 6, "float16": 2, "bfloat16": 1}[dtype]
