"""What compiled code is specific to: everything a call shows except its number of tokens."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch._inductor.config as inductor_config
from torch import Tensor

from ir.compiled.layout import Ints, TokenLayout
from ir.errors import IrError

if TYPE_CHECKING:
    from ir.dispatch import Configuration
    from ir.op import IrOp

_INDEX_DTYPES = (torch.int32, torch.int64)


class Description(NamedTuple):
    """Everything but the number of tokens that one compilation is for."""

    fixed: tuple[Any, ...]
    layouts: tuple[TokenLayout, ...]


def describe(
    op: IrOp, configuration: Configuration, args: tuple[Any, ...]
) -> tuple[tuple[int, ...], Description]:
    """Which arguments carry the tokens, and what the compiled code is specific to."""
    tokens: tuple[int, ...] = ()
    first = next((args[i] for i in op.activation_indices if i < len(args)), None)
    if isinstance(first, Tensor) and first.dim() > 1:
        count = first.shape[0]
        tokens = tuple(
            i
            for i, a in enumerate(args)
            if isinstance(a, Tensor) and a.dim() and a.shape[0] == count
            # An index tensor of one number a token is one of token tensors by itself.
            if i in op.token_indices
            or (op.tokens_inferred and a.dim() == 1 and a.dtype in _INDEX_DTYPES)
        )
    fixed: list[Any] = [configuration, *environment(), op.generation]
    layouts: list[TokenLayout] = []
    for i, a in enumerate(args):
        if i in tokens:
            fixed.append((a.dtype, a.device, *a.shape[1:]))
            layouts.append(TokenLayout.of(tuple(a.shape), a.stride()))
        else:
            fixed.append(signature(a))
    return tokens, Description(tuple(fixed), tuple(layouts))


def recompiling_is_refused() -> bool:
    """Whether the caller asked torch.compile to compile nothing more."""
    try:
        eval_frame = importlib.import_module("torch._dynamo.eval_frame")
        return eval_frame._stance.stance == "fail_on_recompile"
    except (ImportError, AttributeError):
        return False


def environment() -> tuple[Any, ...]:
    """Settings that compiled code depends on and that no argument shows."""
    return (
        inductor_config.get_hash(),  # type: ignore[attr-defined]
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


def signature(a: Any) -> Any:
    if isinstance(a, Tensor):
        return a.shape, a.stride(), a.dtype, a.device
    if isinstance(a, float):
        # 0.0 == -0.0, and a NaN is not even equal to itself.
        return a if a and math.isfinite(a) else str(a)
    if isinstance(a, list | tuple):
        if any(isinstance(i, Tensor) for i in a):
            raise IrError(f"a list of tensors is {a!r:.80}; compiled providers take single tensors")
        return type(a), *map(signature, a)
    return type(a), a


def without_tokens(description: Description, shapes: list[Ints]) -> list[Any]:
    return [
        layout.without_tokens(shape)
        for layout, shape in zip(description.layouts, shapes, strict=True)
    ]
