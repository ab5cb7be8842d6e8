"""The tensors in a state's value: a tensor, or dicts, lists and tuples of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ir.state.errors import StateError


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in a value, in order. Dynamo traces this."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, dict):
        for v in value.values():
            _collect(v, found)
    elif isinstance(value, list | tuple):
        for v in value:
            _collect(v, found)


def replaced(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The value with other tensors in the places of its own."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, dict):
        return {k: replaced(v, tensors) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replaced(v, tensors) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(replaced(v, tensors) for v in value)
    return value


def shape_of(value: Any) -> Any:
    """What of a value tracing could freeze or lose: its containers and all but the tensors."""
    if isinstance(value, Tensor):
        return Tensor
    if isinstance(value, dict):
        return {k: shape_of(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [shape_of(v) for v in value]
    return value


_PLAIN = (type(None), bool, int, float, complex, str, bytes, set, frozenset)


def is_plain(value: Any) -> bool:
    """Whether a value is Python data that a trace would read once and freeze."""
    return isinstance(value, (*_PLAIN, dict, list, tuple))


def check_value(subject: str, value: Any) -> None:
    """Refuse what belongs to a model, and what only exists while something is traced."""
    if isinstance(value, torch.nn.Parameter | torch.nn.Module):
        raise StateError(
            f"{subject} is {type(value).__name__}, which is model state: it is saved and loaded "
            "with the model; accepted: implementation state, such as a buffer that may be made "
            "anew at any time"
        )
    if isinstance(value, FakeTensor):
        raise StateError(f"{subject} is a fake tensor; accepted: a tensor with data")
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise StateError(
                f"{subject} requires grad, so it is model state; accepted: a tensor that does not"
            )
        if value.layout is not torch.strided:
            raise StateError(f"{subject} has layout {value.layout}; accepted: strided")
    elif isinstance(value, dict):
        for k, v in value.items():
            check_value(f"{subject}[{k!r}]", v)
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            check_value(f"{subject}[{i}]", v)


def bytes_by_device(tensors: list[Tensor]) -> dict[str, int]:
    """Bytes of the storages that tensors lie in, each counted once, by device."""
    seen: dict[tuple[str, int], int] = {}
    for t in tensors:
        storage = t.untyped_storage()
        seen[str(t.device), storage._cdata] = storage.nbytes()
    found: dict[str, int] = {}
    for (device, _), size in seen.items():
        found[device] = found.get(device, 0) + size
    return found
