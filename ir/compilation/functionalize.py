"""Before AOTAutograd: `maybe_inplace` becomes the default overload.

The default overload writes nothing, so the graph stays functional and its values are right
whatever aliases. What `maybe_inplace` said, that an activation is given away, is checked here (a
later use is refused) and remembered for graph inputs, whose clones can then go.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ir.compilation.errors import DonationError
from ir.compilation.graphs import MISSING, flat_tensors, ir_call, subgraphs, value_of
from ir.compilation.report import Functionalized, FunctionalizedNode
from ir.compilation.symbols import is_symbolic
from ir.donation import overlaps_itself, share_memory
from ir.op import IrOp


def functionalize(graph: fx.Graph) -> Functionalized:
    """Replace every call of a `maybe_inplace` overload, in held graphs too.

    The graph may come from Dynamo (`example_value`, torch functions and methods) or from make_fx.
    Raises DonationError, naming node and use, where a donated activation, or anything that shares
    memory with it, is an argument twice or is used after it was given away.
    """
    made: list[FunctionalizedNode] = []
    for name, module in subgraphs(graph):
        inner = functionalize(module.graph)
        made += [
            FunctionalizedNode(node=f"{name}.{n.node}", op=n.op, donated=n.donated)
            for n in inner.nodes
        ]
        if inner.nodes:
            module.recompile()
    calls: list[tuple[int, fx.Node, IrOp]] = []
    nodes = list(graph.nodes)
    for i, node in enumerate(nodes):
        called = ir_call(node)
        if called is not None and called[1] == "maybe_inplace":
            calls.append((i, node, called[0]))
    placeholders = [n for n in nodes if n.op == "placeholder"]
    donated_inputs: set[int] = set()
    for i, node, op in calls:
        args = op.positional(tuple(node.args), dict(node.kwargs))
        donated = [args[k] for k in op.activation_indices if isinstance(args[k], fx.Node)]
        for k in op.activation_indices:
            if isinstance(args[k], fx.Node):
                _check_call(node, op, args, k)
                _check_later(node, args[k], nodes, i)
                donated_inputs |= _covered(args[k], placeholders)
        node.target = op.torch_op
        made.append(
            FunctionalizedNode(node=node.name, op=op.name, donated=tuple(n.name for n in donated))
        )
    return Functionalized(nodes=tuple(made), donated_inputs=tuple(sorted(donated_inputs)))


def _check_call(node: fx.Node, op: IrOp, args: tuple[Any, ...], k: int) -> None:
    name = op.parameters.names[k]
    for tensor in flat_tensors(value_of(args[k])):
        if not is_symbolic(tensor) and overlaps_itself(tensor):
            raise DonationError(
                f"{node.name}: {op.name}.maybe_inplace is given {name} ({args[k].name}), which "
                "has two elements at one address; accepted: a tensor without, such as a clone"
            )
    for j, other in enumerate(args):
        if j != k and isinstance(other, fx.Node) and _shares(args[k], other):
            raise DonationError(
                f"{node.name}: {op.name}.maybe_inplace is given {name} ({args[k].name}), which "
                f"shares memory with {op.parameters.names[j]} ({other.name}); accepted: memory "
                "of its own, since its content is given away"
            )


def _check_later(node: fx.Node, donated: fx.Node, nodes: list[fx.Node], i: int) -> None:
    for later in nodes[i + 1 :]:
        for used in later.all_input_nodes:
            if used is node or not _shares(donated, used) or _made_by(used, node):
                continue
            how = "" if used is donated else f" through {used.name}"
            what = "returned" if later.op == "output" else f"used by {later.name}"
            raise DonationError(
                f"{node.name}: {donated.name} was given to {node.target} and is {what}{how} "
                "afterwards; accepted: no later use, the default overload, or a clone given"
            )


def _made_by(used: fx.Node, node: fx.Node) -> bool:
    """Whether a node takes an output of the call."""
    return used.op == "call_function" and used.args[:1] == (node,)


def _shares(a: fx.Node, b: fx.Node) -> bool:
    if a is b:
        return True
    first, second = value_of(a), value_of(b)
    if first is MISSING or second is MISSING:
        return False
    return any(_share(t, u) for t in flat_tensors(first) for u in flat_tensors(second))


def _share(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.untyped_storage()._cdata != b.untyped_storage()._cdata:
        return False
    if is_symbolic(a) or is_symbolic(b):
        # Values are right either way; an example decides whether to warn of a mistake.
        a, b = _example(a), _example(b)
    return share_memory(a, b)


def _example(t: torch.Tensor) -> torch.Tensor:
    """A tensor over the same storage with the sizes of the call that was traced."""
    hints = [_hint(s) for s in (t.storage_offset(), *t.shape, *t.stride())]
    n = t.dim()
    with torch._C._DisableTorchDispatch():
        empty = torch.empty(0, dtype=t.dtype, device="meta")
        return empty.set_(t.untyped_storage(), hints[0], hints[1 : n + 1], hints[n + 1 :])


def _hint(size: Any) -> int:
    if isinstance(size, int):
        return size
    # A size without an example: any above one shows how views of one tensor lie.
    return int(size.node.hint) if size.node.has_hint() else 8


def _covered(donated: fx.Node, placeholders: list[fx.Node]) -> set[int]:
    """The input that a donated node is all of, by position: itself, or a view of every element."""
    for i, placeholder in enumerate(placeholders):
        if placeholder is donated:
            return {i}
    value = value_of(donated)
    if not isinstance(value, torch.Tensor) or is_symbolic(value):
        return set()
    found: set[int] = set()
    for i, placeholder in enumerate(placeholders):
        whole = value_of(placeholder)
        if (
            isinstance(whole, torch.Tensor)
            and not is_symbolic(whole)
            and whole.untyped_storage()._cdata == value.untyped_storage()._cdata
            and whole.dtype is value.dtype
            and whole.numel() == value.numel()
            and whole.storage_offset() == value.storage_offset()
            and not overlaps_itself(whole)
            and sorted(_steps(whole)) == sorted(_steps(value))
        ):
            found.add(i)
    return found


def _steps(t: torch.Tensor) -> list[tuple[int, int]]:
    """Axes as (stride, size), neighbours that walk on as one joined: views that differ by
    `view` or `transpose` alone have the same."""
    joined: list[tuple[int, int]] = []
    axes = [(st, n) for st, n in zip(t.stride(), t.shape, strict=True) if n > 1]
    for stride, size in sorted(axes):
        if joined and stride == joined[-1][0] * joined[-1][1]:
            joined[-1] = (joined[-1][0], joined[-1][1] * size)
        else:
            joined.append((stride, size))
    return joined
