"""A graph as a hash over what it computes: nodes in order, arguments, metadata, sharing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx


def structure(graph: fx.Graph) -> str:
    """16 hexadecimal digits: equal for graphs that are equal but for the names of their nodes."""
    numbers: dict[Any, int] = {}
    storages: dict[int, int] = {}
    parts: list[str] = []
    for node in graph.nodes:
        numbers[node] = len(numbers)
        origin = node.meta.get("ir_origin")
        made_by = "" if origin is None else f"{origin.op} {origin.overload} {origin.provider}"
        target = _constant(node) if node.op == "get_attr" else str(node.target)
        if node.op in ("placeholder", "output"):
            target = node.op
        arguments = _text((node.args, node.kwargs), numbers)
        parts.append(f"{target} {arguments} {_value(node.meta.get('val'), storages)} {made_by}")
    return _hash(parts)


def template_structure(template: Any) -> str:
    """The same of a traced provider, before it is written into a graph."""
    numbers: Mapping[Any, int] = {}
    parts = [
        f"{step.target} {_text((step.args, step.kwargs), numbers)} {step.layouts} "
        f"{None if step.constant is None else _bytes(step.constant)}"
        for step in template.steps
    ]
    return _hash([*parts, _text(template.result, numbers)])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _text(value: Any, numbers: Mapping[Any, int]) -> str:
    """Like ``repr``, nodes by their place; types tell 1, True and 1.0 apart."""
    if value in numbers if type(value).__name__ == "Node" else False:
        return f"%{numbers[value]}"
    if isinstance(value, list | tuple):
        inner = ",".join(_text(v, numbers) for v in value)
        return f"{type(value).__name__}({inner})"
    if isinstance(value, dict):
        return ",".join(f"{k}={_text(v, numbers)}" for k, v in value.items())
    return repr(value)


def _value(value: Any, storages: dict[int, int]) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        number = storages.setdefault(value.untyped_storage()._cdata, len(storages))
        return (
            f"{value.dtype}{tuple(value.shape)}{value.stride()}+{value.storage_offset()}"
            f"@{number} {value.device}"
        )
    if isinstance(value, list | tuple):
        return "[" + " ".join(_value(v, storages) for v in value) + "]"
    return repr(value)


def _constant(node: fx.Node) -> str:
    held: Any = node.graph.owning_module
    for part in str(node.target).split("."):
        held = getattr(held, part)
    return f"constant {_bytes(held)}"


def _bytes(tensor: Any) -> str:
    import torch

    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype}{tuple(tensor.shape)} {raw.hex()}"
