"""Graphs as the passes meet them: traced with fake tensors, nothing functionalized."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

Traced = Callable[..., fx.GraphModule]


@pytest.fixture
def traced() -> Traced:
    def trace(f: Callable[..., Any], *args: torch.Tensor, dynamic: bool = False) -> fx.GraphModule:
        if dynamic:
            return make_fx(f, tracing_mode="symbolic")(*args)
        mode = FakeTensorMode()
        with mode:
            return make_fx(f)(*[mode.from_tensor(a) for a in args])

    return trace


@pytest.fixture
def run() -> Callable[..., Any]:
    def call(graph: fx.GraphModule, *args: torch.Tensor) -> Any:
        graph.graph.lint()
        graph.recompile()
        return graph(*args)

    return call
