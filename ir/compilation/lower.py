"""Every op of the IR in a graph is replaced by the traced graph of its provider."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from ir.compilation.cache import ReplacementCache
from ir.compilation.collector import without_collection
from ir.compilation.errors import LoweringError
from ir.compilation.fakes import Fakes
from ir.compilation.graphs import MISSING, flat_tensors, ir_call, subgraphs, value_of
from ir.compilation.key import Unkeyable, ambient, make_key
from ir.compilation.report import Lowered, LoweredNode
from ir.compilation.select import select
from ir.compilation.splice import splice
from ir.compilation.states import unfold
from ir.compilation.symbols import guard_count, shape_env_of
from ir.compilation.template import Template, trace
from ir.errors import RegistrationError
from ir.op import IrOp
from ir.provider import IrOpImpl
from ir.state import StateError, ir_state
from ir.state.overload import LEADING

# A node to lower, and the (op, provider) pairs whose replacements it came from.
_Pending = tuple[fx.Node, tuple[tuple[str, str], ...]]
_tables: dict[frozenset[Any], int] = {}

CACHE = ReplacementCache()
"""The cache of the process."""


def lower(
    graph: fx.Graph,
    *,
    cache: ReplacementCache | None = CACHE,
    decompositions: Mapping[Any, Any] | None = None,
) -> Lowered:
    """Replace the ops of the IR in a graph, and in the graphs it holds, by their providers.

    The graph must carry fake values (`meta["val"]`). Nodes that are not of the IR stay as they
    are. `cache=None` traces every node afresh. `decompositions`: a table of torch's, applied to
    what is traced (Inductor wants its own).
    Raises LoweringError, naming the node, where an op cannot be replaced.
    """
    return _Lowering(cache, decompositions).run(graph)


class _Lowering:
    def __init__(
        self, cache: ReplacementCache | None, decompositions: Mapping[Any, Any] | None
    ) -> None:
        self.cache = cache
        self.decompositions = decompositions
        # A small number stands for the table in keys: comparing tables costs more than a hit.
        self.table = 0
        if decompositions is not None:
            self.table = _tables.setdefault(frozenset(decompositions.items()), len(_tables) + 1)
        self.nodes: list[LoweredNode] = []
        self.fakes: Fakes | None = None
        self.unkeyable: str | None = None
        self.ambient: tuple[Hashable, ...] = ()
        try:
            self.ambient = ambient()
        except Unkeyable as refused:
            self.unkeyable = refused.reason

    def run(self, graph: fx.Graph) -> Lowered:
        before = len(graph.nodes)
        with without_collection():
            self._graph(graph, "")
        return Lowered(nodes=tuple(self.nodes), before=before, after=len(graph.nodes))

    def _graph(self, graph: fx.Graph, place: str) -> None:
        for name, module in subgraphs(graph):
            before = len(self.nodes)
            self._graph(module.graph, f"{place}{name}.")
            if len(self.nodes) != before:
                module.recompile()
        unfold(graph)
        work: list[_Pending] = [(n, ()) for n in graph.nodes if ir_call(n) is not None]
        work.reverse()
        while work:
            node, chain = work.pop()
            work += self._node(graph, node, place, chain)
        _refuse_leftovers(graph, place)

    def _node(
        self, graph: fx.Graph, node: fx.Node, place: str, chain: tuple[tuple[str, str], ...]
    ) -> list[_Pending]:
        """Lower one node; what is returned are ops of the IR that its provider called."""
        called = ir_call(node)
        if called is None:
            return []
        op, overload = called
        where = f"{place}{node.name} ({op.name}.{overload})"
        leading = LEADING if overload == "scoped" else 0
        given = (
            *node.args[:leading],
            *op.positional(tuple(node.args[leading:]), dict(node.kwargs)),
        )
        args = tuple(_value(a, where) for a in given)
        impl, declined = select(op, args[leading:])
        if overload != "scoped" and impl.uses.names(ir_state):
            raise LoweringError(
                f"{where}: provider {impl.provider!r} uses state {impl.uses.names(ir_state)}, and "
                "nothing says of which scope; accepted: graphs that torch.compile captures"
            )
        if (op.name, impl.provider) in chain:
            raise LoweringError(
                f"{where}: provider {impl.provider!r} calls its own op and would be traced "
                "without end; accepted: a priority under which the inner call has another provider"
            )
        mode = next((t.fake_mode for t in flat_tensors(args) if isinstance(t, FakeTensor)), None)
        mode = mode or getattr(value_of(node), "fake_mode", None)
        if mode is None:
            raise LoweringError(f"{where} has no fake tensor among its arguments")
        template, source, guards = self._template(op, overload, impl, args, mode, where)
        if self.fakes is None or self.fakes.mode is not mode:
            self.fakes = Fakes(mode)
        made = splice(graph, node, template, given, args, self.fakes, origin=(op, overload, impl))
        self.nodes.append(
            LoweredNode(
                node=f"{place}{node.name}",
                op=op.name,
                overload=overload,
                provider=impl.provider,
                source=source,
                declined=declined,
                guards=guards,
            )
        )
        chain = (*chain, (op.name, impl.provider))
        return [(n, chain) for n in made if ir_call(n) is not None]

    def _template(
        self, op: IrOp, overload: str, impl: IrOpImpl, args: tuple[Any, ...], mode: Any, where: str
    ) -> tuple[Template, str, tuple[str, ...]]:
        cache, key = self.cache, None
        reason = self.unkeyable
        if overload == "scoped" and not impl.uses.tensors_only(ir_state):
            # What a trace takes from a handle is fixed in it, and no key can tell handles apart.
            reason = "state-without-tensors"
        if cache is not None and reason is None:
            try:
                key = make_key(
                    impl,
                    overload,
                    args,
                    ambient=self.ambient,
                    decomposed=self.table,
                )
            except Unkeyable as refused:
                reason = refused.reason
            except RegistrationError:
                reason = "provider-without-identity"
        if cache is not None and key is not None:
            found = cache.find(op, key)
            if found is not None:
                return found, "hit", ()
        generation = op.generation
        env = shape_env_of(args)
        known = guard_count(env)
        fn = impl.impl_fn if overload == "maybe_inplace" else impl.func_impl_fn
        if overload == "scoped" and op.scoped is not None:
            fn = op.scoped.bound(impl)
        try:
            template = trace(fn, args, mode, self.decompositions)
        except (LoweringError, StateError) as error:
            raise LoweringError(f"{where}: provider {impl.provider!r}: {error}") from error
        guards: tuple[str, ...] = ()
        if env is not None and guard_count(env) != known:
            # The trace holds for some sizes alone, of which the key knows nothing.
            reason, key = "guards-on-sizes", None
            guards = tuple(str(g.expr) for g in env.guards[-3:])
        if cache is None:
            return template, "disabled", guards
        if key is None:
            cache.bypassed(reason or "unknown")
            return template, f"bypass: {reason}", guards
        cache.keep(op, key, template, generation=generation)
        return template, "miss", guards


def _value(argument: Any, where: str) -> Any:
    if isinstance(argument, fx.Node):
        value = value_of(argument)
        if value is MISSING:
            raise LoweringError(
                f"{where}: its argument {argument.name} has no value in its metadata; accepted: "
                "graphs traced with fake tensors"
            )
        return value
    if isinstance(argument, list):
        return [_value(a, where) for a in argument]
    if isinstance(argument, tuple):
        return tuple(_value(a, where) for a in argument)
    return argument


def _refuse_leftovers(graph: fx.Graph, place: str) -> None:
    left = [f"{place}{n.name} ({_named(n)})" for n in graph.nodes if _named(n) is not None]
    if left:
        raise LoweringError(
            f"not lowered: {', '.join(left)}; accepted: ops registered with ir.register_op, "
            "maybe_inplace functionalized before AOTAutograd"
        )


def _named(node: fx.Node) -> str | None:
    """The op of the IR that a node calls or, like auto_functionalized, holds."""
    if node.op != "call_function":
        return None
    target = node.target
    if isinstance(target, OpOverload):
        return str(target) if target.namespace == "ir" else None
    if isinstance(target, torch._ops.HigherOrderOperator):
        return next(
            (str(a) for a in node.args if isinstance(a, OpOverload) and a.namespace == "ir"), None
        )
    return None
