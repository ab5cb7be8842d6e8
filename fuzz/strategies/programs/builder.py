"""A program in the making: every step goes through the reference, which keeps what it accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference.model import (
    ProgramCase,
    ProgramOperand,
    ProgramStep,
    Storage,
    View,
)
from reference.programs import METADATA_ONLY, Machine
from reference.programs.memory import Tensor

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
        """Append a call if the reference accepts it. Numbers of its results, which may be none."""
        step = ProgramStep(target, operands, tuple(keywords.items()), results)
        first = len(self.machine.values)
        if self.machine.apply(step) is not None:
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
        return ProgramCase(
            storages=self.storages,
            tensors=self.tensors,
            inputs=self.inputs,
            steps=tuple(self.steps),
            outputs=tuple(outputs),
            donated=self.donated,
        )


def is_float(tensor: Tensor) -> bool:
    """Whether arithmetic in floats is defined on it (fp8 is not)."""
    return tensor.dtype in ("float32", "bfloat16", "float16")
