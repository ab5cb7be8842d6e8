"""What a subject reports of one program: outputs, memory, and what its passes did to the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .call import ObservedTensor, Raised


@dataclass(frozen=True, slots=True)
class GraphFault:
    """A broken invariant of a graph after the passes: a kind, the node, both sides as text."""

    kind: str
    node: str
    observed: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """A lowered graph. ``structure`` hashes its nodes, arguments and metadata.

    ``faults``: which invariants do not hold of it; None where nobody looked.

    ``uncached`` is the structure of the same graph lowered without a cache; None where that was
    not asked for. ``hits`` to ``bypasses`` count what the cache did for this graph. ``spurious``
    names, for each template that was traced although an equal one was kept, the factor in which
    the keys differ.
    """

    faults: tuple[GraphFault, ...] | None = None
    structure: str = ""
    uncached: str | None = None
    lowered: int = 0
    hits: int = 0
    misses: int = 0
    bypasses: Mapping[str, int] = field(default_factory=dict)
    spurious: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbed:
    """One call of the program lowered behind a call that differs from it in one factor.

    ``order`` says which came first. ``same_key``: one served the other. ``same_graph``: lowered
    without a cache both give one graph. ``warm`` and ``cold`` are the structures of the second
    call's graph, lowered on the warm cache and without one.
    """

    factor: str
    order: str
    step: int
    same_key: bool
    same_graph: bool
    warm: str
    cold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneFacts:
    """The clones of a program that keep their operand's layout, by the number of their value.

    ``removable`` is the size of the largest set whose removal nobody can tell, None where there
    are too many to try; ``told`` says who could tell that ``removed`` are gone, empty if nobody.
    ``kept`` gives the pass's reasons.
    """

    clones: tuple[int, ...]
    removed: tuple[int, ...]
    removable: int | None
    told: str = ""
    kept: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRaised:
    """A compiled route raised; ``stock`` is what torch.compile does with the program without us."""

    route: str
    raised: Raised
    stock: ProgramReturned | Raised


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPerturbed:
    """A call of the program was lowered beside its neighbours; the program itself was not run."""

    route: str
    perturbed: tuple[Perturbed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramReturned:
    """The program returned.

    ``route`` is the one that was driven. ``inputs_after`` are the case's storages after it, whole.
    ``seen`` holds, by value number, what the ops of the IR returned, as it was before any later
    step. ``reached``: for each output, what changes when it is written: ``output N``,
    ``storage N``. ``eager`` holds the outputs of the same program run step by step in torch.
    ``exact``: this route must give the bits of ``eager`` even behind ops of the IR. ``stock``: what
    torch.compile does with the program without us, asked where a compiled route differs from eager.
    """

    route: str
    outputs: tuple[ObservedTensor, ...]
    inputs_after: tuple[np.ndarray, ...]
    seen: Mapping[int, ObservedTensor] = field(default_factory=dict)
    reached: tuple[tuple[str, ...], ...] = ()
    eager: tuple[ObservedTensor, ...] | None = None
    exact: bool = True
    graph: GraphFacts | None = None
    clones: CloneFacts | None = None
    stock: ProgramReturned | Raised | None = None
