"""Providers through torch.compile, for ops called eagerly or inside an opaque custom op.

`set_priority([...], compile=True)` compiles a provider as Inductor does by default, which keeps
intermediate values wider than the provider rounds them; `compile="exact"` keeps every rounding.
Compiled code belongs to the provider: it outlives the priority that asked for it and is found
again without Dynamo looking at the call. One compilation serves every number of tokens. Another
dtype, size, layout, scalar, default dtype, number of threads or Inductor setting is another
compilation, and past `limit` of them for one provider and configuration the caller is told
(CompileLimitError); nothing ever moves to eager silently.

Under an outer trace (Dynamo, make_fx, a fake mode, functorch) the provider itself is traced.
Autocast does not reach into a compiled provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ir.compiled.build import has_compiler, keeps_roundings
from ir.compiled.state import is_traced, records_gradients

if TYPE_CHECKING:
    from ir.compiled.table import Table
    from ir.dispatch import Configuration
    from ir.provider import IrOpImpl

__all__ = ["Statistics", "call", "clear", "has_compiler", "keeps_roundings", "limit", "statistics"]

limit: int = 256
"""The most compilations of one provider in one configuration. Settable."""

_tables: dict[IrOpImpl, Table] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of one op: `compiles` made, and `hits`, calls served by code made before."""

    compiles: int
    hits: int


def statistics() -> dict[str, Statistics]:
    """What has been compiled and reused since the start or `clear`, by op."""
    found: dict[str, Statistics] = {}
    for impl, table in list(_tables.items()):
        before = found.get(impl.op.name, Statistics(compiles=0, hits=0))
        found[impl.op.name] = Statistics(
            compiles=before.compiles + table.compiles.total(), hits=before.hits + table.hits
        )
    return found


def clear() -> None:
    """Forget all compiled code."""
    _tables.clear()


def call(
    impl: IrOpImpl, configuration: Configuration, args: tuple[Any, ...], *, functional: bool
) -> Any:
    """Run a provider compiled, or as it is where the call is being traced.

    `functional`: activations that the provider may write are copied first.
    Raises NoCompilerError, CompileLimitError.
    """
    if is_traced(args):
        return impl.func_impl_fn(*args) if functional else impl.impl_fn(*args)
    if functional and impl.inplace:
        args = impl.copied(args)
    if records_gradients(args):
        return _differentiable(impl, configuration, args)
    return _table_of(impl).call(configuration, args, limit)


def _table_of(impl: IrOpImpl) -> Table:
    table = _tables.get(impl)
    if table is None or table.generation != impl.op.generation:
        from ir.compiled.table import Table

        # Code of providers that are no longer registered goes with them.
        for other in [i for i in _tables if i.op.impls.get(i.provider) is not i]:
            del _tables[other]
        table = _tables[impl] = Table(impl)
    return table


def _differentiable(impl: IrOpImpl, configuration: Configuration, args: tuple[Any, ...]) -> Any:
    """The compiled provider forward; backward, the gradient of the provider as it is."""
    table, most = _table_of(impl), limit

    class Compiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.constants = [None if isinstance(a, torch.Tensor) else a for a in inputs]
            ctx.save_for_backward(*[a if isinstance(a, torch.Tensor) else None for a in inputs])
            return table.call(configuration, inputs, most)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            saved = [
                constant if t is None else t.detach().requires_grad_(t.requires_grad)
                for t, constant in zip(ctx.saved_tensors, ctx.constants, strict=True)
            ]
            with torch.enable_grad():
                result = impl.func_impl_fn(*saved)
            outputs = (result,) if isinstance(result, torch.Tensor) else tuple(result)
            pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
            wanted = [t for t in saved if isinstance(t, torch.Tensor) and t.requires_grad]
            found = iter(
                torch.autograd.grad(
                    [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True
                )
            )
            return tuple(
                next(found) if isinstance(t, torch.Tensor) and t.requires_grad else None
                for t in saved
            )

    return Compiled.apply(*args)
