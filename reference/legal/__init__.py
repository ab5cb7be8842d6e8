"""Which inputs each op accepts, one family a file, as ``ir/ops`` has them.

``reference/ops`` says what the ops mean; this says when they mean anything at all.
"""

from ..declaration import OpDeclaration
from . import activation, fp8_delayed, kv_cache, layernorm, quantization, rotary

DECLARATIONS: dict[str, OpDeclaration] = {
    declaration.op: declaration
    for family in (layernorm, activation, rotary, quantization, fp8_delayed, kv_cache)
    for declaration in family.DECLARATIONS
}

__all__ = ["DECLARATIONS"]
