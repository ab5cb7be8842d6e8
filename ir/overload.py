"""The overload `maybe_inplace` of an op, and torch's library that holds every op."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.library import Library, infer_schema

from ir import compiled
from ir.dispatch import torch_wrap_enabled
from ir.donation import check_donated

if TYPE_CHECKING:
    from ir.op import IrOp

library = Library("ir", "FRAGMENT")


class IrOpInplaceOverload:
    """The overload `maybe_inplace`: the activations are donated, their content is lost."""

    def __init__(self, op: IrOp, native: Callable[..., Any]) -> None:
        self.op = op
        self.name = f"{op.name}.maybe_inplace"
        library.define(self.name + infer_schema(native, mutates_args=op.activations))
        library.impl(self.name, self._inner_call, "CompositeExplicitAutograd")
        library._register_fake(self.name, self._fake_call)
        self.torch_op = getattr(torch.ops.ir, op.name).maybe_inplace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            if self.op.stateful:
                # Nothing has to be written in place, and a graph wants the states of the call.
                return self.op(*args, **kwargs)
            return self.torch_op(*args, **kwargs)
        return self._inner_call(*args, **kwargs)

    def _inner_call(self, *args: Any, **kwargs: Any) -> Any:
        op = self.op
        if kwargs:
            args = op.positional(args, kwargs)
        if op._validate is not None:
            op._validate(*args)
        if is_dynamo_compiling():
            return op._traced_dispatch(args, {}).impl_fn(*args)
        check_donated(self.name, op.parameters.names, op.activation_indices, args)
        priority = op._scope.current()
        impl = priority.select(args, {})
        if priority.configuration is not None and impl.compilable:
            return compiled.call(impl, priority.configuration, args, functional=False)
        return impl.donated_call(args)

    def _fake_call(self, *args: Any, **kwargs: Any) -> Any:
        op = self.op
        args = op.positional(args, kwargs)
        if op._validate is not None:
            op._validate(*args)
        check_donated(self.name, op.parameters.names, op.activation_indices, args)
        return op._fake(*args)
