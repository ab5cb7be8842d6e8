"""How the passes look at a graph: which nodes are ops of the IR, and what their values are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload, OpOverloadPacket

from ir.op import IrOp

MISSING: Any = object()
"""Stands for the value of a node whose metadata does not tell it."""


def ir_call(node: fx.Node) -> tuple[IrOp, str] | None:
    """The op of the IR and the overload (`default` or `maybe_inplace`) that a node calls."""
    target = node.target
    if isinstance(target, OpOverloadPacket) and node.op == "call_function":
        target = target.default
    if not isinstance(target, OpOverload) or target.namespace != "ir":
        return None
    op = IrOp.registry.get(target._opname)
    return None if op is None else (op, target._overloadname)


def value_of(node: fx.Node) -> Any:
    """The fake value of a node, after AOTAutograd (`val`) or before it (`example_value`)."""
    meta = node.meta
    return meta["val"] if "val" in meta else meta.get("example_value", MISSING)


def subgraphs(graph: fx.Graph) -> Iterator[tuple[str, fx.GraphModule]]:
    """The graphs that nodes of this one hold, such as the branches of a `cond`."""
    owner = graph.owning_module
    if owner is None:
        return
    seen: set[int] = set()
    for node in graph.nodes:
        if node.op not in ("get_attr", "call_module"):
            continue
        held: Any = owner
        for part in str(node.target).split("."):
            held = getattr(held, part, None)
        if isinstance(held, fx.GraphModule) and id(held) not in seen:
            seen.add(id(held))
            yield node.name, held


def flat_tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a value: a tensor, or lists and tuples of them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for v in value for t in flat_tensors(v)]
    return []
