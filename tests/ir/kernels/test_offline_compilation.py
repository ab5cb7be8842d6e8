"""Every Triton kernel compiles for GPUs that are not here, and keeps its roundings there."""

import importlib.util
import os
import re

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("TRITON_INTERPRET=1: kernels are interpreted here", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ir import kernels

kernels.load()
from ir.kernels.triton import (  # noqa: E402
    activation,
    fp8_delayed,
    kv_cache,
    layernorm,
    paged_attention,
    quantization,
    rotary,
)

_META = {
    "HAS_WEIGHT": True, "HAS_BOUND": True, "IS_NEOX": True, "UE8M0": True, "ACT": "silu",
    "BLOCK": 256, "BLOCK_H": 4, "BLOCK_P": 32, "BLOCK_G": 4, "BLOCK_E": 128, "BLOCK_N": 32,
    "BLOCK_D": 128, "PARTS": 4, "LENGTH": 16,
}  # fmt: skip
_KERNELS = {
    "rms_norm": (layernorm._rms_norm_kernel, {}),
    "fused_add_rms_norm": (layernorm._fused_add_rms_norm_kernel, {}),
    "silu_and_mul": (activation._gated_kernel, {"ACT": "silu"}),
    "gelu_and_mul": (activation._gated_kernel, {"ACT": "none"}),
    "gelu_and_mul tanh": (activation._gated_kernel, {"ACT": "tanh"}),
    "gelu_and_mul_sparse": (activation._sparse_kernel, {"ACT": "none"}),
    "rotary_embedding": (rotary._rotary_kernel, {}),
    "rotary_embedding pairs": (rotary._rotary_kernel, {"IS_NEOX": False}),
    "static_quant_fp8": (quantization._static_kernel, {}),
    "dynamic_per_token_quant_fp8": (quantization._token_kernel, {}),
    "per_token_group_quant_fp8": (quantization._group_kernel, {}),
    "quant_fp8_delayed scale": (fp8_delayed._scale_kernel, {"BLOCK": 16}),
    "quant_fp8_delayed": (fp8_delayed._quantize_kernel, {}),
    "quant_fp8_delayed record": (fp8_delayed._record_kernel, {}),
    "reshape_and_cache": (kv_cache._write_kernel, {}),
    "paged_decode_attention part": (paged_attention._part_kernel, {"BLOCK_N": 8}),
    "paged_decode_attention combine": (paged_attention._combine_kernel, {"BLOCK_P": 4}),
}
_FLOAT_ARGUMENTS = {"epsilon", "std_multiplier", "floor", "softmax_scale"}
_FLOAT32_POINTERS = {"scale", "scale_ub", "history", "room"}
_INTEGER_POINTERS = {
    "positions": "*i64", "slot_mapping": "*i64", "following": "*i64", "block_tables": "*i32",
    "seq_lens": "*i32", "seen": "*i32",
}  # fmt: skip
_ELEMENTS = {
    "x", "y", "weight", "residual", "cache", "query", "key", "value", "keys", "values", "out",
}  # fmt: skip


def _type_of(name, kernel, dtype):
    if name in _META:
        return "constexpr"
    if name in _FLOAT_ARGUMENTS:
        return "fp32"
    if name in _FLOAT32_POINTERS:
        return "*fp32"
    if name in _INTEGER_POINTERS:
        return _INTEGER_POINTERS[name]
    if name == "y" and kernel.fn.__module__.endswith(("quantization", "fp8_delayed")):
        return "*u8"
    if kernel is kv_cache._write_kernel and name in _ELEMENTS:
        return {"fp32": "*i32", "bf16": "*i16"}[dtype]
    return f"*{dtype}" if name in _ELEMENTS else "i32"


def _compile(name, dtype, target):
    kernel, chosen = _KERNELS[name]
    signature = {n: _type_of(n, kernel, dtype) for n in kernel.arg_names}
    constants = {n: {**_META, **chosen}[n] for n, kind in signature.items() if kind == "constexpr"}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=target, options={"enable_fp_fusion": False}).asm


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", _KERNELS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kernel_compiles_for_nvidia_without_contraction_or_approximate_division(name, dtype):
    ptx = _compile(name, dtype, GPUTarget("cuda", 80, 32))["ptx"]
    arithmetic = set(re.findall(r"\b(?:fma|div|sqrt|rsqrt|ex2|rcp)\.[a-z0-9.]*f32", ptx))
    # erf is a function of NVIDIA's library, made of fused operations.
    has_erf = _KERNELS[name][1].get("ACT") == "none"
    allowed = {"fma.rn.f32", "fma.rn.ftz.f32", "ex2.approx.ftz.f32"} if has_erf else set()
    assert arithmetic - {"div.rn.f32", "sqrt.rn.f32"} <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("name", _KERNELS)
def test_kernel_compiles_for_amd(name):
    assert _compile(name, "bf16", GPUTarget("hip", "gfx942", 64))["hsaco"]
