"""A case's function compiled by our backend, and how often what was compiled has run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reference.model.capture import CaptureCase

from .owned import Owned


class Compiled:
    """The compiled function, given all inputs. ``runs`` counts calls of compiled graphs.

    A call may run none: where Dynamo stands aside the function is called as it is.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.function: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any) -> Any:
        if self.function is None:
            raise ValueError("nothing is compiled; accepted: a function that was")
        return self.function(*inputs)

    def counted(self, graph: Any, inputs: Any, **how: Any) -> Callable[..., Any]:
        """Our backend, for ``torch.compile``."""
        import ir.compilation

        run = ir.compilation.backend(graph, inputs, **how)

        def counting(*given: Any) -> Any:
            self.runs += 1
            return run(*given)

        return counting


def compiled_form(case: CaptureCase, device: str) -> Compiled | None:
    """The body compiled by our backend, its lowered graph run node by node; warm.

    None where torch.compile without us cannot compile it either.
    """
    import ir.compilation

    options = {"cache": ir.compilation.ReplacementCache(), "run": "fx"}
    compiled = Compiled()
    try:
        compiled.function = _warm(case, device, backend=compiled.counted, options=options)
    except Exception:  # whether it is ours shows without us
        try:
            _warm(case, device, backend="aot_eager", without_us=True)
        except Exception:  # any error at all: torch's own
            return None
        raise
    return compiled


def _warm(
    case: CaptureCase, device: str, *, without_us: bool = False, **how: Any
) -> Callable[..., Any]:
    import torch

    from oracle.subjects.programs.compiling import body_module

    torch._dynamo.reset()
    # Not whole: where Dynamo leaves a graph, what is left runs as it is.
    module = body_module(case.body, without_us=without_us)
    compiled = torch.compile(module.forward, dynamic=False, **how)
    # On memory of the same look: tracing is no part of the function.
    twin = Owned(case, "warm", device)
    try:
        with torch.no_grad():
            compiled(*twin.tensors)
    finally:
        twin.close()
    return compiled
