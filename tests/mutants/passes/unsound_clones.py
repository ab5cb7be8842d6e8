"""Clone elimination as it is written when aliasing is an afterthought: each misses one class.

With MUTANT_FAULTS=0 each is ours, which misses none.
"""

import os

import torch
from torch import fx

from ir.compilation import eliminate_clones, register_pass

FAULTY = os.environ.get("MUTANT_FAULTS", "1") == "1"
CLONE = torch.ops.aten.clone.default
COPY = torch.ops.aten.copy.default


def writes(node: fx.Node, value: fx.Node, *, keywords: bool) -> bool:
    """Whether the call writes what it is given as ``value``, by position or by keyword."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        given = node.args[i] if i < len(node.args) else None
        if keywords and given is None:
            given = node.kwargs.get(argument.name)
        if given is value or (isinstance(given, list | tuple) and value in given):
            return True
    return False


def family(value: fx.Node) -> list[fx.Node]:
    """The node and what is made of it without a copy, as far as its storage tells."""
    storage = value.meta["val"].untyped_storage()._cdata
    return [
        n
        for n in value.graph.nodes
        if isinstance(n.meta.get("val"), torch.Tensor)
        and n.meta["val"].untyped_storage()._cdata == storage
    ]


def returned(values: list[fx.Node]) -> bool:
    return any(u.op == "output" for v in values for u in v.users)


def original_of(clone: fx.Node) -> fx.Node:
    original = clone.args[0]
    if not isinstance(original, fx.Node):
        raise TypeError(f"{clone.name} is a clone of {original!r}")
    return original


def remove(graph: fx.Graph, clone: fx.Node) -> None:
    clone.replace_all_uses_with(original_of(clone))
    graph.erase_node(clone)


def clones(graph: fx.Graph) -> list[fx.Node]:
    """Those to be asked about: where a copy begins is not what these passes are wrong about."""
    return [
        n
        for n in graph.nodes
        if n.target is CLONE
        and same_layout(n)
        and not any(user.target is COPY for value in family(n) for user in value.users)
    ]


def same_layout(clone: fx.Node) -> bool:
    value, source = clone.meta["val"], original_of(clone).meta["val"]
    return value.stride() == source.stride() and value.storage_offset() == source.storage_offset()


def sound(graph: fx.Graph) -> None:
    eliminate_clones(graph)


@register_pass("direct_users")
def direct_users(graph: fx.Graph) -> None:
    """Looks at the users of clone and original, not at those of their views."""
    if not FAULTY:
        return sound(graph)
    for clone in clones(graph):
        both = [clone, original_of(clone)]
        written = any(writes(u, v, keywords=True) for v in both for u in v.users)
        if not written and not returned(both):
            remove(graph, clone)


@register_pass("positional_only")
def positional_only(graph: fx.Graph) -> None:
    """Sees what is written by position, not what is written by keyword."""
    if not FAULTY:
        return sound(graph)
    for clone in clones(graph):
        both = [*family(clone), *family(original_of(clone))]
        written = any(writes(u, v, keywords=False) for v in both for u in v.users)
        if not written and not returned(both):
            remove(graph, clone)


@register_pass("placeholders_only")
def placeholders_only(graph: fx.Graph) -> None:
    """Spares inputs, and thinks that nothing else can be told from its clone."""
    if not FAULTY:
        return sound(graph)
    for clone in clones(graph):
        if not any(n.op == "placeholder" for n in family(original_of(clone))):
            remove(graph, clone)
