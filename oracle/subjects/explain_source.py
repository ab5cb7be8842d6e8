"""A graph as a Python file that can be read, run, and given to ``irverify explain`` again."""

from __future__ import annotations

from typing import Any

_HEADER = '''"""The graph {stage}. `irverify explain` takes this file as it takes a model."""

from math import inf, nan  # noqa: F401

import torch
from torch import device  # noqa: F401

import ir.ops  # noqa: F401


class Graph(torch.nn.Module):
'''
_AFTER = {
    "captured": "as captured",
    "functionalize": "after functionalize",
    "traced": "as AOTAutograd traced it",
    "lower": "after lower",
    "clones": "after clones",
}


def source_of(graph: Any, stage: str) -> str:
    """The file's text. Tensors that the graph holds are made empty, of the same look."""
    code = graph.python_code("self", verbose=False, include_stride=False).src
    body = "".join(f"    {line}\n" if line.strip() else "" for line in code.splitlines())
    holds = [
        f"        self.{node.target} = {_empty(node.meta['val'])}\n"
        for node in graph.nodes
        if node.op == "get_attr" and "val" in node.meta and "." not in str(node.target)
    ]
    init = (
        f"    def __init__(self):\n        super().__init__()\n{''.join(holds)}\n" if holds else ""
    )
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    given = [n.meta.get("val", n.meta.get("example_value")) for n in placeholders]
    inputs = "".join(
        f"    {_empty(v)},  # {n.name}\n" for n, v in zip(placeholders, given, strict=True)
    )
    made = f"\nmodel = Graph()\ninputs = (\n{inputs})\n"
    return _HEADER.format(stage=_AFTER[stage]) + init + body + made


def _empty(value: Any) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return repr(value)
    shape, strides = ([int(n) for n in part] for part in (value.shape, value.stride()))
    return f"torch.empty_strided({shape}, {strides}, dtype={value.dtype}, device='{value.device}')"
