"""A case's function compiled, and how often what was compiled has run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oracle.judges.programs_stock import same_failure
from reference.model.capture import CaptureCase

from .owned import Owned
from .schedule import raised


class Compiled:
    """The compiled function, given all inputs. ``runs`` counts calls of compiled graphs.

    A call may run none: where Dynamo stands aside the function is called as it is. ``stock``:
    torch compiles it without us.
    """

    def __init__(self, *, stock: bool) -> None:
        self.stock = stock
        self.runs = 0
        self.function: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any) -> Any:
        if self.function is None:
            raise ValueError("nothing is compiled; accepted: a function that was")
        return self.function(*inputs)

    def counted(self, graph: Any, inputs: Any, **how: Any) -> Callable[..., Any]:
        """A backend for ``torch.compile``."""
        from torch._dynamo.backends.debugging import aot_eager

        import ir.compilation

        run = (aot_eager if self.stock else ir.compilation.backend)(graph, inputs, **how)

        def counting(*given: Any) -> Any:
            self.runs += 1
            return run(*given)

        return counting


def compiled_form(case: CaptureCase, device: str, *, stock: bool) -> Compiled | None:
    """The body compiled by our backend, its lowered graph run node by node; warm.

    None where torch.compile without us cannot compile it either, and says so in the same words.
    """
    compiled = Compiled(stock=stock)
    try:
        compiled.function = _warm(case, device, compiled)
    except Exception as error:  # whether it is ours shows without us
        try:
            _warm(case, device, Compiled(stock=True))
        except Exception as without_us:  # any error at all: torch's own
            if same_failure(raised(error), raised(without_us)):
                return None
        raise
    return compiled


def _warm(case: CaptureCase, device: str, compiled: Compiled) -> Callable[..., Any]:
    import torch

    import ir.compilation
    from oracle.subjects.programs.compiling import body_module

    torch._dynamo.reset()
    # Not whole: where Dynamo leaves a graph, what is left runs as it is.
    module = body_module(case.body, without_us=compiled.stock)
    options: dict[str, Any] = {"cache": ir.compilation.ReplacementCache(), "run": "fx"}
    function = torch.compile(
        module.forward,
        dynamic=False,
        backend=compiled.counted,
        options=None if compiled.stock else options,
    )
    # On memory of the same look: tracing is no part of the function.
    twin = Owned(case, "warm", device)
    try:
        with torch.no_grad():
            function(*twin.tensors)
    finally:
        twin.close()
    return function
