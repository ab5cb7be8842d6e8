"""Gated activations: the first half of the last dimension through a function, times the second."""

from __future__ import annotations

import torch
from torch import Tensor

from ir.errors import InputError
from ir.op import register_op
from ir.ops.layout import empty_dense
from ir.ops.validation import check_activation, check_approximate, check_even_width

_SQRT_HALF = 0.7071067811865476
_SQRT_TWO_OVER_PI = 0.7978845608028654
_GELU_CUBIC = 0.044715


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    d = x.shape[-1] // 2
    return x[..., :d], x[..., d:]


def _gelu(z: Tensor, approximate: str) -> Tensor:
    """gelu of a float32 tensor, written out so that each compiler keeps these very steps.

    Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
    """
    if approximate == "none":
        return 0.5 * z * (1.0 + torch.erf(z * _SQRT_HALF))
    inner = _SQRT_TWO_OVER_PI * (z + _GELU_CUBIC * (z * z * z))
    return 0.5 * z * (1.0 + torch.tanh(inner))


@register_op
def gelu_and_mul_sparse(x: Tensor, std_multiplier: float, approximate: str = "none") -> Tensor:
    """Only what exceeds mean + std_multiplier * std passes gelu (`gelu_and_mul_sparse/1`).

    x: (..., 2d), 1 to 4 dimensions, float32, float16 or bfloat16; gate = x[..., :d]. The mean and
    the population standard deviation are over gate's last dimension, in float32. Both are rounded
    to x's dtype, and so is each step after them: std * std_multiplier, its sum with the mean, what
    gate exceeds it by, gelu of that, the product. Returns (..., d), x's dtype, dense in x's
    dimension order. Raises InputError.
    """
    dtype = x.dtype
    gate, up = _halves(x)
    z = gate.to(torch.float32)
    # Statistics in float32: torch's mean of a bfloat16 tensor rounds its sum first on a CPU. Two
    # passes, because torch.std warns about empty tensors.
    mean = z.mean(dim=-1, keepdim=True)
    deviation = z - mean
    std = (deviation * deviation).mean(dim=-1, keepdim=True).sqrt().to(dtype)
    margin = (std.to(torch.float32) * std_multiplier).to(dtype)
    excess = gate - (mean.to(dtype) + margin)
    # Not torch.relu, whose sign of zero differs between torch's own loops.
    kept = torch.where(excess < 0, 0, excess)
    return _gelu(kept.to(torch.float32), approximate).to(dtype) * up


@gelu_and_mul_sparse.register_validation
def _check_gelu_and_mul_sparse(x: Tensor, std_multiplier: float, approximate: str = "none") -> None:
    check_activation("gelu_and_mul_sparse", x, 4)
    check_even_width("gelu_and_mul_sparse", x)
    if not float("-inf") < std_multiplier < float("inf"):
        raise InputError("gelu_and_mul_sparse", "std_multiplier", std_multiplier, "a finite number")
    check_approximate("gelu_and_mul_sparse", approximate)


@gelu_and_mul_sparse.register_fake
def fake_gelu_and_mul_sparse(x: Tensor, std_multiplier: float, approximate: str = "none") -> Tensor:
    return empty_dense(x, last=x.shape[-1] // 2)


@gelu_and_mul_sparse.register_input_generator
def _generate_gelu_and_mul_sparse(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    std_multiplier: float = 1.6448536269514722,
    approximate: str = "tanh",
    device: torch.device | str | None = None,
) -> tuple[Tensor, float, str]:
    # 1.645 is the 95th percentile of a normal distribution: 5 % of the gate stays.
    x = torch.randn(num_tokens, hidden_size * 2, dtype=dtype, device=device)
    return x, std_multiplier, approximate


@register_op
def silu_and_mul(x: Tensor) -> Tensor:
    """z / (1 + exp(-z)) of the first half, times the second half (`silu_and_mul/1`).

    x: (..., 2d), 1 to 4 dimensions, float32, float16 or bfloat16. The activation is computed in
    float32 and rounded to x's dtype. Returns (..., d), x's dtype, dense in x's dimension order.
    Raises InputError.
    """
    gate, up = _halves(x)
    z = gate.to(torch.float32)
    return (z / (1.0 + torch.exp(-z))).to(x.dtype) * up


@silu_and_mul.register_validation
def _check_silu_and_mul(x: Tensor) -> None:
    check_activation("silu_and_mul", x, 4)
    check_even_width("silu_and_mul", x)


@silu_and_mul.register_fake
def fake_silu_and_mul(x: Tensor) -> Tensor:
    return empty_dense(x, last=x.shape[-1] // 2)


@silu_and_mul.register_input_generator
def _generate_silu_and_mul(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
) -> tuple[Tensor]:
    return (torch.randn(num_tokens, hidden_size * 2, dtype=dtype, device=device),)


@register_op
def gelu_and_mul(x: Tensor, approximate: str = "none") -> Tensor:
    """gelu of the first half, times the second half (`gelu_and_mul/1`).

    x: (..., 2d), 1 to 4 dimensions, float32, float16 or bfloat16. approximate: "none" (through
    erf) or "tanh". The activation is computed in float32 and rounded to x's dtype. Returns
    (..., d), x's dtype, dense in x's dimension order. Raises InputError.
    """
    gate, up = _halves(x)
    return _gelu(gate.to(torch.float32), approximate).to(x.dtype) * up


@gelu_and_mul.register_validation
def _check_gelu_and_mul(x: Tensor, approximate: str = "none") -> None:
    check_activation("gelu_and_mul", x, 4)
    check_even_width("gelu_and_mul", x)
    check_approximate("gelu_and_mul", approximate)


@gelu_and_mul.register_fake
def fake_gelu_and_mul(x: Tensor, approximate: str = "none") -> Tensor:
    return empty_dense(x, last=x.shape[-1] // 2)


@gelu_and_mul.register_input_generator
def _generate_gelu_and_mul(
    num_tokens: int,
    hidden_size: int,
    dtype: torch.dtype,
    approximate: str = "none",
    device: torch.device | str | None = None,
) -> tuple[Tensor, str]:
    return torch.randn(num_tokens, hidden_size * 2, dtype=dtype, device=device), approximate
