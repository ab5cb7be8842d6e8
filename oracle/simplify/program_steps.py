"""Fewer steps: without the last ones, without one and all that use it, or with a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reference.model import ProgramCase
from reference.model.program_edits import renumbered, without_step


def fewer_steps(case: ProgramCase) -> Iterator[ProgramCase]:
    """The first steps alone, half of them first; then each step left out, the last one first."""
    count = len(case.steps)
    for kept in dict.fromkeys((count // 2, count - count // 4, count - 1)):
        if kept < count:
            yield without_steps(case, set(range(kept, count)))
    for step in reversed(range(count)):
        yield without_steps(case, {step})
        yield from _replaced(case, step)


def without_steps(case: ProgramCase, gone: set[int]) -> ProgramCase:
    """The program without these steps, and without every step and output that uses a result."""
    dropped: set[int] = set()
    kept = []
    numbers = {i: i for i in range(len(case.inputs))}
    for i, step in enumerate(case.steps):
        first = case.first_result(i)
        made = range(first, first + step.results)
        if i in gone or any(number in dropped for number in step.values()):
            dropped.update(made)
            continue
        kept.append(renumbered(step, lambda number: numbers[number]))
        known = len(numbers)
        numbers.update({number: known + k for k, number in enumerate(made)})
    outputs = tuple(numbers[o] for o in case.outputs if o not in dropped)
    return replace(case, steps=tuple(kept), outputs=outputs)


def _replaced(case: ProgramCase, step: int) -> Iterator[ProgramCase]:
    """Without one step, a value that it takes standing for each of its results."""
    first, results = case.first_result(step), case.steps[step].results
    for number in dict.fromkeys(case.steps[step].values()):
        edited = without_step(case, step, {first + k: number for k in range(results)})
        if edited is not None:
            yield edited
