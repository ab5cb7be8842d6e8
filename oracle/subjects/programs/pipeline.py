"""The passes of ``ir.compilation`` on a program's graph, and what they did to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from oracle.observation.program import GraphFacts
from reference.model import ProgramCase

from .caching import recording_cache
from .graph import ProgramGraph, program_graph
from .invariants import graph_faults, snapshot
from .structure import structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Piped:
    """A graph after the passes, with what is known of it."""

    graph: ProgramGraph
    facts: GraphFacts
    removed: frozenset[int]
    """Values of clones that are gone."""
    kept: tuple[tuple[int, str], ...]


def piped(
    case: ProgramCase,
    *,
    cache: Any,
    blind: bool = False,
    compare: bool = False,
    inspect: bool = False,
) -> Piped:
    """Lower the program's graph through ``cache``, then eliminate clones.

    compare: lower another copy without a cache, for its structure. inspect: check invariants.
    """
    from ir.compilation import eliminate_clones, lower

    graph = program_graph(case, blind=blind)
    before = snapshot(graph)
    counts = cache.statistics if cache is not None else None
    lowered = lower(graph.module.graph, cache=cache)
    shape = structure(graph.module.graph)
    clones = eliminate_clones(graph.module.graph, donated=case.donated)
    uncached = None
    if compare:
        fresh = program_graph(case, blind=blind)
        lower(fresh.module.graph, cache=None)
        uncached = structure(fresh.module.graph)
    sources = Counter(node.source for node in lowered.nodes)
    facts = GraphFacts(
        faults=graph_faults(graph, before, lowered=True) if inspect else None,
        structure=shape,
        uncached=uncached,
        lowered=len(lowered.nodes),
        hits=sources["hit"],
        misses=sources["miss"],
        bypasses={s: n for s, n in sources.items() if s.startswith("bypass")},
        spurious=tuple(getattr(cache, "spurious", ())) if counts is not None else (),
    )
    names = {node.name: number for number, node in enumerate(graph.nodes)}
    return Piped(
        graph=graph,
        facts=facts,
        removed=frozenset(names[n] for n in clones.removed if n in names),
        kept=tuple((names[k.node], k.reason) for k in clones.kept if k.node in names),
    )


def warmed(case: ProgramCase, *, blind: bool = False) -> Any:
    """A cache that has served the program once."""
    from ir.compilation import lower

    cache = recording_cache()
    lower(program_graph(case, blind=blind).module.graph, cache=cache)
    return cache
