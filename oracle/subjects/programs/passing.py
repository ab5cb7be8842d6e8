"""One pass by itself on a program's graph: our clone elimination, or a user's own."""

from __future__ import annotations

from oracle.observation.program import CloneFacts, GraphFacts
from reference.model import ProgramCase

from .calls import run_steps
from .graph import ProgramGraph, program_graph
from .invariants import graph_faults, snapshot
from .memory import build
from .optimum import Tellers, clones_of
from .structure import structure


def passed(case: ProgramCase, name: str) -> tuple[ProgramGraph, GraphFacts, CloneFacts]:
    """The graph after the registered pass ``name`` (empty: ours), and which clones are gone."""
    from ir.compilation import eliminate_clones
    from ir.compilation.registry import PASSES

    graph = program_graph(case)
    before = snapshot(graph)
    kept: tuple[tuple[int, str], ...] = ()
    names = {node.name: number for number, node in enumerate(graph.nodes)}
    if name:
        PASSES[name](graph.module.graph)
    else:
        done = eliminate_clones(graph.module.graph, donated=case.donated)
        kept = tuple((names[k.node], k.reason) for k in done.kept if k.node in names)
    facts = GraphFacts(
        faults=graph_faults(graph, before, lowered=False),
        structure=structure(graph.module.graph),
    )
    left = {node.name for node in graph.module.graph.nodes}
    gone = frozenset(number for node, number in names.items() if node not in left)
    return graph, facts, _clones(case, gone, kept, own=not name)


def _clones(
    case: ProgramCase, gone: frozenset[int], kept: tuple[tuple[int, str], ...], *, own: bool
) -> CloneFacts:
    clones = clones_of(case, run_steps(case, build(case).inputs))
    if not clones:
        return CloneFacts(clones=(), removed=(), removable=None)
    tellers = Tellers(case)
    removed = tuple(n for n in clones if n in gone)
    return CloneFacts(
        clones=clones,
        removed=removed,
        # What a user's pass leaves is the user's choice.
        removable=tellers.removable(clones) if own else None,
        told=tellers.told(frozenset(removed)) if removed else "",
        kept=tuple((n, why) for n, why in kept if n in clones),
    )
