"""The passes as Inductor takes them: `pre_grad` and `post_grad` custom passes with a `uuid`.

Inductor keeps compiled graphs on disk and asks each pass who it is. These passes depend on the
priorities in force, on every provider that these name, and on which inputs were donated: a graph
with `maybe_inplace` and one without look alike once functionalized, but only the one may write
its inputs.
"""

from __future__ import annotations

import functools
import hashlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch._guards import TracingContext
from torch._inductor.custom_graph_pass import CustomGraphPass

from ir.compilation.cache import ReplacementCache
from ir.compilation.clones import eliminate_clones
from ir.compilation.functionalize import functionalize
from ir.compilation.key import Unkeyable, ambient
from ir.compilation.lower import CACHE, lower
from ir.compilation.report import Report
from ir.compilation.states import state_positions
from ir.errors import RegistrationError
from ir.identity import identity
from ir.op import IrOp
from ir.state import ir_state

_DIRECTORY = Path(__file__).parent
# What the pre-grad pass found out for the post-grad one, while one compilation lasts.
_donated: weakref.WeakKeyDictionary[Any, tuple[int, ...]] = weakref.WeakKeyDictionary()


@functools.cache
def code_hash() -> str:
    """A hash of this package's code and of what it uses of `ir`."""
    files = [*sorted(_DIRECTORY.glob("*.py")), *sorted(_DIRECTORY.parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


def provider_identities() -> tuple[str, ...] | None:
    """What decides how ops are lowered here; None where a provider has no identity."""
    try:
        parts: list[str] = [torch.__version__, repr(ambient())]
    except Unkeyable:
        return None
    for name in sorted(IrOp.registry):
        for impl in IrOp.registry[name]._scope.current().impls:
            try:
                accepts = impl._supports_args
                condition = (
                    "" if accepts is None
                    else identity(accepts, fixed=(), depends_on=impl.depends_on)
                )  # fmt: skip
                parts.append(f"{name} {impl.provider} {impl.uuid()} {condition}")
                # Lowering may fix something of a handle in the graph.
                parts += impl.uses.handles(ir_state)
            except RegistrationError:
                return None
    return tuple(parts)


def donated_positions(graph: fx.Graph, flat: tuple[int, ...]) -> tuple[int, ...]:
    """Among a graph's placeholders, the donated inputs of the function that it came from.

    AOTAutograd says of each placeholder which argument it is. A base that it put in the place of
    several overlapping arguments is no argument, and is not donated.
    """
    found: list[int] = []
    placeholders = (n for n in graph.nodes if n.op == "placeholder")
    for i, node in enumerate(placeholders):
        described = node.meta.get("desc")
        if type(described).__name__ == "PlainAOTInput" and described.idx in flat:
            found.append(i)
    return tuple(found)


class FunctionalizationPass(CustomGraphPass):
    """For `pre_grad_custom_pass`."""

    def __init__(self, *, report: Report | None = None) -> None:
        self.report = report

    def __call__(self, graph: fx.Graph) -> None:
        done = functionalize(graph)
        context = TracingContext.try_get()
        if context is not None:
            _donated[context] = done.donated_inputs
        if self.report is not None:
            self.report.passes.append(done)

    def uuid(self) -> Any:
        return ("ir.functionalize", code_hash())


class LoweringPass(CustomGraphPass):
    """For `post_grad_custom_post_pass`: lowering, then clone elimination.

    donated: positions among the arguments of the compiled function; None takes what a
    FunctionalizationPass found earlier in the same compilation.
    decompositions: for what is traced; None takes Inductor's own.
    """

    def __init__(
        self,
        *,
        donated: tuple[int, ...] | None = None,
        cache: ReplacementCache | None = CACHE,
        report: Report | None = None,
        decompositions: Mapping[Any, Any] | None = None,
    ) -> None:
        self.donated = donated
        self.cache = cache
        self.report = report
        self.decompositions = decompositions

    def _given_away(self) -> tuple[int, ...]:
        if self.donated is not None:
            return self.donated
        context = TracingContext.try_get()
        return () if context is None else _donated.get(context, ())

    def __call__(self, graph: fx.Graph) -> None:
        decompositions = self.decompositions
        if decompositions is None:
            from torch._inductor.decomposition import select_decomp_table

            decompositions = select_decomp_table()
        lowered = lower(graph, cache=self.cache, decompositions=decompositions)
        if self.report is not None:
            self.report.passes.append(lowered)
            self.report.seen("lower", graph)
        donated = donated_positions(graph, self._given_away())
        clones = eliminate_clones(graph, donated=donated, states=state_positions(graph))
        if self.report is not None:
            self.report.passes.append(clones)
            self.report.seen("clones", graph)

    def uuid(self) -> Any | None:
        providers = provider_identities()
        if providers is None:
            # Nothing says whether a kept graph is still right.
            return None
        return ("ir.lower", code_hash(), self._given_away(), providers)
