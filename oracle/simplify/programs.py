"""How a program gets simpler: fewer steps, outputs and inputs, smaller and plainer memory, calls.

Every candidate costs less and is as legal as the program: the reference says the same kind of
thing about it, and of a refused one refuses the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from reference.declaration import Refusal
from reference.expectation import Unknown
from reference.model import ProgramCase
from reference.programs import ProgramExpectation, expect_program

from .program_calls import plainer_calls
from .program_cost import program_cost
from .program_memory import fewer_inputs, plainer_contents, plainer_memory, smaller_memory
from .program_steps import fewer_steps

__all__ = ["PROGRAM_PASSES", "program_cost"]

Pass = Callable[[ProgramCase], Iterator[ProgramCase]]


def _fewer_outputs(case: ProgramCase) -> Iterator[ProgramCase]:
    """No output, one output alone, then without one of them."""
    if case.outputs:
        yield replace(case, outputs=())
    for output in dict.fromkeys(reversed(case.outputs)):
        yield replace(case, outputs=(output,))
    for i in range(len(case.outputs)):
        yield replace(case, outputs=(*case.outputs[:i], *case.outputs[i + 1 :]))


def _kept(found: ProgramExpectation, wanted: ProgramExpectation) -> bool:
    """Whether the reference says the same kind of thing of a candidate as of the program."""
    if isinstance(wanted, Refusal | Unknown):
        return found == wanted
    return not isinstance(found, Refusal | Unknown)


def _filtered(build: Pass) -> Pass:
    def candidates(case: ProgramCase) -> Iterator[ProgramCase]:
        wanted, limit = expect_program(case), program_cost(case)
        for candidate in build(case):
            if program_cost(candidate) < limit and _kept(expect_program(candidate), wanted):
                yield candidate

    return candidates


PROGRAM_PASSES: tuple[Pass, ...] = tuple(
    _filtered(build)
    for build in (
        fewer_steps,
        _fewer_outputs,
        fewer_inputs,
        smaller_memory,
        plainer_memory,
        plainer_calls,
        plainer_contents,
    )
)
"""Kinds of simplification, the most rewarding first."""
