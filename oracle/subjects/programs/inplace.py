"""Providers that write into their activations, with native's values: lowering meets none else here.

No annotation of this module is a string: torch infers schemas from what they evaluate to.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Optional

INPLACE = "irverify_inplace"


@contextmanager
def inplace_providers() -> Iterator[None]:
    """Ops whose activations may be written have them written, in this context."""
    from ir.op import IrOp

    with ExitStack() as stack:
        for name, make in (
            ("rms_norm", _writing_norm),
            ("fused_add_rms_norm", _writing_fused_norm),
        ):
            op = IrOp.registry[name]
            if INPLACE not in op.impls:
                op.register_impl(INPLACE, inplace=True)(make())
            stack.enter_context(op.set_priority([INPLACE, "native"]))
        yield


def _writing_norm() -> Any:
    from torch import Tensor

    def rms_norm(
        x: Tensor,
        weight: Optional[Tensor],  # noqa: UP045
        epsilon: float,
        variance_size: Optional[int] = None,  # noqa: UP045
    ) -> Tensor:
        from ir.ops import rms_norm as op

        return x.copy_(op.impls["native"].impl_fn(x, weight, epsilon, variance_size))

    return rms_norm


def _writing_fused_norm() -> Any:
    from torch import Tensor

    def fused_add_rms_norm(
        x: Tensor,
        x_residual: Tensor,
        weight: Optional[Tensor],  # noqa: UP045
        epsilon: float,
        variance_size: Optional[int] = None,  # noqa: UP045
    ) -> tuple[Tensor, Tensor]:
        from ir.ops import fused_add_rms_norm as op

        y, residual = op.impls["native"].impl_fn(x, x_residual, weight, epsilon, variance_size)
        return x.copy_(y), x_residual.copy_(residual)

    return fused_add_rms_norm
