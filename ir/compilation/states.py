"""Calls that carry state, as AOTAutograd leaves them, made ready for lowering.

Functionalization turns a call of an op's `scoped` overload into `auto_functionalized_v2`, which
returns the states after the call beside the outputs. Here it becomes a clone of each state and
the call itself, which writes the clones; the `copy_` at the end of the graph takes them to the
inputs. Clone elimination then finds that the clones can go, so that the inputs are written.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch._higher_order_ops.auto_functionalize import auto_functionalized_v2
from torch._ops import OpOverload

from ir.compilation.errors import LoweringError
from ir.compilation.graphs import MISSING, value_of
from ir.op import IrOp

_aten = torch.ops.aten
_PREFIX = "_states_"


def unfold(graph: fx.Graph) -> None:
    """Replace every functionalized call of a `scoped` overload, in this graph alone.

    Raises LoweringError where a state is a view of what was functionalized with it.
    """
    for node in graph.find_nodes(op="call_function", target=auto_functionalized_v2, sort=True):
        target = node.args[0]
        if isinstance(target, OpOverload) and is_scoped(target):
            _unfold(graph, node, target)


def is_scoped(target: OpOverload) -> bool:
    """Whether an overload is that of an op of the IR which carries a scope and states."""
    return (
        target.namespace == "ir"
        and target._overloadname == "scoped"
        and target._opname in IrOp.registry
    )


def _unfold(graph: fx.Graph, node: fx.Node, target: OpOverload) -> None:
    given = dict(node.kwargs)
    bases: Any = given.pop("_all_bases")
    places = [_place(node, given, i) for i in range(given.pop(f"{_PREFIX}length"))]  # type: ignore[arg-type]
    extra = [k for k in given if k.startswith(_PREFIX)]
    if extra:
        raise LoweringError(
            f"{node.name} ({target}): a state is a view of another tensor of its graph "
            f"({', '.join(extra)}); accepted: states that own their memory"
        )
    outputs = value_of(node)
    count = len(target._schema.returns)
    kept = {k: v for k, v in node.meta.items() if k not in ("val", "eager_input_vals")}
    with graph.inserting_before(node):
        clones = [graph.call_function(_aten.clone.default, (b,)) for b in bases]
        states = [clones[p] for p in places]
        names = [a.name for a in target._schema.arguments]
        args = (states, *(given[n] for n in names[1:]))
        call = graph.call_function(target, args)
    for clone, base in zip(clones, bases, strict=True):
        value = value_of(base)
        if not isinstance(value, torch.Tensor):
            raise LoweringError(f"{node.name} ({target}): state {base.name} has no value")
        with value.fake_mode:  # type: ignore[attr-defined]
            clone.meta = {**kept, "val": value.clone(), "ir_state_clone": True}
    call.meta = dict(kept)
    if outputs is not MISSING:
        call.meta["val"] = outputs[0] if count == 1 else tuple(outputs[:count])
    for user in list(node.users):
        if user.target is not operator.getitem:
            raise LoweringError(f"{node.name} ({target}): used as one by {user.name}")
        index = int(user.args[1])  # type: ignore[arg-type]
        if index >= count:
            user.replace_all_uses_with(clones[index - count])
        elif count == 1:
            user.replace_all_uses_with(call)
        else:
            with graph.inserting_after(call):
                item = graph.call_function(operator.getitem, (call, index))
            item.meta = dict(user.meta)
            user.replace_all_uses_with(item)
        graph.erase_node(user)
    graph.erase_node(node)


def _place(node: fx.Node, given: dict[str, Any], i: int) -> int:
    return given.pop(f"{_PREFIX}{i}_base_index")


def state_positions(graph: fx.Graph) -> tuple[int, ...]:
    """The placeholders that are states, and whose content the graph replaces at its end.

    They may be written before that: the registry keeps states in memory of their own, which no
    other input shares, and nothing but the graph reads them while it runs.
    """
    found: list[int] = []
    for i, node in enumerate(graph.find_nodes(op="placeholder", sort=True)):
        users = list(node.users)
        ends = any(u.target is _aten.copy_.default and u.args[0] is node for u in users)
        if ends and any(u.meta.get("ir_state_clone") for u in users):
            found.append(i)
    return tuple(found)
