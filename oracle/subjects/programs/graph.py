"""A program as a graph with fake values, made node by node: a third of what tracing it costs.

Nothing is functionalized: passes must be right on graphs whose nodes write in place.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference.model import ProgramCase

from .calls import arguments, is_ir, target_of

if TYPE_CHECKING:
    from torch import fx


@dataclass(slots=True)
class ProgramGraph:
    """A graph, and the node of each value of the program by number.

    ``moved`` follows nodes whose users were handed to another one.
    """

    module: fx.GraphModule
    nodes: list[fx.Node]
    mode: Any
    ir_nodes: dict[str, tuple[int, ...]]
    """The values that each node of the IR makes, by the node's name."""
    moved: dict[str, str] = field(default_factory=dict)

    def name_now(self, name: str) -> str:
        """The node that stands today where the node of that name stood."""
        while name in self.moved:
            name = self.moved[name]
        return name


def program_graph(case: ProgramCase, *, blind: bool = False) -> ProgramGraph:
    """The graph of ``case``.

    ``blind``: its metadata does not tell which inputs are one tensor, or share memory although
    they look alike. That views of one base do is always told, as AOTAutograd does.
    """
    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx._lazy_graph_module import _LazyGraphModule

    mode = FakeTensorMode()
    fakes = _fake_inputs(case, mode, blind=blind)
    graph = fx.Graph()
    nodes: list[fx.Node] = []
    values: list[Any] = []
    ir_nodes: dict[str, tuple[int, ...]] = {}
    for i, fake in enumerate(fakes):
        node = graph.placeholder(f"x{i}")
        node.meta["val"] = fake
        nodes.append(node)
        values.append(fake)
    for step in case.steps:
        target = target_of(step.target)
        args, kwargs = arguments(step, nodes)
        fake_args, fake_kwargs = arguments(step, values)
        with mode, torch.no_grad():
            result = target(*fake_args, **fake_kwargs)
        listed = isinstance(result, list | tuple)
        made = [_own(t, values) for t in result] if listed else [_own(result, values)]
        node = graph.call_function(target, args, kwargs)
        first = len(nodes)
        node.meta["val"] = made if listed else made[0]
        if listed:
            for k in range(step.results):
                item = graph.call_function(operator.getitem, (node, k))
                item.meta["val"] = made[k]
                nodes.append(item)
                values.append(made[k])
        elif step.results:
            nodes.append(node)
            values.append(made[0])
        if is_ir(step):
            ir_nodes[node.name] = tuple(range(first, len(nodes)))
    graph.output(tuple(nodes[number] for number in case.outputs))
    # Lazily compiled: most of these graphs are run node by node.
    module = _LazyGraphModule({}, graph)
    found = ProgramGraph(module, nodes, mode, ir_nodes)

    def follow(old: fx.Node, new: str, user: fx.Node) -> None:
        found.moved[old.name] = new

    module._register_replace_node_hook(follow)
    return found


def _own(value: Any, values: list[Any]) -> Any:
    """The value as an object of its own: an op that writes returns the tensor that it wrote."""
    return value.detach() if any(value is v for v in values) else value


def _fake_inputs(case: ProgramCase, mode: Any, *, blind: bool) -> list[Any]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    device = torch.device("cpu")

    def storage(number: int) -> Any:
        held = case.storages[number]
        return torch.empty(held.numel, dtype=getattr(torch, held.dtype), device="meta")

    shared = [storage(i) for i in range(len(case.storages))]
    looks: dict[int, set[tuple[int, ...]]] = {}
    for number in case.inputs:
        view = case.tensors[number]
        looks.setdefault(view.storage, set()).add(view.shape)
    made: dict[int, Any] = {}
    found: list[Any] = []
    for number in case.inputs:
        view = case.tensors[number]
        hidden = blind and len(looks[view.storage]) == 1
        if hidden or number not in made:
            base = storage(view.storage) if hidden else shared[view.storage]
            meta = base.as_strided(view.shape, view.strides, view.offset)
            made[number] = FakeTensor(mode, meta, device)
        found.append(made[number])
    return found
