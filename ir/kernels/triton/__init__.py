"""The provider `triton` of every op: on a GPU, or interpreted where TRITON_INTERPRET is 1."""

from __future__ import annotations

from ir.kernels.triton import (
    activation,
    fp8_delayed,
    kv_cache,
    layernorm,
    paged_attention,
    quantization,
    rotary,
)
from ir.kernels.triton.launch import where, why_unavailable

__all__ = [
    "activation",
    "fp8_delayed",
    "kv_cache",
    "layernorm",
    "paged_attention",
    "quantization",
    "rotary",
    "where",
    "why_unavailable",
]
