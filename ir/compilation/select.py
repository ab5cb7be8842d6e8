"""Which provider serves a node of a graph."""

from __future__ import annotations

from typing import Any

from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ir.compilation.symbols import Unhinted, is_symbolic
from ir.op import IrOp
from ir.provider import IrOpImpl


def select(op: IrOp, args: tuple[Any, ...]) -> tuple[IrOpImpl, tuple[str, ...]]:
    """The provider for fake arguments, and those declined because sizes did not decide.

    A provider whose `supports_args` is not settled for every size that a symbolic argument can
    have is passed over: its answer for one size would be compiled into code for all of them.
    """
    priority = op._scope.current()
    if not is_symbolic(args):
        return priority.select(args, {}), ()
    declined: list[str] = []
    for impl in priority.impls:
        if impl.supports_all_args:
            return impl, tuple(declined)
        unhinted = Unhinted()
        try:
            with unhinted.mode:
                accepted = bool(impl.supports_args(*unhinted.copies(args)))
        except GuardOnDataDependentSymNode:
            declined.append(impl.provider)
            continue
        if accepted:
            return impl, tuple(declined)
    return op.impls["native"], tuple(declined)
