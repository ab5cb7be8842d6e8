"""What a call does to its arguments, by the schema of its target."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload

Kind = Literal["fresh", "schema", "reads", "kernel", "item", "opaque"]
Place = int | str
"""An argument: its position, or the name by which a keyword gives it."""

# They copy the storages of what they are given; the second makes views by number, too.
_READING = {"auto_functionalized", "auto_functionalized_v2", "triton_kernel_wrapper_functional"}
_VIEWS_BY_NUMBER = "auto_functionalized_v2"
# These copy a storage up to the last element: their result begins where their argument does. The
# fake values of scatters say 0 for it instead (torch 2.13.0).
_SCATTERS = {"aten::as_strided_scatter", "aten::diagonal_scatter", "aten::select_scatter",
             "aten::slice_scatter", "prims::as_strided_scatter"}  # fmt: skip
_FOLLOWS = {*_SCATTERS, "aten::copy", "aten::_foreach_copy", "aten::_lazy_clone"}
_BY_OFFSET = {"aten::as_strided", "aten::as_strided_", "aten::as_strided_copy",
              "aten::as_strided_scatter", "aten::sym_storage_offset", "prims::as_strided",
              "prims::as_strided_scatter"}  # fmt: skip
# What they return is new by their schema, and yet lies where their argument does. So may be what a
# composite returns: `einsum`, `dropout`, `type_as`.
_NEW_BY_SCHEMA_ALONE = {"aten::_unsafe_view", "aten::lift", "aten::dequantize",
                        "aten::_saturate_weight_to_fp16", "aten::set",
                        "prims::device_put"}  # fmt: skip
_REPLACES_STORAGE = {"aten::set_", "aten::resize_", "aten::resize_as_", "aten::swap_",
                     "inductor::resize_storage_bytes_", "fsdp::copy_"}  # fmt: skip
_KERNEL = "triton_kernel_wrapper_mutation"
# In-place ops whose result holds nothing of what was there; `out=` arguments are the others.
_OVERWRITES_SELF = {"aten::copy_", "aten::fill_", "aten::zero_"}
_SCALAR_MODULES = {operator.__name__, "_operator", math.__name__, "torch", "builtins",
                   "torch.fx.experimental.sym_node"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """`fresh`: reads its arguments, returns new tensors. `schema`: as the fields tell. `reads`:
    a higher-order op that writes nothing. `kernel`: reads and writes any byte of the storages it
    is given, returns nothing. `item`: takes one of a tuple. `opaque`: anything.

    writes: arguments written, a list of tensors in any element. overwrites: those of them whose
    every element is written and none read. returns: for each output, the arguments whose storage
    it may lie in. view: reads no element. elementwise: an element written depends on elements of
    the same index alone, which are read before. by_offset: what is done depends on where in its
    storage the first argument begins, of what `reads` any. follows: what is returned is
    new and begins where the first argument does, of what `reads` any. mistold: its fake value may
    begin elsewhere than the real one. may_be_old: what is returned may lie where an argument does,
    whatever the schema says.
    replaces_storage: the tensor's memory is another one afterwards.
    """

    kind: Kind
    writes: tuple[Place, ...] = ()
    overwrites: tuple[Place, ...] = ()
    returns: tuple[tuple[Place, ...], ...] = ()
    view: bool = False
    elementwise: bool = False
    by_offset: bool = False
    follows: bool = False
    mistold: bool = False
    may_be_old: bool = False
    replaces_storage: bool = False


_OPAQUE = Effect(kind="opaque")


@functools.cache
def effect(target: Any) -> Effect:
    """The effect of calling `target`; opaque where nothing is known of it."""
    if target is operator.getitem:
        return Effect(kind="item")
    if isinstance(target, OpOverload):
        return _of_schema(target)
    if isinstance(target, HigherOrderOperator):
        if target.name() == _KERNEL:
            return Effect(kind="kernel")
        if target.name() not in _READING:
            return _OPAQUE
        return Effect(kind="reads", by_offset=target.name() == _VIEWS_BY_NUMBER, follows=True)
    return _OPAQUE


def scalars_only(node: fx.Node) -> bool:
    """Whether a node is plain arithmetic on sizes: a function of Python, no tensor in or out."""
    module = getattr(node.target, "__module__", None)
    return (
        module in _SCALAR_MODULES
        and "val" in node.meta
        and not isinstance(node.meta["val"], torch.Tensor | list | tuple)
    )


def _of_schema(target: OpOverload) -> Effect:
    schema = target._schema
    name = schema.name
    places: list[tuple[Place, ...]] = []
    sets: list[set[str]] = []
    writes: list[Place] = []
    overwrites: list[Place] = []
    for i, argument in enumerate(schema.arguments):
        info = argument.alias_info
        if info is None:
            continue
        # A positional argument may come by keyword as well.
        both: tuple[Place, ...] = (argument.name,) if argument.kwarg_only else (i, argument.name)
        places.append(both)
        sets.append(set(info.before_set) | set(info.after_set))
        if info.is_write:
            writes += both
            if target.namespace == "aten" and (argument.is_out or name in _OVERWRITES_SELF):
                overwrites += both
    returns: list[tuple[Place, ...]] = []
    for value in schema.returns:
        info = value.alias_info
        names = set() if info is None else set(info.before_set) | set(info.after_set)
        found = [p for p, s in zip(places, sets, strict=True) if s & names or "*" in s & names]
        returns.append(tuple(q for p in found for q in p))
    by_offset = name in _BY_OFFSET
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(
        target.name(), "CompositeImplicitAutograd"
    )
    if not writes and not any(returns):
        fresh = target.namespace in ("aten", "prims") and len(returns) == 1
        fresh = fresh and not by_offset and name not in _FOLLOWS
        # A list of tensors holds several storages.
        fresh = fresh and str(schema.returns[0].type) == "Tensor"
        if fresh and not composite and name not in _NEW_BY_SCHEMA_ALONE:
            return Effect(kind="fresh")
        return Effect(
            kind="schema",
            returns=tuple(returns),
            by_offset=by_offset,
            follows=name in _FOLLOWS,
            mistold=name in _SCATTERS,
            may_be_old=composite or name in _NEW_BY_SCHEMA_ALONE,
            view=name.startswith("aten::sym_"),
        )
    return Effect(
        kind="schema",
        writes=tuple(writes),
        overwrites=tuple(overwrites),
        returns=tuple(returns),
        # `reshape` and its like return a copy where no view does.
        view=not writes and all(returns) and target.namespace == "aten" and not composite,
        # A composite may write before it has read everything.
        elementwise=name in _OVERWRITES_SELF
        or (torch.Tag.pointwise in target.tags and not composite and len(returns) == 1),
        by_offset=by_offset,
        replaces_storage=name in _REPLACES_STORAGE,
    )


def arguments_at(node: fx.Node, places: tuple[Place, ...]) -> list[fx.Node]:
    """The nodes given at these places, those in lists too."""
    args, kwargs = node.args, node.kwargs
    found: list[fx.Node] = []
    for place in places:
        if type(place) is int:
            value = args[place] if place < len(args) else None
        else:
            value = kwargs.get(place) if kwargs else None  # type: ignore[arg-type]
        if type(value) is fx.Node:
            found.append(value)
        elif value is not None and isinstance(value, list | tuple):
            found += [v for v in value if isinstance(v, fx.Node)]
    return found
