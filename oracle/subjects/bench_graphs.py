"""Graphs to time passes on, made by hand: tracing them would take longer than the passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

_TOKENS, _HIDDEN = 16, 64


def fake(mode: Any, *shape: int) -> Any:
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    with torch._C._DisableTorchDispatch():
        meta = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    return FakeTensor(mode, meta, torch.device("cpu"))


def norms(op: Any, count: int) -> fx.GraphModule:
    """A chain of ``count`` rms_norms over bfloat16 (16, 64)."""
    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode, graph = FakeTensorMode(), fx.Graph()
    x, weight = graph.placeholder("x"), graph.placeholder("weight")
    x.meta["val"], weight.meta["val"] = fake(mode, _TOKENS, _HIDDEN), fake(mode, _HIDDEN)
    for _ in range(count):
        x = graph.call_function(op, (x, weight, 1e-6))
        x.meta["val"] = fake(mode, _TOKENS, _HIDDEN)
    graph.output(x)
    return fx.GraphModule(torch.nn.Module(), graph)


def clones(size: int) -> fx.GraphModule:
    """About ``size`` nodes: relu, clone, add_, mul and so on; every clone can go."""
    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensorMode

    aten = torch.ops.aten
    mode, graph = FakeTensorMode(), fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = fake(mode, _TOKENS, _HIDDEN)

    def call(target: Any, *args: Any, like: Any = None) -> Any:
        node = graph.call_function(target, args)
        node.meta["val"] = fake(mode, _TOKENS, _HIDDEN) if like is None else like.meta["val"]
        return node

    for _ in range(size // 4):
        c = call(aten.clone.default, call(aten.relu.default, x))
        x = call(aten.mul.Tensor, call(aten.add_.Tensor, c, 1, like=c), 2)
    graph.output(x)
    return fx.GraphModule(torch.nn.Module(), graph)


def bare_loop(lowered: fx.GraphModule) -> Callable[[Any], None]:
    """Makes the nodes of a lowered graph again, each with a value of its own; nothing else."""
    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    number = {node: i for i, node in enumerate(lowered.graph.nodes)}
    inputs = [n for n in lowered.graph.nodes if n.op == "placeholder"]
    steps = [
        (n.target, n.args, n.kwargs, v.shape, v.stride(), v.dtype)
        for n in lowered.graph.nodes
        if n.op == "call_function"
        for v in (n.meta["val"],)
    ]
    mode, cpu = FakeTensorMode(), torch.device("cpu")

    def run(_: Any) -> None:
        graph = fx.Graph()
        made = [graph.placeholder(n.name) for n in inputs]
        for target, args, kwargs, shape, strides, dtype in steps:
            given = [made[number[a]] if isinstance(a, fx.Node) else a for a in args]
            node = graph.call_function(target, tuple(given), kwargs)
            with torch._C._DisableTorchDispatch():
                meta = torch.empty_strided(shape, strides, dtype=dtype, device="meta")
                node.meta["val"] = FakeTensor(mode, meta, cpu)
            made.append(node)

    return run
