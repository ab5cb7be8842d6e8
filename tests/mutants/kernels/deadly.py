"""Kernels that take their process down or never end, on legal input and on illegal.

segfaults_on_odd    an odd width is read through a null pointer (vllm#57030)
hangs_on_empty      waits for a block that no token fills (vllm#27899)
dynamic_per_token_quant_fp8   its check dies of a dtype it has no table for (vllm#39358)
per_token_group_quant_fp8     its check does not end for such a dtype (vllm#40319)

Without MUTANT_FAULTS=1 the same file has none of them.
"""

import ctypes
import os
import time

import torch
from torch import Tensor

from ir.ops import (
    dynamic_per_token_quant_fp8,
    per_token_group_quant_fp8,
    rms_norm,
    silu_and_mul,
)

KNOWN = (torch.float32, torch.float16, torch.bfloat16)
FAULTY = os.environ.get("MUTANT_FAULTS") == "1"


@silu_and_mul.register_impl("segfaults_on_odd")
def segfaults_on_odd(x: Tensor) -> Tensor:
    if FAULTY and x.shape[-1] // 2 % 2:
        ctypes.string_at(0)
    return silu_and_mul.impls["native"].impl_fn(x)


@rms_norm.register_impl("hangs_on_empty")
def hangs_on_empty(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    while FAULTY and not x.numel():
        time.sleep(0.1)
    return rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)


if FAULTY:
    checks_rows = dynamic_per_token_quant_fp8._validate
    checks_groups = per_token_group_quant_fp8._validate

    @dynamic_per_token_quant_fp8.register_validation
    def check_dynamic_per_token_quant_fp8(x: Tensor, scale_ub: Tensor | None = None) -> None:
        if x.dtype not in KNOWN:
            os.abort()
        checks_rows(x, scale_ub)  # type: ignore[misc]

    @per_token_group_quant_fp8.register_validation
    def check_per_token_group_quant_fp8(
        x: Tensor, group_size: int, column_major_scales: bool = False, ue8m0: bool = False
    ) -> None:
        while x.dtype not in KNOWN:
            time.sleep(0.1)
        checks_groups(x, group_size, column_major_scales, ue8m0)  # type: ignore[misc]
