"""The pieces of a model, compiled by our backend: with Inductor, or run as the lowered graph."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from reference.model.connector import ConnectorCase, PagedSize

RUNS = MappingProxyType({"compiled": "fx", "compiled-inductor": "inductor"})
"""The `run` option of `ir.compilation.backend` by route; another route compiles nothing."""
PIECES = ("first", "middle", "last")
VERSIONS = 64
"""Of one piece's code: a version for each dtype, number of heads and route."""


@contextlib.contextmanager
def many_versions(route: str) -> Iterator[None]:
    """Let Dynamo keep so many; what is compiled whole fails beyond eight by default."""
    if route not in RUNS:
        yield
        return
    import torch

    with torch._dynamo.config.patch(recompile_limit=VERSIONS):
        yield


def compile_pieces(model: Any, case: ConnectorCase, route: str) -> None:
    """Replace the pieces of `model` by compiled ones, where the route wants them.

    What is compiled cannot be captured on a host: Dynamo stands aside where calls are recorded.
    """
    if route in RUNS:
        pieces = _compiled(RUNS[route], case.size.layers, case.size.heads, case.dtype)
        for name, piece in pieces.items():
            setattr(model, name, piece)


@functools.lru_cache(maxsize=16)
def _compiled(run: str, layers: int, heads: int, dtype: str) -> Mapping[str, Callable[..., Any]]:
    """The pieces, for any number of rows: what lies between attentions knows no cache."""
    import torch

    from ir.compilation import backend

    from .model import whole_number_model

    size = PagedSize(layers=layers, heads=heads)
    owner = whole_number_model(
        ConnectorCase(size=size, connector="none", mode="eager", dtype=dtype, events=())
    )
    return {
        name: torch.compile(
            getattr(owner, name),
            backend=backend,
            fullgraph=True,
            dynamic=True,
            options={"run": run},
        )
        for name in PIECES
    }
