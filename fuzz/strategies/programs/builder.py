"""A program in the making: every step goes through the reference, which keeps what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reference.model import (
    ProgramCase,
    ProgramOperand,
    ProgramStep,
    Storage,
    View,
)
from reference.model.program import value_numbers
from reference.model.program_edits import without_dead_steps
from reference.programs import ATEN, METADATA_ONLY, Machine
from reference.programs.memory import Tensor
from reference.programs.removal import CLONE

from ...chooser import Chooser


class Builder:
    """Inputs first, then steps. ``add`` gives the numbers of a step's results, () if dropped."""

    def __init__(
        self,
        chooser: Chooser,
        storages: Sequence[Storage],
        tensors: Sequence[View],
        inputs: Sequence[int],
        donated: Sequence[int] = (),
    ) -> None:
        self.chooser = chooser
        self.storages = tuple(storages)
        self.tensors = tuple(tensors)
        self.inputs = tuple(inputs)
        self.donated = tuple(donated)
        self.machine = Machine(self.storages, self.tensors, self.inputs, asked=METADATA_ONLY)
        self.steps: list[ProgramStep] = []
        self.clones: list[tuple[int, int]] = []
        """Clones made so far: value numbers of original and clone."""

    def add(
        self,
        target: str,
        /,
        *operands: ProgramOperand,
        results: int = 1,
        **keywords: ProgramOperand,
    ) -> tuple[int, ...]:
        """Append a call if the reference accepts it. Numbers of its results, which may be none.

        A write that changes nothing is not kept: nobody can tell where it went.
        """
        step = ProgramStep(target, operands, tuple(keywords.items()), results)
        values = self.machine.values
        first = len(values)
        written = [values[n].memory for n in written_values(step)]
        before = [memory.array.copy() for memory in written]
        if self.machine.apply(step) is not None:
            return ()
        if written and all(
            np.array_equal(memory.array, array)
            for memory, array in zip(written, before, strict=True)
        ):
            del values[first:]
            self.machine.steps -= 1
            return ()
        self.steps.append(step)
        return tuple(range(first, first + results))

    def accepts(
        self,
        target: str,
        /,
        *operands: ProgramOperand,
        results: int = 1,
        **keywords: ProgramOperand,
    ) -> bool:
        """As ``add``, for whether the call was kept."""
        before = len(self.steps)
        self.add(target, *operands, results=results, **keywords)
        return len(self.steps) > before

    def tensor(self, number: int) -> Tensor:
        return self.machine.values[number]

    def pick(self, fits: Callable[[Tensor], bool] | None = None) -> int | None:
        """A value that is not lost and fits; the last ones are chosen more often."""
        found = [
            i
            for i, tensor in enumerate(self.machine.values)
            if (fits is None or fits(tensor)) and not tensor.is_lost
        ]
        if not found:
            return None
        recent = found[-4:] if self.chooser.chance(0.6) else found
        return self.chooser.choose(recent)

    def program(self, outputs: Sequence[int]) -> ProgramCase:
        """The program, mostly without steps that nothing uses, as graphs are before passes run."""
        case = ProgramCase(
            storages=self.storages,
            tensors=self.tensors,
            inputs=self.inputs,
            steps=tuple(self.steps),
            outputs=tuple(outputs),
            donated=self.donated,
        )
        return without_dead_steps(case, _is_kept) if self.chooser.chance(0.9) else case


def _is_kept(step: ProgramStep) -> bool:
    """Dead clones are what is to be removed; ops of the IR and writes have effects."""
    return step.target == CLONE or step.target not in ATEN or bool(ATEN[step.target].writes)


def written_values(step: ProgramStep) -> tuple[int, ...]:
    """The numbers of the values that a call writes."""
    target = ATEN.get(step.target)
    if target is None or not target.writes:
        return ()
    written = dict(step.keywords).get(target.writes, step.operands[0] if step.operands else None)
    return tuple(value_numbers((written,)))


def is_float(tensor: Tensor) -> bool:
    """Whether arithmetic in floats is defined on it (fp8 is not)."""
    return tensor.dtype in ("float32", "bfloat16", "float16")
