"""The states of the IR as a case has them: there for one call, with what it leaves in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from reference.legal import DECLARATIONS

if TYPE_CHECKING:
    import torch

    from .torch_memory import Memory


def state_values(op: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The values of the states by name: a tensor, or a table of them."""
    found: dict[str, Any] = {}
    for spec in DECLARATIONS[op].states:
        if spec.name not in tensors:
            continue
        name, _, entry = spec.state.partition(".")
        if entry:
            found.setdefault(name, {})[entry] = tensors[spec.name]
        else:
            found[name] = tensors[spec.name]
    return found


@contextmanager
def states_of(op: str, memory: Memory, device: str) -> Iterator[None]:
    """The memory's states in the registry, for a call that is made inside.

    They take the place of those of the last case, as a reallocated cache does: what was compiled
    with a state finds another one of its kind without another compilation.
    """
    if not memory.states:
        yield
        return
    import ir
    from ir import ir_state

    with ExitStack() as stack:
        if device != "cpu":
            stack.enter_context(ir.scope(device=device))
        for name, value in state_values(op, memory.states).items():
            ir_state.replace(name, value)
            stack.callback(ir_state.discard, name)
        if op == "paged_decode_attention":
            _reserve(memory)
        yield


def _reserve(memory: Memory) -> None:
    """Room for a provider that splits sequences, as an engine reserves it."""
    from ir.ops.paged_attention import reserve_workspace

    query = memory.args[0] if memory.args else memory.kwargs.get("query")
    if query is not None and query.dim() == 3:
        tokens, heads, head_size = query.shape
        reserve_workspace(tokens=tokens, heads=heads, head_size=head_size)


def left(op: str, memory: Memory) -> tuple[torch.Tensor, ...]:
    """What the op left in its states, for each output that is one. Asked for inside the scope."""
    from ir import ir_state

    specs = {spec.name: spec for spec in DECLARATIONS[op].states}
    found: list[torch.Tensor] = []
    for output in DECLARATIONS[op].outputs:
        if output.left_in is not None and output.left_in in memory.states:
            name, _, entry = specs[output.left_in].state.partition(".")
            value = ir_state.get(name)
            found.append(value[entry] if entry else value)
    return tuple(found)
