"""Kernels that are replayed whole: what is not built on dispatch and is declared repeatable.

The tape records calls of torch's own ops. A kernel behind an opaque call (Triton, a C extension)
is one entry of it, and is admitted only where someone who knows it says that it can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ir.errors import RegistrationError
from ir.provider import IrOpImpl

_kernels: dict[object, Callable[..., object]] = {}

# Every op of `ir.kernels.triton.launch.opaque` does nothing but launch kernels.
_LAUNCHERS = frozenset({"ir_triton"})


def register_replayable(
    target: IrOpImpl | torch._ops.OpOverload, kernel: Callable[..., object] | None = None
) -> None:
    """Declare a provider, or a torch custom op, replayable whole.

    Calling `kernel` (by default the target itself) again on the same addresses must do the same
    work: it reads and writes only its tensor arguments and results, keeps no state of its own,
    and takes no value from the host. Raises RegistrationError for anything else than a provider
    or an op.
    """
    if not isinstance(target, IrOpImpl | torch._ops.OpOverload):
        raise RegistrationError(
            f"cannot register {target!r} as replayable; accepted: a provider of an op of ir, or an "
            "overload of a torch op"
        )
    own = target.func_impl_fn if isinstance(target, IrOpImpl) else target
    _kernels[target] = own if kernel is None else kernel


def unregister_replayable(target: IrOpImpl | torch._ops.OpOverload) -> None:
    """Forget a declaration; nothing happens where there is none."""
    _kernels.pop(target, None)


def replayable(target: object) -> Callable[..., object] | None:
    """The kernel that replays `target`, or None where none is declared."""
    found = _kernels.get(target)
    if found is None and isinstance(target, torch._ops.OpOverload):
        return target if target.namespace in _LAUNCHERS else None
    return found
