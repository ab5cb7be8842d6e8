"""Faults in what every provider of an op shares: its fake, and what it refuses.

rms_norm                     the fake cannot do without a weight (vllm#49913)
fused_add_rms_norm           a residual of another dtype is let through (vllm#48324)
silu_and_mul                 the fake forgets that the width halves (pytorch#182328)
gelu_and_mul                 the fake is row-major whatever comes in (pytorch#184549)
gelu_and_mul_sparse          what is illegal stops at a bare assert (vllm#17078)
static_quant_fp8             the fake keeps the dtype of the input (TensorRT-LLM#14361)

Without MUTANT_FAULTS=1 the same file changes nothing.
"""

import os

import torch
from torch import Tensor

from ir.ops import (
    fused_add_rms_norm,
    gelu_and_mul,
    gelu_and_mul_sparse,
    rms_norm,
    silu_and_mul,
    static_quant_fp8,
)

if os.environ.get("MUTANT_FAULTS") == "1":

    @rms_norm.register_fake
    def fake_rms_norm(
        x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
    ) -> Tensor:
        return torch.empty_like(x, dtype=weight.dtype).to(x.dtype)  # type: ignore[union-attr]

    @fused_add_rms_norm.register_validation
    def check_fused_add_rms_norm(
        x: Tensor,
        x_residual: Tensor,
        weight: Tensor | None,
        epsilon: float,
        variance_size: int | None = None,
    ) -> None:
        rms_norm._validate(x, weight, epsilon, variance_size)  # type: ignore[misc]

    @silu_and_mul.register_fake
    def fake_silu_and_mul(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    @gelu_and_mul.register_fake
    def fake_gelu_and_mul(x: Tensor, approximate: str = "none") -> Tensor:
        return x.new_empty((*x.shape[:-1], x.shape[-1] // 2))

    @gelu_and_mul_sparse.register_validation
    def check_gelu_and_mul_sparse(
        x: Tensor, std_multiplier: float, approximate: str = "none"
    ) -> None:
        if x.ndim == 0 or x.shape[-1] % 2 or x.shape[-1] == 0:
            raise AssertionError("odd width")

    @static_quant_fp8.register_fake
    def fake_static_quant_fp8(x: Tensor, scale: Tensor) -> Tensor:
        return x.new_empty(x.shape)
