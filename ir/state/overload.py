"""The overload `scoped` of an op: a call as a graph holds it, with its scope and its states."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ir.overload import library
from ir.state import ir_state
from ir.state.context import at, place, traced_text
from ir.state.lifting import Lifted
from ir.state.values import tensors_of

if TYPE_CHECKING:
    from ir.op import IrOp
    from ir.provider import IrOpImpl

LEADING = 3
"""How many parameters stand before those of the op: states, scope, slots."""


class ScopedOverload:
    """`ir::NAME.scoped(Tensor(ir!)[] states, str scope, str[] slots, ...)`.

    states: the tensors of the states that the call may use, in the order of `slots`, which names
    the states; they may be written. scope: the scope of the call, as text.
    """

    def __init__(self, op: IrOp) -> None:
        self.op = op
        self.name = f"{op.name}.scoped"
        parameters, returns = op.schema[1:].rsplit(") -> ", 1)
        first = "Tensor(ir!)[] states, str scope, str[] slots"
        listed = f"{first}, {parameters}" if parameters else first
        library.define(f"{self.name}({listed}) -> {returns}")
        library.impl(self.name, self._run, "CompositeExplicitAutograd")
        library._register_fake(self.name, self._fake)
        self.torch_op = getattr(torch.ops.ir, op.name).scoped

    def traced(self, args: tuple[Any, ...]) -> Any:
        """The call of code that Dynamo traces."""
        op = self.op
        # Read for its guard: which states a call may use follows from the providers in force.
        op._scope.guarded.read()
        text = traced_text()
        slots = ir_state._tracer.slots(op.name, text)
        if slots is None:
            return op.torch_op(*args)
        states: list[Tensor] = []
        for slot in slots:
            states += tensors_of(getattr(ir_state.cells, slot))
        return self.torch_op(states, text, list(slots), *args)

    def bound(self, impl: IrOpImpl) -> Callable[..., Any]:
        """A provider as a function of the overload's arguments."""

        def call(states: list[Tensor], scope: str, slots: list[str], *args: Any) -> Any:
            lifted = Lifted(ir_state, slots, states)
            with at(place(scope, impl.uses, lifted)):
                result = impl.func_impl_fn(*args)
            lifted.check()
            return result

        return call

    def _run(self, states: list[Tensor], scope: str, slots: list[str], *args: Any) -> Any:
        op = self.op
        if op._validate is not None:
            op._validate(*args)
        impl = op._scope.current().select(args, {})
        return _owned(self.bound(impl)(states, scope, slots, *args), (*states, *args))

    def _fake(self, states: list[Tensor], scope: str, slots: list[str], *args: Any) -> Any:
        op, native = self.op, self.op.impls["native"]
        if op._fake is not native.impl_fn or not native.uses.stateful:
            return op._fake_call(*args)
        if op._validate is not None:
            op._validate(*args)
        return _owned(self.bound(native)(states, scope, slots, *args), (*states, *args))


def _owned(result: Any, args: tuple[Any, ...]) -> Any:
    given = {t.untyped_storage()._cdata for t in tensors_of(args)}
    if isinstance(result, Tensor):
        return _own(result, given)
    return tuple(_own(r, given) for r in result)


def _own(output: Any, given: set[int]) -> Any:
    """An output that shares no memory with what the call was given."""
    if isinstance(output, Tensor) and output.untyped_storage()._cdata in given:
        return output.clone()
    return output
