"""Root-mean-square norms."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.layout import empty_dense
from ir.ops.validation import (
    check_activation,
    check_device,
    check_epsilon,
    check_variance_size,
    check_weight,
    same_shape,
)


def _norm(
    s: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None, out: torch.dtype
) -> Tensor:
    """The norm of `s` (float32), rounded to the weight's dtype before the weight is applied."""
    head = s if variance_size is None else s[..., :variance_size]
    mean_square = (head * head).mean(dim=-1, keepdim=True)
    normed = s * torch.rsqrt(mean_square + epsilon)
    if weight is not None:
        normed = normed.to(weight.dtype) * weight
    return normed.to(out)


@register_op(allow_inplace=True)
def rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last dimension (contract `rms_norm/1`).

    x: (..., d), 1 to 4 dimensions, float32, float16 or bfloat16. weight: (d,), any of these dtypes,
    or None. variance_size: the mean square is over the first that many elements. In float32; with a
    weight the norm is rounded to its dtype, multiplied in it, and rounded to x's. Returns x's shape
    and dtype, dense in x's dimension order. Raises InputError.
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4.
    """
    return _norm(x.to(torch.float32), weight, epsilon, variance_size, x.dtype)


@rms_norm.register_validation
def _check_rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> None:
    check_activation("rms_norm", x, 4)
    check_weight("rms_norm", weight, x)
    check_epsilon("rms_norm", epsilon)
    check_variance_size("rms_norm", variance_size, x)


@rms_norm.register_fake
def fake_rms_norm(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return empty_dense(x)


@rms_norm.register_input_generator
def _generate_rms_norm(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    epsilon: float = 1e-5,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, float]:
    x = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    return x, torch.randn(hidden_size, dtype=dtype, device=device), epsilon


# Sums over wide rows leave a few of many million float16 elements outside the default.
rms_norm.override_tolerance(torch.float16, atol=1e-2, rtol=2e-3)


@register_op(allow_inplace=True)
def fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """s = x + x_residual in float32; the norm of s, and s rounded (`fused_add_rms_norm/1`).

    x, x_residual: (..., d), 1 to 4 dimensions, one shape and dtype (float32, float16 or bfloat16).
    weight, variance_size and the norm's roundings: as `rms_norm`. Returns (y, residual), both of
    x's shape and dtype, dense in x's dimension order. The norm is of s before it is rounded. Raises
    InputError.
    """
    s = x.to(torch.float32) + x_residual.to(torch.float32)
    return _norm(s, weight, epsilon, variance_size, x.dtype), s.to(x.dtype)


@fused_add_rms_norm.register_validation
def _check_fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> None:
    op = "fused_add_rms_norm"
    check_activation(op, x, 4)
    if x_residual.dtype is not x.dtype:
        raise InputError(op, "x_residual.dtype", x_residual.dtype, f"{x.dtype}, as x")
    if not same_shape(x, x_residual):
        raise InputError(op, "x_residual.shape", tuple(x_residual.shape), f"{tuple(x.shape)}, as x")
    check_device(op, "x_residual", x_residual, x)
    check_weight(op, weight, x)
    check_epsilon(op, epsilon)
    check_variance_size(op, variance_size, x)


@fused_add_rms_norm.register_fake
def fake_fused_add_rms_norm(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    # Where x overlaps itself the layout is free, and native's is the residual's, unless its cast
    # to float32 has given x an order of its own.
    others = (x_residual,) if x.dtype is torch.float32 else ()
    return empty_dense(x, *others), empty_dense(x, *others)


@fused_add_rms_norm.register_input_generator
def _generate_fused_add_rms_norm(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    epsilon: float = 1e-5,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, Tensor, float]:
    x = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    x_residual = torch.randn(num_tokens, hidden_size, dtype=dtype, device=device)
    return x, x_residual, torch.randn(hidden_size, dtype=dtype, device=device), epsilon


fused_add_rms_norm.override_tolerance(torch.float16, atol=1e-2, rtol=2e-3)
