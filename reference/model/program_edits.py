"""Programs with something left out or put elsewhere, their value numbers put right again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from .program import ProgramCase, ProgramOperand, ProgramStep, Value


def renumbered(step: ProgramStep, number: Callable[[int], int]) -> ProgramStep:
    """The step with every value number put through ``number``."""

    def operand(found: ProgramOperand) -> ProgramOperand:
        if isinstance(found, Value):
            return Value(number(found.number))
        if isinstance(found, tuple):
            return tuple(operand(item) for item in found)
        return found

    return replace(
        step,
        operands=tuple(operand(o) for o in step.operands),
        keywords=tuple((name, operand(o)) for name, o in step.keywords),
    )


def without_step(
    case: ProgramCase, step: int, stand_in: Mapping[int, int] | None = None
) -> ProgramCase | None:
    """The program without step number ``step``.

    ``stand_in`` maps its results to earlier values that take their place. None where a result
    without one is used.
    """
    first = case.first_result(step)
    gone = case.steps[step].results
    places = stand_in or {}

    def number(found: int) -> int:
        if found < first:
            return found
        return found - gone if found >= first + gone else places[found]

    try:
        later = tuple(renumbered(s, number) for s in case.steps[step + 1 :])
        outputs = tuple(number(o) for o in case.outputs)
    except KeyError:
        return None
    return replace(case, steps=(*case.steps[:step], *later), outputs=outputs)


def without_dead_steps(case: ProgramCase, kept: Callable[[ProgramStep], bool]) -> ProgramCase:
    """The program without steps whose results nothing uses, other than those ``kept`` wants."""
    for i in reversed(range(len(case.steps))):
        if not kept(case.steps[i]):
            case = without_step(case, i) or case
    return case
