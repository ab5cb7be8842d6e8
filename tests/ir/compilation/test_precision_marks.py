"""Tracing marks what Inductor must round; what lowering puts into a graph keeps the marks."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

import ir.compilation
from ir.compilation import ReplacementCache
from ir.op import IrOp
from ir.ops.layernorm import fused_add_rms_norm, rms_norm

MARK = "low_precision_pointwise_barrier"
X = torch.linspace(-2, 2, 64).view(4, 16)
W = torch.linspace(0.5, 1.7, 16, dtype=torch.float16)
CALLS: dict[str, tuple[IrOp, tuple[Any, ...]]] = {
    "float32 by float16": (rms_norm, (X, W, 1e-5)),
    "bfloat16": (rms_norm, (X.bfloat16(), W.bfloat16(), 1e-5)),
    "float32": (rms_norm, (X, W.float(), 1e-5)),
    "two results": (fused_add_rms_norm, (X.half(), X.half(), W, 1e-5)),
}


@pytest.fixture
def keeping_roundings() -> Iterator[None]:
    with torch._inductor.config.patch(emulate_precision_casts=True):
        yield


def traced(f: Any, args: tuple[Any, ...]) -> fx.Graph:
    tensors = [a for a in args if isinstance(a, Tensor)]
    rest = args[len(tensors) :]
    return make_fx(lambda *t: f(*t, *rest), tracing_mode="fake")(*tensors).graph


def marks(graph: fx.Graph) -> list[tuple[str, bool]]:
    """Calls of torch, and whether each is marked."""
    calls = [n for n in graph.nodes if str(n.target).startswith("aten.")]
    return [(str(n.target), MARK in n.meta) for n in calls]


@pytest.mark.parametrize("name", CALLS)
def test_lowered_calls_are_marked_as_tracing_marks_them(keeping_roundings: None, name: str):
    op, args = CALLS[name]
    wanted = marks(traced(op.impls["native"].impl_fn, args))
    cache = ReplacementCache()
    for chosen in (None, cache, cache):
        graph = traced(op, args)
        ir.compilation.lower(graph, cache=chosen)
        assert marks(graph) == wanted
    assert cache.statistics.hits == 1


@pytest.mark.parametrize("name", CALLS)
def test_what_is_traced_in_low_precision_is_marked(keeping_roundings: None, name: str):
    op, args = CALLS[name]
    found = [mark for _, mark in marks(traced(op.impls["native"].impl_fn, args))]
    assert any(found) == (name != "float32")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_rounds_what_a_lowered_graph_states():
    """The norm is float16 before it is float32: no digit of the product may be left."""
    options: dict[str, Any] = {"run": "inductor", "cache": ReplacementCache()}
    options["emulate_precision_casts"] = True
    # A kept graph is found by its calls: marks tell it from no other.
    no_reuse = torch._inductor.config.patch(fx_graph_cache=False)
    with no_reuse, torch._functorch.config.patch(enable_autograd_cache=False):
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x, w: rms_norm(x, w, 1e-5),
            backend=ir.compilation.backend,
            fullgraph=True,
            options=options,
        )
        found = compiled(X, W)
    assert torch.equal(found, found.half().float())
