"""The ops of the IR, one family a module: native, fake, validation of inputs, input generator."""

from ir.ops.activation import gelu_and_mul, gelu_and_mul_sparse, silu_and_mul
from ir.ops.layernorm import fused_add_rms_norm, rms_norm
from ir.ops.quantization import (
    dynamic_per_token_quant_fp8,
    per_token_group_quant_fp8,
    static_quant_fp8,
)
from ir.ops.rotary import rotary_embedding

__all__ = [
    "dynamic_per_token_quant_fp8",
    "fused_add_rms_norm",
    "gelu_and_mul",
    "gelu_and_mul_sparse",
    "per_token_group_quant_fp8",
    "rms_norm",
    "rotary_embedding",
    "silu_and_mul",
    "static_quant_fp8",
]
