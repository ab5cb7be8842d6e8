"""A graph run node by node, what the ops of the IR returned kept as it was at the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .graph import ProgramGraph

if TYPE_CHECKING:
    from torch import fx


def run_graph(graph: ProgramGraph, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[int, Any]]:
    """Outputs, and copies of what each value of the IR was when it was made, by its number."""
    from torch import fx

    watched = _watched(graph)
    values: dict[fx.Node, Any] = {}
    seen: dict[int, Any] = {}
    given = iter(inputs)

    def value(node: fx.Node) -> Any:
        return values[node]

    outputs: tuple[Any, ...] = ()
    for node in graph.module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = _attribute(graph.module, str(node.target))
        elif node.op == "call_function":
            args, kwargs = fx.map_arg((node.args, node.kwargs), value)
            values[node] = node.target(*args, **kwargs)
        elif node.op == "output":
            outputs = tuple(fx.map_arg(node.args[0], value))
        else:
            raise TypeError(f"{node.name} is a {node.op}; accepted: calls of functions")
        for number, made in watched.get(node, ()):
            seen[number] = values[made].detach().clone()
    return outputs, seen


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _watched(graph: ProgramGraph) -> Mapping[fx.Node, list[tuple[int, fx.Node]]]:
    """After which node each value of the IR is whole: the last that its provider made."""
    order = {node.name: i for i, node in enumerate(graph.module.graph.nodes)}
    nodes = list(graph.module.graph.nodes)
    last: dict[str, int] = {}
    for i, node in enumerate(nodes):
        origin = node.meta.get("ir_origin")
        if origin is not None:
            last[origin.node] = max(last.get(origin.node, -1), i)
    found: dict[fx.Node, list[tuple[int, fx.Node]]] = {}
    for name, numbers in graph.ir_nodes.items():
        for number in numbers:
            now = graph.name_now(graph.nodes[number].name)
            if now in order:
                at = max(order[now], last.get(name, -1))
                found.setdefault(nodes[at], []).append((number, nodes[order[now]]))
    return found
