"""A functional IR for LLM inference: ops with interchangeable providers.

A kernel file written for `vllm.ir` 0.33.0 registers here by changing its import alone.
"""

from ir import compiled, ops
from ir.op import enable_torch_wrap, register_op, set_default_torch_wrap
from ir.state import IrContext, ir_state, scope

__all__ = [
    "IrContext",
    "compiled",
    "enable_torch_wrap",
    "ir_state",
    "ops",
    "register_op",
    "scope",
    "set_default_torch_wrap",
]


def __getattr__(name: str) -> object:
    # The passes bring in torch's whole compiler stack: only who asks for them pays for it.
    if name == "compilation":
        import importlib

        return importlib.import_module("ir.compilation")
    raise AttributeError(f"module 'ir' has no attribute {name!r}")
