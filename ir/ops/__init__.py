"""The ops of the IR, one family a module: native, fake, validation of inputs, input generator.

Those in `__all__` are functions of their arguments. The others keep state between calls, whose
names and scopes their docstrings tell (`ir.state`).
"""

from ir.ops.activation import gelu_and_mul, gelu_and_mul_sparse, silu_and_mul
from ir.ops.collectives import all_reduce as all_reduce
from ir.ops.fp8_delayed import quant_fp8_delayed as quant_fp8_delayed
from ir.ops.kv_cache import reshape_and_cache as reshape_and_cache
from ir.ops.layernorm import fused_add_rms_norm, rms_norm
from ir.ops.paged_attention import paged_decode_attention as paged_decode_attention
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
