"""A template written into a graph in place of a node."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ir.compilation.errors import LoweringError
from ir.compilation.fakes import Fakes
from ir.compilation.graphs import MISSING, flat_tensors, value_of
from ir.compilation.symbols import SYMBOLIC, is_symbolic, same_number, same_numbers
from ir.compilation.template import ROUNDED, Layout, Slot, Step, Template, Values, fake_run
from ir.op import IrOp
from ir.provider import IrOpImpl

_KEPT_META = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "seq_nr",
              "partitioner_tag", "recompute", "custom")  # fmt: skip
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Origin:
    """The node that a lowered one comes from (`meta["ir_origin"]`)."""

    node: str
    op: str
    overload: str
    provider: str


def splice(
    graph: fx.Graph,
    node: fx.Node,
    template: Template,
    given: tuple[Any, ...],
    args: tuple[Any, ...],
    fakes: Fakes,
    *,
    origin: tuple[IrOp, str, IrOpImpl],
) -> list[fx.Node]:
    """Write the template before `node`, hand its users over, erase it; the nodes made.

    given: the arguments of the node, by position; args: their values.
    Raises LoweringError where the outputs are not those that the op declares.
    """
    op, overload, impl = origin
    mode = fakes.mode
    items: list[Any] = []
    leaves: list[Any] = []
    _pair(given, args, items, leaves)
    kept = {k: node.meta[k] for k in _KEPT_META if k in node.meta}
    kept["ir_origin"] = Origin(node.name, op.name, overload, impl.provider)
    declared, users = _declared(node)
    single = not isinstance(template.result, list | tuple)
    results = [template.result] if single else list(template.result)
    if declared is not None and len(declared) != len(results):
        raise LoweringError(
            f"{node.name}: provider {impl.provider!r} of {op.name} returns {len(results)} values, "
            f"the op declares {len(declared)}"
        )
    values = Values(mode, leaves, fakes)
    if template.exact and declared is not None and overload != "maybe_inplace":
        _preset(template, results, declared, values)
    made: list[fx.Node] = []
    with graph.inserting_before(node):
        for step in template.steps:
            if step.constant is not None:
                new = _constant(graph, node, step.constant)
            else:
                new = _call(graph, step, items)
            # Setting `meta` itself would look the node up in the graph's tables.
            new.meta.update(kept)
            new.meta["val"] = values.of(step, exact=template.exact)
            if step.rounded:
                new.meta[ROUNDED] = True
            items.append(new)
            made.append(new)
        outputs = [items[r.number] if type(r) is Slot else r for r in results]
        if declared is not None:
            found = [values.values[r.number] if type(r) is Slot else r for r in results]
            if overload != "maybe_inplace":
                fit = _Fit(graph, node, mode, kept, made, f"provider {impl.provider!r}")
                taken = {t.untyped_storage()._cdata for t in flat_tensors(leaves)}
                outputs = [
                    fit.output(o, v, d, taken)
                    for o, v, d in zip(outputs, found, declared, strict=True)
                ]
    _hand_over(node, outputs, users, single=single)
    for i, out in enumerate(outputs):
        if declared is not None and isinstance(out, fx.Node):
            _follow(out, declared[i])
    return made


def _pair(given: Any, args: Any, items: list[Any], leaves: list[Any]) -> None:
    """What stands in the node for each leaf of the arguments."""
    for g, a in zip(given, args, strict=True):
        if isinstance(a, (torch.Tensor, *SYMBOLIC)):
            items.append(g)
            leaves.append(a)
        elif isinstance(a, list | tuple):
            _pair(g, a, items, leaves)


def _call(graph: fx.Graph, step: Step, items: list[Any]) -> fx.Node:
    if step.flat:
        args = tuple([items[a.number] if type(a) is Slot else a for a in step.args])
        return graph.call_function(step.target, args, step.kwargs)
    return graph.call_function(step.target, _given(step.args, items), _given(step.kwargs, items))


def _given(value: Any, items: list[Any]) -> Any:
    kind = type(value)
    if kind is Slot:
        return items[value.number]
    if isinstance(value, tuple):
        return tuple([_given(v, items) for v in value])
    if isinstance(value, list):
        return [_given(v, items) for v in value]
    if isinstance(value, dict):
        return {k: _given(v, items) for k, v in value.items()} if value else {}
    if kind is slice:
        return slice(*(_given(v, items) for v in (value.start, value.stop, value.step)))
    return value


def _declared(node: fx.Node) -> tuple[list[Any] | None, list[fx.Node]]:
    """The values that the graph holds for the outputs, and the getitems that take them."""
    value = value_of(node)
    users = [u for u in node.users if u.target is operator.getitem and u.args[0] is node]
    if value is MISSING:
        return None, users
    if not isinstance(value, list | tuple):
        return [value], users
    declared = list(value)
    for user in reversed(users):
        own = value_of(user)
        if own is not MISSING:
            # Views of the output lie in the storage of this one.
            declared[int(user.args[1])] = own  # type: ignore[arg-type]
    return declared, users


def _preset(template: Template, results: list[Any], declared: list[Any], values: Values) -> None:
    """Let new storages of outputs be those declared, in which views made of them already lie."""
    leaves = len(values.values)
    shared = len(values.storages)
    for result, value in zip(results, declared, strict=True):
        if type(result) is not Slot or result.number < leaves:
            continue
        layout = template.steps[result.number - leaves].layouts
        if (
            isinstance(layout, Layout)
            and layout.storage >= shared
            and layout.storage not in values.preset
            and isinstance(value, FakeTensor)
            and not is_symbolic(value)
            and _agrees(layout, value)
        ):
            values.preset[layout.storage] = value.untyped_storage()


def _agrees(layout: Layout, value: torch.Tensor) -> bool:
    return (
        layout.dtype is value.dtype
        and layout.shape == tuple(value.shape)
        and layout.strides == value.stride()
        and layout.offset == value.storage_offset()
    )


def _constant(graph: fx.Graph, node: fx.Node, constant: torch.Tensor) -> fx.Node:
    owner = graph.owning_module
    if owner is None:
        raise LoweringError(f"{node.name}: a provider's constant needs a graph in a module")
    number = 0
    while hasattr(owner, f"_ir_constant{number}"):
        number += 1
    owner.register_buffer(f"_ir_constant{number}", constant, persistent=False)
    return graph.get_attr(f"_ir_constant{number}")


class _Fit:
    """Makes outputs what the op declares: tensors of their own, laid out as declared."""

    def __init__(
        self,
        graph: fx.Graph,
        node: fx.Node,
        mode: FakeTensorMode,
        kept: dict[str, Any],
        made: list[fx.Node],
        who: str,
    ) -> None:
        self.graph = graph
        self.node = node
        self.mode = mode
        self.kept = kept
        self.made = made
        self.who = who

    def output(self, out: Any, value: Any, declared: Any, taken: set[int]) -> Any:
        if not isinstance(declared, torch.Tensor):
            return out
        if not isinstance(value, torch.Tensor) or not self._alike(value, declared):
            raise LoweringError(
                f"{self.node.name}: {self.who} returns {_shown(value)}; the op declares "
                f"{_shown(declared)}"
            )
        storage = value.untyped_storage()._cdata
        if storage in taken:
            # An op's outputs are new tensors, which a caller may write.
            out, value = self._call(_aten.clone.default, out)
        taken.add(storage)
        if not _same_strides(value, declared):
            if is_symbolic(declared):
                raise LoweringError(
                    f"{self.node.name}: {self.who} returns strides {value.stride()}; the op "
                    f"declares {declared.stride()}"
                )
            room, _ = self._call(
                _aten.empty_strided.default,
                list(declared.shape),
                list(declared.stride()),
                dtype=declared.dtype,
                device=declared.device,
            )
            out, value = self._call(_aten.copy.default, room, out)
        return out

    def _alike(self, value: torch.Tensor, declared: torch.Tensor) -> bool:
        return (
            value.dtype is declared.dtype
            and value.device == declared.device
            and same_numbers(value.shape, declared.shape)
        )

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> tuple[fx.Node, Any]:
        new = self.graph.call_function(target, args, kwargs)
        value = fake_run(self.mode, target, fx.map_arg(args, value_of), kwargs)
        new.meta = {**self.kept, "val": value}
        self.made.append(new)
        return new, value


def _same_strides(value: torch.Tensor, declared: torch.Tensor) -> bool:
    """Whether both reach the same places: a stride counts where there is a second step."""
    if any(type(n) is int and n == 0 for n in declared.shape):
        return True
    return all(
        same_number(a, b) or (type(n) is int and n == 1)
        for n, a, b in zip(declared.shape, value.stride(), declared.stride(), strict=True)
    )


def _shown(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{value.dtype} {tuple(value.shape)} on {value.device}"


def _hand_over(node: fx.Node, outputs: list[Any], users: list[fx.Node], *, single: bool) -> None:
    if single:
        node.replace_all_uses_with(outputs[0])
    else:
        for user in users:
            user.replace_all_uses_with(outputs[int(user.args[1])])  # type: ignore[arg-type]
            node.graph.erase_node(user)
        if node.users:
            raise LoweringError(
                f"{node.name}: its outputs are used as one by {next(iter(node.users)).name}; "
                "accepted: each taken by its index"
            )
    node.graph.erase_node(node)


def _follow(out: fx.Node, declared: Any) -> None:
    """Move the values of views made of an output to the storage it now lies in."""
    value = out.meta.get("val")
    if not isinstance(declared, torch.Tensor) or not isinstance(value, FakeTensor):
        return
    old = declared.untyped_storage()._cdata
    if old == value.untyped_storage()._cdata:
        return
    work = list(out.users)
    while work:
        user = work.pop()
        held = flat_tensors(user.meta.get("val"))
        if user.op != "call_function" or all(t.untyped_storage()._cdata != old for t in held):
            continue
        args, kwargs = fx.map_arg((user.args, user.kwargs), value_of)
        user.meta["val"] = fake_run(value.fake_mode, user.target, args, kwargs)
        work += user.users
