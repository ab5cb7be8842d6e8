"""Programs through torch.compile: our backend, Inductor under it, and stock for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reference.model import ProgramCase

from .calls import arguments, is_ir, native, target_of

EXACT = {"emulate_precision_casts": True}
"""Inductor keeps the roundings that the program states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The program's outputs, and what the ops of the IR returned, by value number."""

    outputs: tuple[Any, ...]
    seen: dict[int, Any]


def run_compiled(case: ProgramCase, inputs: Sequence[Any], way: str) -> Compiled:
    """Compile the program anew and run it. ``way``: backend, inductor, aot_eager, stock."""
    import torch

    import ir.compilation

    stock = way in ("aot_eager", "stock")
    module, numbers = _module(case, without_us=stock)
    options: dict[str, Any] = {}
    if not stock:
        # A cache of its own: what an earlier program left must not decide about this one.
        options["cache"] = ir.compilation.ReplacementCache()
        options["run"] = "fx" if way == "backend" else "inductor"
    if way in ("inductor", "stock"):
        options |= EXACT
    backend: Any = {"aot_eager": "aot_eager", "stock": "inductor"}.get(way, ir.compilation.backend)
    torch._dynamo.reset()
    # The module itself would catch what is raised, in code that Dynamo then fails to trace.
    compiled: Callable[..., Any] = torch.compile(
        module.forward, backend=backend, fullgraph=True, dynamic=False, options=options or None
    )
    results = compiled(*inputs)
    count = len(case.outputs)
    seen = dict(zip(numbers, results[count:], strict=True))
    return Compiled(outputs=tuple(results[:count]), seen=seen)


def body_module(case: ProgramCase, *, without_us: bool) -> Any:
    """The program as a module that Dynamo traces; copies of what the IR returned follow."""
    return _module(case, without_us=without_us)[0]


def _module(case: ProgramCase, *, without_us: bool) -> tuple[Any, tuple[int, ...]]:
    """The program as a module that Dynamo traces, returning copies of what the IR returned too.

    without_us: ops of the IR are called as the functions that define them.
    """
    import operator

    from torch import fx

    graph = fx.Graph()
    nodes = [graph.placeholder(f"x{i}") for i in range(len(case.inputs))]
    copies: list[Any] = []
    numbers: list[int] = []
    for step in case.steps:
        target = target_of(step.target)
        listed = _is_listed(target)
        args, kwargs = arguments(step, nodes)
        node = graph.call_function(native(step.target) if without_us else target, args, kwargs)
        results = [node]
        if listed:
            results = [
                graph.call_function(operator.getitem, (node, k)) for k in range(step.results)
            ]
        for result in results[: step.results]:
            if is_ir(step):
                numbers.append(len(nodes))
                copies.append(graph.call_function(target_of("aten.clone.default"), (result,)))
            nodes.append(result)
    graph.output((*(nodes[n] for n in case.outputs), *copies))
    return fx.GraphModule({}, graph), tuple(numbers)


def _is_listed(target: Any) -> bool:
    """Whether a call returns a list or tuple of tensors."""
    returns = target._schema.returns
    return len(returns) > 1 or any("[]" in str(r.type) or "List" in str(r.type) for r in returns)
