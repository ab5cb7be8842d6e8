"""The provider `triton` of every op: on a GPU, or interpreted where TRITON_INTERPRET is 1."""

from __future__ import annotations

from ir.kernels.triton import activation, layernorm, quantization, rotary
from ir.kernels.triton.launch import where, why_unavailable

__all__ = ["activation", "layernorm", "quantization", "rotary", "where", "why_unavailable"]
