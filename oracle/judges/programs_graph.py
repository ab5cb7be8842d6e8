"""What passes did to the graph: its invariants, the cache's honesty, the clones that went."""

from __future__ import annotations

from oracle.observation.program import Perturbed, ProgramPerturbed
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable

from .programs_evidence import ProgramEvidence

GRAPH_KINDS = {
    "broken-graph": "the graph is no graph: an argument is used before it is made, or not there",
    "left-over": "an op of the IR, or auto_functionalized, is left in a lowered graph",
    "no-value": "a node has no fake value",
    "no-origin": "a node that lowering made does not say where it comes from",
    "call-changed": "a call that is not of the IR has another target or other arguments",
    "value-raises": "a fake run of the graph raises",
    "value-shared": "two nodes have one object as their fake value",
    "value-differs": "a node's fake value is not what a fake run gives",
    "guard-added": "a pass added a guard on sizes",
}


def program_graph(evidence: ProgramEvidence) -> Verdict:
    """The graph is legal after the passes: order, values, origins, nothing left over."""
    name = "program-graph"
    returned = evidence.returned
    if returned is None or returned.graph is None:
        return not_applicable(name, "no-graph")
    if returned.graph.faults is None:
        return not_applicable(name, "not-inspected")
    for fault in returned.graph.faults:
        place = Place(
            name="graph", observed=f"{fault.node}: {fault.observed}", expected=fault.expected
        )
        return disagrees(name, fault.kind, place, len(returned.graph.faults))
    return agrees(name)


def program_cache(evidence: ProgramEvidence) -> Verdict:
    """A cache gives the graph that tracing afresh gives, whatever it served before."""
    name = "program-cache"
    if isinstance(evidence.observation, ProgramPerturbed):
        return _neighbours(name, evidence.observation.perturbed)
    returned = evidence.returned
    if returned is None:
        return not_applicable(name, "no-outputs")
    graph = returned.graph
    if graph is None or graph.uncached is None:
        return not_applicable(name, "no-cache")
    if graph.structure != graph.uncached:
        place = Place(
            name="graph",
            observed=f"graph {graph.structure} on a warm cache",
            expected=f"graph {graph.uncached}, as without a cache",
        )
        kind = "cache-key-too-weak" if graph.hits else "warm-differs"
        return disagrees(name, kind, place)
    if graph.lowered and graph.hits + sum(graph.bypasses.values()) < graph.lowered:
        place = Place(
            name="cache",
            observed=f"{graph.misses} traced again of {graph.lowered}",
            expected="none: the cache has served this very graph",
        )
        return disagrees(name, "traced-again", place)
    return agrees(name)


def _neighbours(name: str, pairs: tuple[Perturbed, ...]) -> Verdict:
    for one in pairs:
        if one.warm == one.cold:
            continue
        place = Place(
            name=one.factor,
            observed=f"graph {one.warm} ({one.order})",
            expected=f"graph {one.cold}, as without a cache",
        )
        kind = "cache-key-too-weak" if one.same_key else "warm-differs"
        return disagrees(name, kind, place)
    return agrees(name) if pairs else not_applicable(name, "no-norm")


def program_clones(evidence: ProgramEvidence) -> Verdict:
    """No clone is gone whose absence random data or inputs that are one tensor would tell."""
    name = "program-clones"
    returned = evidence.returned
    if returned is None or returned.clones is None:
        return not_applicable(name, "no-clones")
    facts = returned.clones
    if not facts.clones:
        return not_applicable(name, "no-clones")
    if facts.told:
        place = Place(
            name="clones",
            observed=f"values {', '.join(map(str, facts.removed))} removed",
            expected=f"kept: {facts.told} tells",
        )
        return disagrees(name, "removed-needed", place)
    return agrees(name)
