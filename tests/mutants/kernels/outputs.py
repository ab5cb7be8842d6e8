"""Kernels of other ops whose outputs, or the memory around them, are wrong.

three_outputs       an intermediate comes back beside the outputs (vllm#41767)
stays_float32       the result is not cast back (TensorRT-LLM#14361)
flat_heads          heads are flattened into one dimension (pytorch#182328)
nan_to_number       NaN is stored as the largest number (pytorch#178817)
lost_sign           adding zero turns -0 into 0 (pytorch#189799)
inside_a_buffer     the output starts inside a padded buffer (vllm#44574)
elsewhere           the output lies on another device (vllm#41613)
writes_neighbours   rows are scaled a column beyond their end (pytorch#139628)
one_buffer          both outputs are the same buffer (pytorch#132238)
kept_workspace      the output is a workspace that the next call reuses (pytorch#154824)
tail_unwritten      an odd last column is never written (vllm#41767)
raises_on_empty     no tokens, and the launch grid is refused (vllm#38933)
refuses_odd         widths that no vector load fits are called illegal (vllm#48324)

Without MUTANT_FAULTS=1 the same file has none of them.
"""

import os

import torch
from torch import Tensor

from ir.errors import InputError
from ir.ops import (
    fused_add_rms_norm,
    gelu_and_mul,
    rms_norm,
    rotary_embedding,
    silu_and_mul,
    static_quant_fp8,
)

FAULTY = os.environ.get("MUTANT_FAULTS") == "1"


def gated(x: Tensor) -> Tensor:
    d = x.shape[-1] // 2
    gate = x[..., :d].float()
    return (gate / (1.0 + torch.exp(-gate))).to(x.dtype) * x[..., d:]


def quantized(x: Tensor, scale: Tensor) -> Tensor:
    q = torch.clamp(x.float() / scale, -448.0, 448.0)
    return q.to(torch.float8_e4m3fn).contiguous()


@fused_add_rms_norm.register_impl("three_outputs")
def three_outputs(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    y, residual = fused_add_rms_norm.impls["native"].impl_fn(
        x, x_residual, weight, epsilon, variance_size
    )
    return (y, residual, residual.float()) if FAULTY else (y, residual)  # type: ignore[return-value]


@fused_add_rms_norm.register_impl("one_buffer")
def one_buffer(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    y, residual = fused_add_rms_norm.impls["native"].impl_fn(
        x, x_residual, weight, epsilon, variance_size
    )
    return (y, y.view(y.shape)) if FAULTY else (y, residual)


@silu_and_mul.register_impl("stays_float32")
def stays_float32(x: Tensor) -> Tensor:
    y = gated(x)
    return y.float() if FAULTY else y


@silu_and_mul.register_impl("inside_a_buffer")
def inside_a_buffer(x: Tensor) -> Tensor:
    y = gated(x)
    if not FAULTY:
        return y
    buffer = torch.empty(y.numel() + 1, dtype=y.dtype)
    inside = buffer.as_strided(y.shape, y.stride(), 1)
    return inside.copy_(y)


@silu_and_mul.register_impl("writes_neighbours")
def writes_neighbours(x: Tensor) -> Tensor:
    y = gated(x)
    end = x.storage_offset() + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    if FAULTY and x.numel() and end + 1 < x.untyped_storage().nbytes() // x.element_size():
        x.as_strided((1,), (1,), end + 1).fill_(7.0)
    return y


@rotary_embedding.register_impl("flat_heads")
def flat_heads(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> tuple[Tensor, Tensor]:
    query, key = rotary_embedding.impls["native"].impl_fn(
        positions, x_query, x_key, head_size, cos_sin_cache, is_neox, rotary_dim
    )
    return (query.flatten(1) if FAULTY else query), key


@static_quant_fp8.register_impl("nan_to_number")
def nan_to_number(x: Tensor, scale: Tensor) -> Tensor:
    number = torch.where(x.isnan(), torch.full_like(x, 448.0), x)
    return quantized(number if FAULTY else x, scale)


@static_quant_fp8.register_impl("lost_sign")
def lost_sign(x: Tensor, scale: Tensor) -> Tensor:
    return quantized(x + 0.0 if FAULTY else x, scale)


@gelu_and_mul.register_impl("elsewhere")
def elsewhere(x: Tensor, approximate: str = "none") -> Tensor:
    y = gelu_and_mul.impls["native"].impl_fn(x, approximate)
    return y.to("meta") if FAULTY else y


_workspaces: dict[object, Tensor] = {}


@gelu_and_mul.register_impl("kept_workspace", depends_on=(_workspaces,))
def kept_workspace(x: Tensor, approximate: str = "none") -> Tensor:
    y = gelu_and_mul.impls["native"].impl_fn(x, approximate)
    if not FAULTY:
        return y
    kept = _workspaces.setdefault((y.shape, y.stride(), y.dtype), torch.empty_like(y))
    return kept.copy_(y)


@gelu_and_mul.register_impl("tail_unwritten")
def tail_unwritten(x: Tensor, approximate: str = "none") -> Tensor:
    y = gelu_and_mul.impls["native"].impl_fn(x, approximate)
    even = y.shape[-1] // 2 * 2
    if not FAULTY:
        return y
    out = torch.empty_like(y)
    out[..., :even] = y[..., :even]
    return out


@rms_norm.register_impl("raises_on_empty")
def raises_on_empty(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    if FAULTY and not x.numel():
        raise RuntimeError("grid (0,) is not a launch grid")
    return rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)


@rms_norm.register_impl("refuses_odd")
def refuses_odd(
    x: Tensor, weight: Tensor | None, epsilon: float, variance_size: int | None = None
) -> Tensor:
    if FAULTY and x.shape[-1] % 2:
        raise InputError("rms_norm", "x.shape", tuple(x.shape), "an even width")
    return rms_norm.impls["native"].impl_fn(x, weight, epsilon, variance_size)
