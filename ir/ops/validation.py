"""Refusals that several ops share. They run on every call: plain comparisons of metadata.

Every function raises `ir.errors.InputError`. Token counts are never compared with a number, so
that a symbolic one gains no guard.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import guard_or_false

from ir.errors import InputError

FLOATS = (torch.bfloat16, torch.float16, torch.float32)
_FLOATS_TEXT = "float32, float16 or bfloat16"


def check_activation(op: str, x: Tensor, ranks: int, *, name: str = "x", least: int = 1) -> None:
    """Refuse a dtype that is not a float format of the ops, a rank, or an empty last dimension."""
    if x.dtype not in FLOATS:
        raise InputError(op, f"{name}.dtype", x.dtype, _FLOATS_TEXT)
    if not least <= x.dim() <= ranks:
        raise InputError(op, f"{name}.dim()", x.dim(), f"{least} to {ranks}")
    if x.shape[-1] < 1:
        raise InputError(op, f"{name}.shape", tuple(x.shape), "a last dimension of at least 1")


def check_even_width(op: str, x: Tensor) -> None:
    """Refuse a last dimension that has no two halves."""
    if x.shape[-1] % 2:
        raise InputError(op, "x.shape", tuple(x.shape), "an even last dimension")


def check_weight(op: str, weight: Tensor | None, x: Tensor) -> None:
    """Refuse a weight that is not one float per element of x's last dimension, on x's device."""
    if weight is None:
        return
    if weight.dtype not in FLOATS:
        raise InputError(op, "weight.dtype", weight.dtype, _FLOATS_TEXT)
    if weight.dim() != 1 or weight.shape[0] != x.shape[-1]:
        raise InputError(op, "weight.shape", tuple(weight.shape), f"({x.shape[-1]},)")
    check_device(op, "weight", weight, x)


def check_epsilon(op: str, epsilon: float) -> None:
    """Refuse a negative, infinite or NaN epsilon."""
    if not 0.0 <= epsilon < float("inf"):
        raise InputError(op, "epsilon", epsilon, "a finite number of at least 0")


def check_variance_size(op: str, variance_size: int | None, x: Tensor) -> None:
    """Refuse a count of elements that the last dimension does not have."""
    if variance_size is not None and not 1 <= variance_size <= x.shape[-1]:
        raise InputError(op, "variance_size", variance_size, f"None, or 1 to {x.shape[-1]}")


def check_approximate(op: str, approximate: str) -> None:
    """Refuse a name that is no form of gelu."""
    if approximate not in ("none", "tanh"):
        raise InputError(op, "approximate", repr(approximate), "'none' or 'tanh'")


def check_scalar(op: str, name: str, scalar: Tensor, x: Tensor) -> None:
    """Refuse a tensor that is not one float32, shape () or (1,), on x's device."""
    if scalar.dtype is not torch.float32:
        raise InputError(op, f"{name}.dtype", scalar.dtype, "float32")
    if scalar.dim() > 1 or scalar.numel() != 1:
        raise InputError(op, f"{name}.shape", tuple(scalar.shape), "() or (1,)")
    check_device(op, name, scalar, x)


def check_device(op: str, name: str, tensor: Tensor, x: Tensor) -> None:
    """Refuse a tensor that lies on another device than x."""
    if tensor.device != x.device:
        raise InputError(op, f"{name}.device", tensor.device, f"{x.device}, where x lies")


def differ(m: int, n: int) -> bool:
    """Whether two sizes differ, as far as symbolic ones tell."""
    # guard_or_false costs more than the rest of a validation, and real sizes do not need it.
    if type(m) is int and type(n) is int and not torch.compiler.is_compiling():
        return m != n
    return guard_or_false(m != n)


def same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes are equal, as far as symbolic sizes tell."""
    if a.dim() != b.dim():
        return False
    for m, n in zip(a.shape, b.shape, strict=True):  # noqa: SIM110  a generator costs 300 ns
        if differ(m, n):
            return False
    return True
