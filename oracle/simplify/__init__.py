"""How an op case gets simpler: passes of candidates, each strictly simpler and equally legal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reference.declaration import OpDeclaration, Refusal
from reference.model import OpCase

from .cost import cost, simpler
from .forms import fewer_arguments, plainer_dtypes, plainer_memory, plainer_scalars
from .refused import smaller_refused
from .sequences import shorter_sequences
from .sizes import flatter, smaller
from .values import plainer_values

__all__ = ["PASSES", "candidates", "cost"]

Pass = Callable[[OpDeclaration, OpCase], Iterator[OpCase]]


def _smaller(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    binding = declaration.bind(case)
    if isinstance(binding, Refusal):
        yield from smaller_refused(declaration, case)
    else:
        yield from smaller(declaration, case, binding)
        yield from flatter(declaration, case, binding)


def _sequences(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    if not isinstance(declaration.bind(case), Refusal):
        yield from shorter_sequences(declaration, case)


def _values(_declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    return plainer_values(case)


_UNFILTERED: tuple[Pass, ...] = (
    # Before sizes, which alone lead nowhere while a table points to what they would leave out.
    _sequences,
    _smaller,
    fewer_arguments,
    plainer_memory,
    plainer_scalars,
    _values,
    plainer_dtypes,
)


def _filtered(build: Pass) -> Pass:
    def candidates_of(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
        binding = declaration.bind(case)
        for candidate in build(declaration, case):
            found = declaration.bind(candidate)
            same = (
                found == binding if isinstance(binding, Refusal) else not isinstance(found, Refusal)
            )
            if same and simpler(declaration, candidate, case):
                yield candidate

    return candidates_of


PASSES: tuple[Pass, ...] = tuple(_filtered(build) for build in _UNFILTERED)
"""Kinds of simplification, the most rewarding first."""


def candidates(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """Simpler cases, best first. Legal ones stay legal, illegal ones keep their refusal."""
    for simplify in PASSES:
        yield from simplify(declaration, case)
