"""Implementation state: what providers keep between calls, by name and scope.

    ir_state.register_type("amax", lambda: torch.zeros(16), per="layer")

    with ir.scope(layer=3):
        history = ir_state.get("amax")

Ops stay functions of their arguments; a provider that keeps something for itself keeps it here.
Scopes belong to the thread or asyncio task that sets them. In a compiled graph the tensors are
inputs that the graph writes in place.
"""

from ir.state.context import IrContext, PendingToken, ScopeToken, scope
from ir.state.description import Description, Entry
from ir.state.errors import (
    ScopeError,
    SealedError,
    StateError,
    UndeclaredStateError,
    UnknownStateError,
)
from ir.state.plan import Planned
from ir.state.registry import IrState, StateType

ir_state = IrState()
"""The registry of the process."""

__all__ = [
    "Description",
    "Entry",
    "IrContext",
    "IrState",
    "PendingToken",
    "Planned",
    "ScopeError",
    "ScopeToken",
    "SealedError",
    "StateError",
    "StateType",
    "UndeclaredStateError",
    "UnknownStateError",
    "ir_state",
    "scope",
]
