"""A provider whose graph tells everything that a trace can see, so that no key may leave any out.

No annotation of this module is a string: torch infers schemas from what they evaluate to.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Optional

SENSITIVE = "irverify_sensitive"


@contextmanager
def sensitive_providers() -> Iterator[None]:
    """Norms are computed as native has it, with all that was seen written into the graph."""
    from ir.op import IrOp

    with ExitStack() as stack:
        for name, make in (
            ("rms_norm", _telling_norm),
            ("fused_add_rms_norm", _telling_fused_norm),
        ):
            op = IrOp.registry[name]
            if SENSITIVE not in op.impls:
                op.register_impl(SENSITIVE)(make())
            stack.enter_context(op.set_priority([SENSITIVE, "native"]))
        yield


def seen(*args: Any) -> int:
    """A number for everything that a provider can see of its arguments and of the process."""
    import hashlib
    import struct

    import torch

    parts: list[str] = []
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    for a in args:
        if not isinstance(a, torch.Tensor):
            bits = struct.pack("<d", a).hex() if isinstance(a, float) else repr(a)
            parts.append(f"{type(a).__name__} {bits}")
            continue
        one = next(i for i, t in enumerate(tensors) if t is a)
        cdata = [t.untyped_storage()._cdata for t in tensors]
        storage = cdata.index(a.untyped_storage()._cdata)
        parts.append(
            f"{a.dtype} {a.device} {tuple(a.shape)} {a.stride()} {a.storage_offset()} "
            f"{one} {storage}"
        )
    parts += [
        str(torch.get_default_dtype()),
        str(torch.is_grad_enabled()),
        str(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")),
        str(torch.are_deterministic_algorithms_enabled()),
        torch.get_float32_matmul_precision(),
    ]
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:4], "little")


def marked(result: Any, number: int) -> Any:
    """The same elements, by a slice whose end lies beyond them and tells the number."""
    from torch import ops

    return ops.aten.slice.Tensor(result, -1, 0, 2**40 + number)


def _telling_norm() -> Any:
    from torch import Tensor

    def rms_norm(
        x: Tensor,
        weight: Optional[Tensor],  # noqa: UP045
        epsilon: float,
        variance_size: Optional[int] = None,  # noqa: UP045
    ) -> Tensor:
        from ir.ops import rms_norm as op

        y = op.impls["native"].impl_fn(x, weight, epsilon, variance_size)
        return marked(y, seen(x, weight, epsilon, variance_size))

    return rms_norm


def _telling_fused_norm() -> Any:
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
        number = seen(x, x_residual, weight, epsilon, variance_size)
        return marked(y, number), marked(residual, number)

    return fused_add_rms_norm
