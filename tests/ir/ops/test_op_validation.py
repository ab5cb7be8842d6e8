"""What is not legal is refused by InputError, eagerly, under a fake run, and wrapped or not."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import ir
from ir import ops
from ir.errors import InputError

f32, f16, bf16, i64 = torch.float32, torch.float16, torch.bfloat16, torch.int64
NAN, INF = float("nan"), float("inf")


def x(*shape, dtype=f32):
    return torch.ones(shape, dtype=dtype)


def w(*shape, dtype=f32):
    return torch.ones(shape, dtype=dtype)


META = "meta"
_ACTIVATIONS = [
    ("x.dtype", x(2, 4, dtype=torch.float64)),
    ("x.dtype", x(2, 4, dtype=i64)),
    ("x.dim()", torch.tensor(1.0)),
    ("x.shape", x(2, 0)),
]
_NORM = [
    *((a, (t, None, 1e-6)) for a, t in _ACTIVATIONS),
    ("x.dim()", (x(1, 1, 1, 1, 2), None, 1e-6)),
    ("weight.dtype", (x(2, 4), w(4, dtype=torch.float64), 1e-6)),
    ("weight.shape", (x(2, 4), w(3), 1e-6)),
    ("weight.shape", (x(2, 4), w(1, 4), 1e-6)),
    ("weight.shape", (x(2, 4), w(), 1e-6)),
    ("weight.device", (x(2, 4), w(4).to(META), 1e-6)),
    *(("epsilon", (x(2, 4), None, e)) for e in (-1e-9, NAN, INF, -INF)),
    *(("variance_size", (x(2, 4), None, 1e-6, v)) for v in (0, -1, 5)),
]
_FUSED = [
    *((a, (args[0], args[0], *args[1:])) for a, args in _NORM if args[0].numel()),
    ("x_residual.dtype", (x(2, 4), x(2, 4, dtype=f16), None, 1e-6)),
    ("x_residual.shape", (x(2, 4), x(3, 4), None, 1e-6)),
    ("x_residual.shape", (x(2, 4), x(1, 4), None, 1e-6)),
    ("x_residual.shape", (x(2, 4), x(4), None, 1e-6)),
    ("x_residual.device", (x(2, 4), x(2, 4).to(META), None, 1e-6)),
]
_GATED = [*_ACTIVATIONS, ("x.dim()", x(1, 1, 1, 1, 2)), ("x.shape", x(2, 3)), ("x.shape", x(1))]
_QUANTIZED = [*_ACTIVATIONS, ("x.dim()", x(1, 1, 1, 2))]
_POSITIONS = torch.zeros(2, dtype=i64)


def _rotary(**changes):
    args = {
        "positions": _POSITIONS, "x_query": x(2, 8), "x_key": x(2, 4), "head_size": 4,
        "cos_sin_cache": w(3, 4), "is_neox": True, "rotary_dim": None,
    }  # fmt: skip
    return tuple((args | changes).values())


_ROTARY = [
    ("positions.dtype", _rotary(positions=torch.zeros(2, dtype=torch.int32))),
    ("positions.shape", _rotary(positions=torch.zeros(2, 1, dtype=i64))),
    ("positions.shape", _rotary(positions=torch.tensor(0))),
    *(("head_size", _rotary(head_size=h)) for h in (0, -2, 3, 1)),
    *(("rotary_dim", _rotary(rotary_dim=r)) for r in (0, 1, 3, 6, -2)),
    ("x_query.dtype", _rotary(x_query=x(2, 8, dtype=torch.float64))),
    ("x_query.dim()", _rotary(x_query=x(8))),
    ("x_query.dim()", _rotary(x_query=x(2, 1, 2, 4))),
    ("x_query.shape", _rotary(x_query=x(2, 0))),
    ("x_query.shape", _rotary(x_query=x(2, 6))),
    ("x_query.shape", _rotary(x_query=x(3, 8))),
    ("x_query.shape", _rotary(x_query=x(2, 0, 4), x_key=x(2, 1, 4))),
    ("x_query.shape", _rotary(x_query=x(2, 2, 8), x_key=x(2, 1, 4))),
    ("x_query.device", _rotary(x_query=x(2, 8).to(META))),
    ("x_key.dtype", _rotary(x_key=x(2, 4, dtype=f16))),
    ("x_key.dim()", _rotary(x_key=x(2, 1, 4))),
    ("x_key.shape", _rotary(x_key=x(2, 0))),
    ("x_key.shape", _rotary(x_key=x(2, 6))),
    ("x_key.shape", _rotary(x_key=x(1, 4))),
    ("x_key.device", _rotary(x_key=x(2, 4).to(META))),
    ("cos_sin_cache.dtype", _rotary(cos_sin_cache=w(3, 4, dtype=f16))),
    ("cos_sin_cache.shape", _rotary(cos_sin_cache=w(3, 2))),
    ("cos_sin_cache.shape", _rotary(cos_sin_cache=w(4))),
    ("cos_sin_cache.shape", _rotary(rotary_dim=2)),
    ("cos_sin_cache.device", _rotary(cos_sin_cache=w(3, 4).to(META))),
]


def _scalars(name):
    yield f"{name}.dtype", w(dtype=f16)
    yield f"{name}.dtype", w(1, dtype=torch.float64)
    yield f"{name}.shape", w(2)
    yield f"{name}.shape", w(0)
    yield f"{name}.shape", w(1, 1)
    yield f"{name}.device", w(1).to(META)


REFUSED = [
    *((ops.rms_norm, a, args) for a, args in _NORM),
    *((ops.fused_add_rms_norm, a, args) for a, args in _FUSED),
    *((ops.silu_and_mul, a, (t,)) for a, t in _GATED),
    *((ops.gelu_and_mul, a, (t,)) for a, t in _GATED),
    *((ops.gelu_and_mul, "approximate", (x(2, 4), s)) for s in ("", "Tanh", "erf")),
    *((ops.gelu_and_mul_sparse, a, (t, 1.0)) for a, t in _GATED),
    *((ops.gelu_and_mul_sparse, "std_multiplier", (x(2, 4), s)) for s in (NAN, INF, -INF)),
    (ops.gelu_and_mul_sparse, "approximate", (x(2, 4), 1.0, "erf")),
    *((ops.rotary_embedding, a, args) for a, args in _ROTARY),
    *((ops.static_quant_fp8, a, (t, w())) for a, t in _QUANTIZED),
    *((ops.static_quant_fp8, a, (x(2, 4), t)) for a, t in _scalars("scale")),
    *((ops.dynamic_per_token_quant_fp8, a, (t,)) for a, t in _QUANTIZED),
    *((ops.dynamic_per_token_quant_fp8, a, (x(2, 4), t)) for a, t in _scalars("scale_ub")),
    *((ops.per_token_group_quant_fp8, a, (t, 1)) for a, t in _QUANTIZED),
    *((ops.per_token_group_quant_fp8, "group_size", (x(2, 4), g)) for g in (0, -1, 3, 8)),
    (ops.per_token_group_quant_fp8, "x.dim()", (x(4), 2, True)),
]
_ids = [f"{op.name}-{argument}-{i}" for i, (op, argument, _) in enumerate(REFUSED)]


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(("op", "argument", "args"), REFUSED, ids=_ids)
def test_illegal_argument_is_refused_by_name(op, argument, args, wrapped):
    with ir.enable_torch_wrap(wrapped), pytest.raises(InputError) as refused:
        op(*args)
    assert (refused.value.op, refused.value.argument) == (op.name, argument)


@pytest.mark.parametrize(("op", "argument", "args"), REFUSED, ids=_ids)
def test_illegal_argument_is_refused_under_a_fake_run(op, argument, args):
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in args]
        with pytest.raises(InputError) as refused:
            op(*fakes)
    assert refused.value.argument == argument


LEGAL = [
    (ops.rms_norm, (x(4), None, 0.0)),
    (ops.rms_norm, (x(1, 2, 1, 4, dtype=f16), w(4), 1e-6, 1)),
    (ops.rms_norm, (x(0, 4, dtype=bf16), w(4, dtype=f16), 1e300, 4)),
    (ops.fused_add_rms_norm, (x(0, 1), x(0, 1), w(1), 1e-6)),
    (ops.silu_and_mul, (x(2),)),
    (ops.gelu_and_mul, (x(1, 0, 1, 2), "tanh")),
    (ops.gelu_and_mul_sparse, (x(2, 2), -1e300)),
    (ops.rotary_embedding, _rotary(x_key=None)),
    (ops.rotary_embedding, _rotary(x_query=x(2, 4), rotary_dim=2, cos_sin_cache=w(1, 2))),
    (ops.rotary_embedding, _rotary(x_query=x(2, 8, dtype=f16), x_key=x(2, 4, dtype=f16))),
    (ops.static_quant_fp8, (x(1), w())),
    (ops.dynamic_per_token_quant_fp8, (x(2, 0, 3), w(1))),
    (ops.per_token_group_quant_fp8, (x(4), 4)),
    (ops.per_token_group_quant_fp8, (x(0, 4), 1, True)),
]


@pytest.mark.parametrize(("op", "args"), LEGAL)
def test_the_edges_of_what_is_legal_are_accepted(op, args):
    op(*args)


def test_a_symbolic_token_count_gains_no_guard_in_a_validation():
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    env = ShapeEnv()
    with FakeTensorMode(shape_env=env):
        n = env.create_unbacked_symint()
        torch._check(n >= 0)
        tokens = torch.empty(n, 8)
        ops.fused_add_rms_norm(tokens, tokens.clone(), None, 1e-6)
        positions = torch.empty(n, dtype=i64)
        ops.rotary_embedding(positions, tokens, None, 8, torch.empty(3, 8), True)
        # Two counts that may or may not be equal are not refused.
        other = torch.empty(env.create_unbacked_symint(), 8)
        ops.fused_add_rms_norm(tokens, other, None, 1e-6)
        ops.per_token_group_quant_fp8(tokens, 4, True)
    assert not env.guards
