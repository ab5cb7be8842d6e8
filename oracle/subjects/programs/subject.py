"""Programs through the passes of ``ir.compilation``, a user's own passes, and torch.compile.

unwrapped     step by step in torch, ops of the IR straight to their providers
fx-unlowered  the graph as it is, run node by node
fx-cold       lowered through an empty replacement cache, then rid of clones
fx-warm       the same through a cache that has served the program once
fx-uncached   the same without a cache
fx-inplace    as fx-cold, by providers that write into their activations
fx-blind      as fx-cold, where the metadata does not tell which inputs share memory
fx-pass       clone elimination, or the user's pass, on the graph as it is
fx-perturbed  one call of the program beside calls that differ from it in one factor of the key
backend       torch.compile through our backend, the lowered graph run node by node
inductor      torch.compile through our backend and Inductor
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oracle.judges.programs_stock import same_run
from oracle.observation import Raised, Unavailable
from oracle.observation.program import (
    CloneFacts,
    GraphFacts,
    ProgramPerturbed,
    ProgramRaised,
    ProgramReturned,
)
from oracle.subject import Provider
from reference.model import ProgramCase

from . import stock
from .calls import unwrapped
from .driving import compiled, has_compiler, raised, returned, step_by_step
from .memory import build

OWN = "passes"
LOWERED = ("fx-cold", "fx-uncached", "fx-warm", "fx-inplace", "fx-blind")
COMPILED = ("backend", "inductor")
ROUTES = ("unwrapped", "fx-unlowered", *LOWERED, "fx-pass", "fx-perturbed", *COMPILED)
CANNOT_RUN = ("broken-graph", "value-raises")
STOCK = {"backend": "aot-eager", "inductor": "inductor"}
"""The route of torch itself that goes the way of a route of ours."""


ProgramObservation = ProgramReturned | ProgramPerturbed | ProgramRaised | Raised | Unavailable


class Programs:
    """Observes programs. Remembers the last one's cold cache, which its warm route goes on with."""

    def __init__(self) -> None:
        self._case: ProgramCase | None = None
        self._cold: dict[str, Any] = {}

    def providers(self, sources: dict[str, str]) -> tuple[Provider, ...]:
        """Our pipeline, and each registered pass; ``sources``: the files of the latter."""
        from ir.compilation.registry import PASSES

        own = Provider(op="program", name=OWN, routes=ROUTES)
        users = [
            Provider(op="program", name=name, routes=("fx-pass",), source=sources.get(name))
            for name in PASSES
        ]
        return (own, *users)

    def observe(self, case: ProgramCase, provider: str, route: str) -> ProgramObservation:
        """Run the program. What it raises is reported, never raised."""
        if route == "inductor" and not has_compiler():
            return Unavailable("no-compiler")
        if case is not self._case:
            self._case, self._cold = case, {}
        try:
            return replace(self._driven(case, provider, route), route=route)
        except Exception as error:  # what a subject raises is an observation, whatever it is
            failed = raised(error)
        if route not in COMPILED:
            return failed
        return ProgramRaised(route=route, raised=failed, stock=_stock(case, route))

    def _driven(
        self, case: ProgramCase, provider: str, route: str
    ) -> ProgramReturned | ProgramPerturbed:
        eager = self._cold.get("eager") or step_by_step(case)
        self._cold["eager"] = eager
        if route == "unwrapped":
            import ir

            with ir.enable_torch_wrap(False):
                return replace(step_by_step(case, unwrapped), eager=eager.outputs)
        if route == "fx-perturbed":
            from .perturbing import perturbed

            return ProgramPerturbed(route=route, perturbed=perturbed(case))
        if route in COMPILED:
            return self._compiled(case, route, eager)
        found = self._through_graph(case, provider, route)
        # What nothing used was not made: its place is taken by what it would have been.
        return replace(found, eager=eager.outputs, seen={**eager.seen, **found.seen})

    def _through_graph(self, case: ProgramCase, provider: str, route: str) -> ProgramReturned:
        from .running import run_graph

        graph, facts, clones = self._passed(case, provider, route)
        if any(fault.kind in CANNOT_RUN for fault in facts.faults or ()):
            # What is wrong is known; running it would only say so less well.
            return replace(step_by_step(case), graph=facts)
        memory = build(case)
        outputs, seen = run_graph(graph, memory.inputs)
        return replace(returned(case, memory, outputs, seen), graph=facts, clones=clones)

    def _passed(
        self, case: ProgramCase, provider: str, route: str
    ) -> tuple[Any, GraphFacts, CloneFacts | None]:
        from .caching import recording_cache
        from .graph import program_graph
        from .inplace import inplace_providers
        from .passing import passed
        from .pipeline import piped, warmed
        from .structure import structure

        match route:
            case "fx-unlowered":
                graph = program_graph(case)
                return graph, GraphFacts(structure=structure(graph.module.graph)), None
            case "fx-pass":
                return passed(case, "" if provider == OWN else provider)
            case "fx-cold":
                cache = recording_cache()
                done = piped(case, cache=cache, inspect=True)
                self._cold["cache"] = cache
            case "fx-warm":
                cache = self._cold.get("cache") or warmed(case)
                done = piped(case, cache=cache, inspect=True)
                uncached = self._cold.get("uncached") or piped(case, cache=None).facts.structure
                self._cold["uncached"] = uncached
                done = replace(done, facts=replace(done.facts, uncached=uncached, spurious=()))
            case "fx-uncached":
                done = piped(case, cache=None)
                self._cold["uncached"] = done.facts.structure
            case "fx-inplace":
                with inplace_providers():
                    done = piped(case, cache=recording_cache(), inspect=True)
            case "fx-blind":
                done = piped(case, cache=self._cold.get("cache"), blind=True, inspect=True)
                done = replace(done, facts=replace(done.facts, spurious=()))
            case _:
                raise ValueError(f"route {route!r}; accepted: {', '.join(ROUTES)}")
        return done.graph, done.facts, None

    def _compiled(self, case: ProgramCase, route: str, eager: ProgramReturned) -> ProgramReturned:
        found = compiled(case, route, eager)
        # Compiling costs: stock is asked only where there may be something to compare with it.
        return found if same_run(found, eager) else replace(found, stock=_stock(case, route))


def _stock(case: ProgramCase, route: str) -> ProgramReturned | Raised:
    """What torch.compile does with the program on the way that ``route`` takes, without us."""
    found = stock.run(case, STOCK[route])
    # Judged beside the route that it is compared with.
    return replace(found, route=route) if isinstance(found, ProgramReturned) else found
