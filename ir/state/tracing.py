"""How code that Dynamo traces finds states.

A state that does not exist yet is created once, for real, while Dynamo traces. It is then read as
an attribute of `IrState.cells`, which makes its tensors inputs of the graph: every call writes
the same storage, and a tensor that takes its place is seen without another compilation.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from ir.dispatch import _OpaqueBase
from ir.state.context import at, place
from ir.state.guarded import register_guarded
from ir.state.lifting import Key, slot_of
from ir.state.plan import keys_of
from ir.state.values import tensors_of

if TYPE_CHECKING:
    from ir.state.registry import IrState


class Tracer(_OpaqueBase):
    """Finds states for traced code. Each method takes and gives constants."""

    def __init__(self, registry: IrState) -> None:
        self.registry = registry

    def slot(self, name: str, scope: Hashable, text: str) -> str:
        """Where the cells hold the state that a `get` in a scope means; creates it."""
        with at(place(text)):
            return self._created(self.registry.key(name, scope, place(text)))

    def slots(self, op: str, text: str) -> tuple[str, ...] | None:
        """The tensor states that providers in force may use in a scope; None where they use none.

        States that are no tensors are created too, and stay where they are.
        """
        from ir.op import IrOp

        registry = self.registry
        impls = [i for i in IrOp.registry[op]._scope.current().impls if i.uses.stateful]
        keys = dict.fromkeys(key for i in impls for key in keys_of(registry, i.uses, text))
        if not keys:
            return None
        with at(place(text)):
            created = [(self._created(key), key) for key in keys]
        return tuple(slot for slot, key in created if tensors_of(registry.held(key)))

    def _created(self, key: Key) -> str:
        self.registry.value(key)
        return slot_of(key)


register_guarded(Tracer, methods=("slot", "slots"), guard=lambda t: [t.registry.epoch])
