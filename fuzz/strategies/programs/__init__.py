"""Programs by construction: the reference is asked about every step and knows what each means."""

from __future__ import annotations

from reference.model import ProgramCase
from reference.programs import ExpectedProgram, expect_program
from reference.programs.removal import clones, may_go

from ...chooser import Chooser
from .families import FAMILIES, Family, copied_over, needed, temporaries
from .lowering import FACTORS, lowering, lowering_pair

__all__ = [
    "FACTORS",
    "FAMILIES",
    "copied_over_case",
    "has_removable_clone",
    "lowering_case",
    "lowering_pair",
    "needed_clones_case",
    "program_case",
    "removable_clone_case",
]

_TRIES = 12


def program_case(chooser: Chooser, *, family: str | None = None) -> ProgramCase:
    """A program that the reference neither refuses nor is unknown about.

    ``family`` is a name in ``FAMILIES``; drawn where None. Raises ``KeyError`` for another.
    """
    return FAMILIES[family or chooser.choose(tuple(FAMILIES))](chooser)


def lowering_case(chooser: Chooser) -> ProgramCase:
    """A program that calls one op of the IR several times, with nearly equal signatures."""
    return lowering(chooser)


def removable_clone_case(chooser: Chooser) -> ProgramCase:
    """A program with a clone that can go alone, on the data it holds."""
    return _such(
        chooser, ("temporaries", "donating", "chain", "clone-and-write"), True, temporaries
    )


def needed_clones_case(chooser: Chooser) -> ProgramCase:
    """A program with clones of which none can go alone."""
    return _such(chooser, ("needed", "needed", "aliased", "clone-and-write"), False, needed)


def copied_over_case(chooser: Chooser) -> ProgramCase:
    """A program with a functional copy onto a clone, as AOTAutograd makes of ``copy_``."""
    return copied_over(chooser)


def _such(
    chooser: Chooser, families: tuple[str, ...], removable: bool, last: Family
) -> ProgramCase:
    """The first program of the families that has, or has no, removable clone."""
    case = last(chooser)
    for _ in range(_TRIES):
        if clones(case) and has_removable_clone(case) == removable:
            return case
        case = FAMILIES[chooser.choose(families)](chooser)
    return case


def has_removable_clone(case: ProgramCase) -> bool:
    """Whether one clone can go while all others stay, on the data that ``case`` holds."""
    expected = expect_program(case)
    return isinstance(expected, ExpectedProgram) and any(
        may_go(case, (step,), expected) for step in clones(case)
    )
