"""Natives can be traced and compiled once for every token count, and keep their roundings."""

import inspect

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import ir
from ir import ops

SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3e38, 65504.0, -1e-7]
SIZES = {
    "rms_norm": {"hidden_size": 67},
    "fused_add_rms_norm": {"hidden_size": 67},
    "gelu_and_mul_sparse": {"hidden_size": 41},
    "silu_and_mul": {"hidden_size": 41},
    "gelu_and_mul": {"hidden_size": 41},
    "rotary_embedding": {"num_heads": 3, "head_size": 10, "num_kv_heads": 1, "rotary_dim": 6},
    "static_quant_fp8": {"hidden_size": 67},
    "dynamic_per_token_quant_fp8": {"hidden_size": 67, "scale_ub": 2.0},
    "per_token_group_quant_fp8": {"hidden_size": 39, "group_size": 13, "ue8m0": True},
}
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
every_op = pytest.mark.parametrize("op", [getattr(ops, n) for n in ops.__all__], ids=ops.__all__)


def _inputs(op, n, dtype, special=False):
    torch.manual_seed(n)
    args = op.generate_inputs(num_tokens=n, dtype=dtype, **SIZES[op.name])
    if special and n > 2 and op is not ops.rotary_embedding:
        args[0][0, : len(SPECIAL)] = torch.tensor(SPECIAL).to(dtype)
        args[0][1] = -0.0
    return args


def _parameters(op):
    return inspect.signature(op.impls["native"].impl_fn).parameters


def _outputs(value):
    return value if isinstance(value, tuple) else (value,)


def _values(op, actual, expected):
    for a, e in zip(_outputs(actual), _outputs(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        kind = INTEGERS[e.element_size()]
        nan = e.float().isnan()
        assert torch.equal(a.float().isnan(), nan)
        steps = (a.view(kind).long() - e.view(kind).long()).abs()[~nan]
        yield steps


def _assert_same_bits(op, actual, expected):
    for steps in _values(op, actual, expected):
        assert not steps.any(), f"{op.name}: {int((steps > 0).sum())} elements differ"


@every_op
def test_every_op_has_an_input_generator_whose_inputs_are_legal(op):
    assert op.has_input_generator
    for n in (0, 1, 5):
        for out in _outputs(op(*_inputs(op, n, torch.bfloat16))):
            assert out.shape[0] == n


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_op
def test_native_traces_to_a_graph_of_the_same_values(op, dtype):
    args = _inputs(op, 5, dtype, special=True)
    native = op.impls["native"].impl_fn
    tensors = [a for a in args if isinstance(a, torch.Tensor)]

    def call(*given):
        left = iter(given)
        return native(*(next(left) if isinstance(a, torch.Tensor) else a for a in args))

    graph = make_fx(call, tracing_mode="symbolic")(*tensors)
    _assert_same_bits(op, graph(*tensors), native(*args))


def _compiled(f, **options):
    torch._dynamo.reset()
    return torch.compile(f, fullgraph=True, dynamic=True, **options)


@pytest.mark.parametrize("wrapped", [True, False])
@every_op
def test_op_is_captured_whole_with_a_dynamic_token_count(op, wrapped):
    f = _compiled(lambda *args: op(*args), backend="aot_eager")
    with ir.enable_torch_wrap(wrapped):
        for n in (5, 2, 1, 0):
            args = _inputs(op, n, torch.bfloat16)
            _assert_same_bits(op, f(*args), op(*args))


@pytest.mark.parametrize("wrapped", [True, False])
@every_op
def test_one_graph_serves_every_unbacked_token_count(op, wrapped):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    f = torch.compile(lambda *args: op(*args), fullgraph=True, backend=backend)
    with ir.enable_torch_wrap(wrapped):
        for n in (5, 1, 0, 2):
            args = _inputs(op, n, torch.bfloat16)
            for name, a in zip(_parameters(op), args, strict=False):
                if isinstance(a, torch.Tensor) and (name[0] == "x" or name == "positions"):
                    torch._dynamo.decorators.mark_unbacked(a, 0, shape_id="n")
            _assert_same_bits(op, f(*args), op(*args))
    assert len(graphs) == 1


@pytest.mark.slow
# Inductor's first import uses what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_op
def test_compiled_native_with_its_casts_kept_equals_eager(op, dtype):
    native = op.impls["native"].impl_fn
    f = _compiled(native, options={"emulate_precision_casts": True})
    differing, total = 0, 0
    for n in (5, 1, 0, 33):
        args = _inputs(op, n, dtype, special=True)
        for steps in _values(op, f(*args), native(*args)):
            assert (steps <= 2).all()
            differing += int((steps > 0).sum())
            total += steps.numel()
    # Sums are in another order, and torch's eager erf, exp and tanh are another library's: what
    # remains of that after the rounding is 18 of 35,626 elements at most (gelu in float16).
    reordered = {"rms_norm", "fused_add_rms_norm", "gelu_and_mul", "gelu_and_mul_sparse"}
    allowed = 0.002 * total if op.name in reordered else 0
    assert differing <= allowed
