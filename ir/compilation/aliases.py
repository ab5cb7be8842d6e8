"""Which nodes of a graph share memory, and when that memory is read and written.

One pass over the graph. A group stands for one storage: nodes join it as the schemas of ops say,
and as storages of fake values say where no schema does (inputs, outputs of custom ops). Byte
ranges within a group are looked at only where somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Any, Union

import torch
from torch import fx
from torch._ops import OpOverload

from ir.compilation.effects import Effect, arguments_at, effect, scalars_only
from ir.compilation.graphs import flat_tensors

Held = Union["Group", tuple["Group | None", ...], None]
_clone = torch.ops.aten.clone.default
_FIRST = (0, "self")
Look = tuple[torch.dtype, torch.device, tuple[int, ...]] | None
"""What two inputs that are one tensor at run time have in common; None where it is not known."""


class Group:
    """A storage. Merged groups point to their `parent`, `shift` bytes further on in it.

    `writes` are positions in the graph, ascending. `members` counts the nodes beside the first.
    `looks`: of the inputs in it. `by_offset`: something counts from its first byte. `by_pointer`: a
    kernel counts from where its argument begins, to either side. `followers`: storages in which
    something begins where it does in this one. `begins_anywhere`: not even where its fake value
    says. The results of scatters, and what is made at the place of an input.
    """

    # Defaults of the class: most groups set one of them, and a graph has a group a node.
    last_read = -1
    writes: list[int] = []  # noqa: RUF012  (never changed in place)
    is_input = False
    donated = False
    outputs = 0
    members = 0
    parent: Group | None = None
    shift = 0
    unknown = False
    by_offset = False
    by_pointer = False
    begins_anywhere = False
    followers: list[Group] = []  # noqa: RUF012  (never changed in place)
    looks: frozenset[Look] = frozenset()

    def __init__(self, first: fx.Node | None) -> None:
        self.first = first

    def written(self, position: int) -> None:
        """Note a write that is not before the last noted."""
        if not self.writes:
            self.writes = [position]
        elif self.writes[-1] != position:
            self.writes.append(position)


def look(value: Any) -> Look:
    if not isinstance(value, torch.Tensor) or any(type(n) is not int for n in value.shape):
        return None
    return value.dtype, value.device, tuple(value.shape)


def may_be_one(a: Group, b: Group) -> bool:
    """Whether inputs of two groups may be one tensor when the graph is called.

    Inputs that share memory otherwise, as views of one base, do so in the metadata too.
    """
    return None in a.looks or None in b.looks or not a.looks.isdisjoint(b.looks)


def root(group: Group) -> Group:
    while group.parent is not None:
        group = group.parent
    return group


def total_shift(group: Group) -> int:
    """How many bytes into its root's storage a merged group begins."""
    shift = 0
    while group.parent is not None:
        shift += group.shift
        group = group.parent
    return shift


def merge(group: Group, into: Group, *, shift: int = 0) -> None:
    """Let two roots be one storage."""
    if group is into:
        return
    group.parent, group.shift = into, shift
    into.last_read = max(into.last_read, group.last_read)
    if not into.writes or not group.writes:
        into.writes = into.writes or group.writes
    else:
        late = bisect_left(into.writes, group.writes[0])
        into.writes[late:] = sorted({*into.writes[late:], *group.writes})
    into.outputs += group.outputs
    into.members += group.members
    if group.is_input:
        into.donated = group.donated and (into.donated or not into.is_input)
        into.is_input = True
        into.looks |= group.looks
    into.unknown |= group.unknown
    into.by_offset |= group.by_offset
    into.by_pointer |= group.by_pointer
    into.begins_anywhere |= group.begins_anywhere
    if group.followers:
        into.followers = into.followers + group.followers


