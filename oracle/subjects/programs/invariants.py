"""What must hold of a graph after any pass, whatever the pass did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oracle.observation.program import GraphFault

from .graph import ProgramGraph

if TYPE_CHECKING:
    from torch import fx

_LEFT_OVER = ("auto_functionalized", "auto_functionalized_v2")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The calls of a graph before the passes: target and arguments by the node's name."""

    calls: dict[str, tuple[Any, Any, Any]]


def snapshot(graph: ProgramGraph) -> Snapshot:
    return Snapshot(
        {
            node.name: (node.target, _named(node.args), _named(node.kwargs))
            for node in graph.module.graph.nodes
            if node.op == "call_function"
        }
    )


def _named(value: Any) -> Any:
    from torch import fx

    return fx.map_arg(value, lambda node: f"%{node.name}")


def graph_faults(graph: ProgramGraph, before: Snapshot, *, lowered: bool) -> tuple[GraphFault, ...]:
    """Every invariant that does not hold. ``lowered``: no op of the IR may be left."""
    found: list[GraphFault] = []
    nodes = list(graph.module.graph.nodes)
    try:
        graph.module.graph.lint()
    except Exception as error:  # whatever lint raises is what is wrong with the graph
        return (GraphFault("broken-graph", "graph", str(error).splitlines()[0], "a legal graph"),)
    for node in nodes:
        if lowered and _is_left_over(node):
            found.append(GraphFault("left-over", node.name, str(node.target), "its provider"))
        if node.op != "output" and "val" not in node.meta:
            found.append(GraphFault("no-value", node.name, "no meta['val']", "a fake value"))
        new = node.op == "call_function" and node.name not in before.calls
        if new and lowered and node.meta.get("ir_origin") is None:
            found.append(GraphFault("no-origin", node.name, "no meta['ir_origin']", "a node"))
    found += _changed_calls(graph, before)
    if not any(f.kind == "no-value" for f in found):
        found += _values(nodes)
    env = graph.mode.shape_env
    if env is not None and env.guards:
        found.append(GraphFault("guard-added", "graph", str(env.guards[0].expr), "no guard"))
    return tuple(found)


def _is_left_over(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    return getattr(node.target, "namespace", "") == "ir" or name in _LEFT_OVER


def _changed_calls(graph: ProgramGraph, before: Snapshot) -> list[GraphFault]:
    """Calls that were there before and have another target or other arguments now."""
    from torch import fx

    found: list[GraphFault] = []

    def expected(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("%"):
            return f"%{graph.name_now(value[1:])}"
        if isinstance(value, tuple | list):
            return type(value)(expected(v) for v in value)
        if isinstance(value, dict):
            return {k: expected(v) for k, v in value.items()}
        return value

    for node in graph.module.graph.nodes:
        if node.name not in before.calls:
            continue
        target, args, kwargs = before.calls[node.name]
        now = fx.map_arg((node.args, node.kwargs), lambda n: f"%{n.name}")
        wanted = (expected(_plain(args)), expected(_plain(kwargs)))
        have = (_plain(now[0]), _plain(now[1]))
        if node.target is not target or repr(have) != repr(wanted):
            text = f"{node.target}{have[0]}{have[1]}"
            want = f"{target}{wanted[0]}{wanted[1]}"
            found.append(GraphFault("call-changed", node.name, text, want))
    return found


def _plain(value: Any) -> Any:
    """fx's immutable lists and dictionaries as ordinary ones."""
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _values(nodes: list[fx.Node]) -> list[GraphFault]:
    """Nodes whose value is not what a fake run over the graph's inputs gives."""
    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensor

    made: dict[fx.Node, Any] = {}
    held: dict[int, int] = {}
    back: dict[int, int] = {}

    def value(node: fx.Node) -> Any:
        return made[node]

    def call(node: fx.Node) -> Any:
        return node.target

    mode = next(
        (n.meta["val"].fake_mode for n in nodes if isinstance(n.meta.get("val"), FakeTensor)), None
    )
    if mode is None:
        return []
    seen: dict[int, str] = {}
    for node in nodes:
        if node.op == "output":
            continue
        told = node.meta["val"]
        if node.op == "placeholder":
            made[node] = told
        elif node.op == "get_attr":
            made[node] = mode.from_tensor(getattr(node.graph.owning_module, str(node.target)))
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), value)
            try:
                with mode, torch.no_grad():
                    made[node] = call(node)(*args, **kwargs)
            except Exception as error:  # arguments that no longer fit are what a pass did
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                return [GraphFault("value-raises", node.name, text, "a value")]
            first = seen.setdefault(id(told), node.name)
            if first != node.name and isinstance(told, torch.Tensor):
                return [GraphFault("value-shared", node.name, f"the value of {first}", "its own")]
        wrong = _differs(told, made[node], held, back)
        if wrong is not None:
            return [GraphFault("value-differs", node.name, wrong[0], wrong[1])]
    return []


def _differs(
    told: Any, made: Any, held: dict[int, int], back: dict[int, int]
) -> tuple[str, str] | None:
    import torch

    if isinstance(made, list | tuple):
        if not isinstance(told, list | tuple) or len(told) != len(made):
            return repr(told), f"{len(made)} values"
        pairs = zip(told, made, strict=True)
        return next((w for t, m in pairs if (w := _differs(t, m, held, back))), None)
    if not isinstance(made, torch.Tensor):
        return None if type(told) is type(made) and told == made else (repr(told), repr(made))
    if not isinstance(told, torch.Tensor):
        return repr(told), _shown(made)
    if _places(told) != _places(made):
        return _shown(told), _shown(made)
    # Values share storage in the metadata exactly where they do in a run.
    a, b = told.untyped_storage()._cdata, made.untyped_storage()._cdata
    if held.setdefault(a, b) != b or back.setdefault(b, a) != a:
        return "shares storage otherwise", _shown(made)
    return None


def _places(t: Any) -> str:
    """What `t` is and where its elements lie. A stride counts where there is a second step."""
    empty = any(type(n) is int and n == 0 for n in t.shape)
    strides = [
        s if not empty and not (type(n) is int and n == 1) else None
        for n, s in zip(t.shape, t.stride(), strict=True)
    ]
    return f"{t.dtype}{tuple(t.shape)} {strides} {t.storage_offset()} {t.device}"


def _shown(t: Any) -> str:
    return f"{t.dtype}{tuple(t.shape)} strides {t.stride()} offset {t.storage_offset()} {t.device}"
