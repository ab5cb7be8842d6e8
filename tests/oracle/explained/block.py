"""Two norms of a decoder and what is copied around them. `inplace` writes what it is given."""

import torch
from torch import Tensor

import ir

EPSILON = 1e-6


@ir.ops.fused_add_rms_norm.register_impl("inplace", inplace=True)
def inplace(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    x_residual.add_(x)
    y = x_residual * torch.rsqrt(x_residual.pow(2).mean(-1, keepdim=True) + epsilon)
    x.copy_(y if weight is None else y * weight)
    return x, x_residual


def model(x: Tensor, residual: Tensor, weight: Tensor, up: Tensor) -> tuple[Tensor, ...]:
    before = residual.clone()
    for _ in range(2):
        x, residual = ir.ops.fused_add_rms_norm.maybe_inplace(x @ up, residual, weight, EPSILON)
    return ir.ops.rms_norm(x, weight, EPSILON), residual, before


def broken(x: Tensor) -> Tensor:
    return x.reshape(3, 3)


model_inputs = (torch.ones(4, 8), torch.ones(4, 8), torch.ones(8), torch.ones(8, 8))
inputs = (torch.ones(4, 8),)