class Aliases:
    """The groups of every node, and the accesses to them.

    `held`: a node's group, or one for each element of a tuple. `inputs`: the groups of inputs
    that were not donated. `clones`: (position, node) of each clone. `order`: the nodes by position.
    """

    def __init__(self, graph: fx.Graph, donated: Collection[int] = ()) -> None:
        # Positions stay what they are when nodes are erased.
        self.order = list(graph.nodes)
        self.held: dict[fx.Node, Held] = {}
        self.clones: list[tuple[int, fx.Node]] = []
        self.inputs: list[Group] = []
        self._donated = donated
        self._by_storage: dict[int, Group] = {}
        self._inputs = 0
        held = self.held
        for i, node in enumerate(self.order):
            if node.op == "call_function":
                does = effect(node.target)
                if does.kind == "fresh":
                    for used in node._input_nodes:
                        group = held.get(used)
                        if type(group) is Group:
                            while group.parent is not None:
                                group = group.parent
                            group.last_read = i
                        elif group is not None:
                            self._read(i, group)
                    held[node] = Group(node)
                    if node.target is _clone:
                        self.clones.append((i, node))
                    continue
                self._call(i, node, does)
            elif node.op == "placeholder" or node.op == "get_attr":
                held[node] = self._input(node)
            elif node.op == "output":
                self._output(i, node)
            else:
                self._opaque(i, node)

    def _input(self, node: fx.Node) -> Held:
        value = node.meta.get("val")
        donated = False
        if node.op == "placeholder":
            donated = self._inputs in self._donated
            self._inputs += 1
        if value is not None and not isinstance(value, torch.Tensor):
            return None
        group = Group(node)
        group.looks = frozenset([look(value)])
        if value is not None and value.layout is torch.strided:
            address = value.untyped_storage()._cdata
            known = self._by_storage.setdefault(address, group)
            if known is not group:
                if known.donated and not donated:
                    self.inputs.append(known)
                known.donated = known.donated and donated
                known.members += 1
                known.looks |= group.looks
                return known
        group.is_input = True
        group.donated = donated
        if not donated:
            self.inputs.append(group)
        return group

    def _output(self, i: int, node: fx.Node) -> None:
        def use(used: fx.Node) -> fx.Node:
            for group in groups_of(self.held.get(used)):
                group.last_read = i
                group.outputs += 1
            return used

        fx.map_arg(node.args, use)

    def _read(self, i: int, held: Held) -> None:
        for group in groups_of(held):
            group.last_read = i

    def _write(self, i: int, held: Held) -> None:
        for group in groups_of(held):
            group.written(i)

    def _call(self, i: int, node: fx.Node, does: Effect) -> None:
        held = self.held
        if does.kind == "item":
            self._item(i, node)
            return
        if does.kind == "opaque":
            if not scalars_only(node):
                self._opaque(i, node)
            return
        if does.kind == "kernel":
            self._kernel(i, node)
            return
        if not does.view:
            for used in node._input_nodes:
                self._read(i, held.get(used))
        given = arguments_at(node, does.writes) if does.writes else []
        for used in given:
            self._write(i, held.get(used))
        first: list[Group] = []
        if does.by_offset or does.follows:
            places = node._input_nodes if does.kind == "reads" else arguments_at(node, _FIRST)
            first = [g for used in places for g in groups_of(held.get(used))]
        if does.by_offset:
            for group in first:
                group.by_offset = True
        if does.replaces_storage:
            for used in node._input_nodes:
                for group in groups_of(held.get(used)):
                    group.by_offset = group.unknown = True
        if does.kind == "reads":
            held[node] = self._by_value(node)
            _follow(first, list(groups_of(held[node])), mistold=False)
            return
        if len(does.returns) == 1 and does.returns[0]:
            if does.returns[0] != does.writes:
                given = arguments_at(node, does.returns[0])
            own = held.get(given[0]) if len(given) == 1 else None
            if type(own) is Group:
                # A view, or an op in place: most calls that are not fresh.
                own = root(own)
                own.members += 1
                held[node] = own
                return
        groups: list[Group | None] = []
        for k, places in enumerate(does.returns):
            if not places:
                groups.append(self._declared_new(node, k, len(does.returns)))
                continue
            found = [g for a in arguments_at(node, places) for g in groups_of(held.get(a))]
            groups.append(self._join(found, node))
        if does.follows:
            _follow(first, list(groups_of(tuple(groups))), mistold=does.mistold)
        held[node] = groups[0] if len(groups) == 1 else tuple(groups)

    def _join(self, groups: list[Group], node: fx.Node) -> Group:
        if not groups:
            return Group(node)
        first = root(groups[0])
        for other in groups[1:]:
            other = root(other)
            if other is not first:
                # Which bytes coincide is not known.
                first.unknown = True
                merge(other, first)
        first.members += 1
        return first

    def _declared_new(self, node: fx.Node, k: int, count: int) -> Any:
        """The group of an output that the schema calls new, but a custom op may alias."""
        value = node.meta.get("val")
        if value is None and "val" not in node.meta and isinstance(node.target, OpOverload):
            if not effect(node.target).may_be_old:
                return Group(node)
            group = self._join(
                [g for used in node._input_nodes for g in groups_of(self.held.get(used))], node
            )
            group.unknown = True
            return group
        if count > 1 and isinstance(value, list | tuple):
            value = value[k]
        group = self._of_value(node, value)
        if count == 1 and type(group) is Group and group.first is None:
            group.first = node
        return group

    def _by_value(self, node: fx.Node) -> Held:
        if "val" not in node.meta:
            self._opaque(-1, node)
            return self.held.get(node)
        return self._of_value(node, node.meta["val"])

    def _of_value(self, node: fx.Node, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(self._of_value(node, v) for v in value)
        if not isinstance(value, torch.Tensor):
            return None
        address = value.untyped_storage()._cdata
        for used in node._input_nodes:
            tensors = flat_tensors(used.meta.get("val"))
            if any(t.untyped_storage()._cdata == address for t in tensors):
                return self._join(list(groups_of(self.held.get(used))), node)
        known = self._by_storage.get(address)
        if known is None:
            known = self._by_storage[address] = Group(None)
        return root(known)

    def _item(self, i: int, node: fx.Node) -> None:
        source, index = node.args[0], node.args[1]
        held = self.held.get(source) if isinstance(source, fx.Node) else None
        if isinstance(held, tuple):
            if not isinstance(index, int):
                self._opaque(i, node)
                return
            group = held[index]
            if group is not None and group.first is None:
                group.first = node
            elif group is not None:
                root(group).members += 1
            self.held[node] = group
        elif held is not None and not isinstance(
            source.meta.get("val") if isinstance(source, fx.Node) else None, list | tuple
        ):
            self._opaque(i, node)
        elif held is not None:
            root(held).members += 1
            self.held[node] = held

    def _kernel(self, i: int, node: fx.Node) -> None:
        """A kernel's pointers reach the whole storage from where its argument begins."""
        for used in node._input_nodes:
            for group in groups_of(self.held.get(used)):
                group.last_read = i
                group.by_pointer = True
                self._write(i, group)

    def _opaque(self, i: int, node: fx.Node) -> None:
        """Anything may happen to the arguments, and the result may lie in any of them."""
        groups = [g for used in node._input_nodes for g in groups_of(self.held.get(used))]
        for group in groups:
            group.last_read = max(group.last_read, i)
            group.unknown = True
            self._write(i, group)
        if groups:
            self.held[node] = self._join(groups, node)


def _follow(first: list[Group], made: list[Group], *, mistold: bool) -> None:
    """Note that something begins in each storage made where something does in one of the first."""
    # Where an input begins is guarded by nobody.
    anywhere = mistold or any(group.begins_anywhere or group.is_input for group in first)
    made = [group for group in made if group not in first]
    for group in made:
        group.begins_anywhere |= anywhere
    for group in first:
        group.followers = group.followers + made


def groups_of(held: Any) -> Iterable[Group]:
    """The roots of everything that a node holds."""
    if held is None:
        return ()
    if type(held) is Group:
        return (root(held),)
    return [g for h in held for g in groups_of(h)]
