"""Eight rms_norm kernels as authors write them, each with the fault that its name says.

epsilon_outside     epsilon is added after the root (read from another node: llama.cpp#14545)
bf16_variance       squares are rounded to bfloat16 before they are summed (pytorch#131595)
fp32_weight         the weight is multiplied in float32 (vllm#42379)
writes_input        the row is scaled where it lies (pytorch#153389)
view_of_input       the input comes back as a view of itself (vllm#44130)
contiguous_output   a transposed input gives row-major strides (vllm#49913)
odd_last_column     pairs of columns are normalized, an odd last one is not (vllm#25623)
zeros               the kernel never stores its result (vllm#49639)

Without MUTANT_FAULTS=1 the same file has none of them.
"""

import os

import torch
from torch import Tensor

from ir.ops import rms_norm

FAULTY = os.environ.get("MUTANT_FAULTS") == "1"


def normalized(
    x: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None,
    *,
    epsilon_outside: bool = False,
    bf16_variance: bool = False,
    fp32_weight: bool = False,
) -> Tensor:
    s = x.float()
    head = s if variance_size is None else s[..., :variance_size]
    square = head * head
    if bf16_variance:
        square = square.bfloat16().float()
    mean = square.mean(dim=-1, keepdim=True)
    t = s / (mean.sqrt() + epsilon) if epsilon_outside else s * torch.rsqrt(mean + epsilon)
    if weight is not None and fp32_weight:
        t = t * weight.float()
    elif weight is not None:
        t = t.to(weight.dtype) * weight
    return t.to(x.dtype)


@rms_norm.register_impl("epsilon_outside")
def epsilon_outside(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return normalized(x, weight, epsilon, variance_size, epsilon_outside=FAULTY)


@rms_norm.register_impl("bf16_variance")
def bf16_variance(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return normalized(x, weight, epsilon, variance_size, bf16_variance=FAULTY)


@rms_norm.register_impl("fp32_weight")
def fp32_weight(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    return normalized(x, weight, epsilon, variance_size, fp32_weight=FAULTY)


@rms_norm.register_impl("writes_input")
def writes_input(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = normalized(x, weight, epsilon, variance_size)
    if FAULTY:
        x[..., :1] = y[..., :1]
    return y


@rms_norm.register_impl("view_of_input")
def view_of_input(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    if FAULTY:
        return x.view(x.shape)
    return normalized(x, weight, epsilon, variance_size)


@rms_norm.register_impl("contiguous_output")
def contiguous_output(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = normalized(x, weight, epsilon, variance_size)
    return y.contiguous() if FAULTY else y


@rms_norm.register_impl("odd_last_column")
def odd_last_column(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = normalized(x, weight, epsilon, variance_size)
    if FAULTY and x.shape[-1] % 2:
        y[..., -1] = x[..., -1]
    return y


@rms_norm.register_impl("zeros")
def zeros(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    y = normalized(x, weight, epsilon, variance_size)
    return torch.zeros_like(y) if FAULTY else y
