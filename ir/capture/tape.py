"""The tape of a host capture: recorded calls, each bound to the tensors it is repeated on.

A call of an op with an `out=` overload is repeated through it, into the tensor that the recorded
call returned; one that writes its arguments is repeated as it is; any other is called again and
its results copied to the recorded ones. Views are not repeated: a view is an address.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from ir.donation import overlaps_itself

Call = Callable[[], object]


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors of a call's arguments or results, in order."""
    for leaf in tree_flatten(value)[0]:
        if isinstance(leaf, Tensor):
            yield leaf


def storage_of(t: Tensor) -> int:
    """What identifies a tensor's storage while it lives."""
    return t.untyped_storage()._cdata


def storage_bytes(t: Tensor) -> Tensor:
    """The whole storage of `t` as bytes, on its own memory."""
    return torch.empty(0, dtype=torch.uint8, device=t.device).set_(t.untyped_storage())


@functools.cache
def out_variant(op: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """The overload that does what `op` does, into one tensor `out`; None where there is none."""
    if len(op._schema.returns) != 1 or op.namespace not in ("aten", "prims"):
        return None
    wanted = [(a.name, str(a.type)) for a in op._schema.arguments]
    packet = op.overloadpacket
    for name in packet.overloads():
        candidate = getattr(packet, name)
        outs = [a for a in candidate._schema.arguments if a.is_out]
        given = [(a.name, str(a.type)) for a in candidate._schema.arguments if not a.is_out]
        if len(outs) == 1 and outs[0].name == "out" and given == wanted:
            return candidate
    # A factory's `out=` overload takes its dtype and device from the tensor.
    options = {"dtype", "layout", "device", "pin_memory"}
    short = [(n, t) for n, t in wanted if n not in options]
    if short == wanted:
        return None
    for name in packet.overloads():
        candidate = getattr(packet, name)
        outs = [a for a in candidate._schema.arguments if a.is_out]
        given = [(a.name, str(a.type)) for a in candidate._schema.arguments if not a.is_out]
        if len(outs) == 1 and outs[0].name == "out" and given == short:
            return candidate
    return None


_EMPTY = frozenset(
    {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}
    | {"aten::empty_permuted", "aten::new_empty_strided"}
)


# Their `out=` overloads, made by torch's code generator, compute a result and copy that.
_COPIES = frozenset({"aten::_to_copy", "aten::clone"})


@functools.cache
def gives_fresh_memory(op: torch._ops.OpOverload) -> bool:
    """Whether `op` only allocates."""
    return op._schema.name in _EMPTY


@functools.cache
def writes(op: torch._ops.OpOverload) -> tuple[tuple[int, str], ...]:
    """Position and name of each argument that the schema of `op` says it writes."""
    return tuple(
        (i, a.name)
        for i, a in enumerate(op._schema.arguments)
        if a.alias_info is not None and a.alias_info.is_write
    )


def written(
    op: torch._ops.OpOverload, args: Sequence[object], kwargs: dict[str, object]
) -> list[Tensor]:
    """The tensors that a call writes."""
    found: list[Tensor] = []
    for i, name in writes(op):
        value = args[i] if i < len(args) else kwargs.get(name)
        found.extend(tensors_in(value))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recorded call: its name, how it is repeated, and the tensors that it made."""

    name: str
    manner: str
    """`out`, `in-place` or `copy`."""
    repeat: Call


@dataclass(slots=True)
class Tape:
    """The calls of one recording, and the arena: every tensor that they made, kept in place."""

    entries: list[Entry] = field(default_factory=list)
    arena: list[Tensor] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    """Every call, those that nothing repeats included, so that two recordings can be compared."""

    def poison(self, byte: int) -> None:
        """Fill the whole arena: what a replay reads before it writes then shows."""
        for t in self.arena:
            storage_bytes(t).fill_(byte)


def bind(
    kernel: Callable[..., object],
    op: torch._ops.OpOverload | None,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    results: Sequence[Tensor],
    made: Sequence[bool],
) -> tuple[str, Call]:
    """How a call is repeated, with everything that it needs bound.

    `results` are the tensors that it returned, `made` says which of them are new memory; the
    others are views of arguments.
    """
    if not any(made):
        return "in-place", functools.partial(kernel, *args, **kwargs)
    source = args[0] if args else None
    is_copy = op is not None and kernel is op and op._schema.name in _COPIES
    if is_copy and isinstance(source, Tensor):
        return "out", functools.partial(results[0].copy_, source)
    into = None if op is None or writes(op) else out_variant(op)
    if into is not None and len(results) == 1 and kernel is op:
        taken = {a.name for a in into._schema.arguments}
        kept = {k: v for k, v in kwargs.items() if k in taken}
        return "out", functools.partial(into, *args, **kept, out=results[0])
    new = tuple(t for t, is_new in zip(results, made, strict=True) if is_new)

    def again() -> None:
        fresh = [
            t for t, is_new in zip(tensors_in(kernel(*args, **kwargs)), made, strict=True) if is_new
        ]
        for target, source in zip(new, fresh, strict=True):
            target.copy_(source)

    return "copy", again


def copied(value: object) -> object:
    """The same structure with each tensor copied once, so that it is the caller's own."""
    done: dict[int, Tensor] = {}

    def copy(t: Tensor) -> Tensor:
        if id(t) not in done:
            done[id(t)] = _own(t.detach())
        return done[id(t)]

    return tree_map_only(Tensor, copy, value)


def _own(t: Tensor) -> Tensor:
    # With the strides that eager gives, which a clone keeps only where there are no gaps.
    if t.is_contiguous() or overlaps_itself(t):
        return t.clone()
    return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device).copy_(t)
