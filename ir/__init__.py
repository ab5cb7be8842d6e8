"""A functional IR for LLM inference: ops with interchangeable providers."""

from ir import ops
from ir.op import enable_torch_wrap, register_op, set_default_torch_wrap

__all__ = ["enable_torch_wrap", "ops", "register_op", "set_default_torch_wrap"]
