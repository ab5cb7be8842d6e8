"""A case of the program kind: straight-line operations on tensors that may share memory.

    storages   memory                      0: float32[12]     1: bfloat16[6]
    tensors    views onto them             t0 = View(0, ...)  t1 = View(0, ...)  t2 = View(1, ...)
    inputs     numbers of tensors          (0, 1, 1)          the third is the second, given again
    values     0 1 2 are the inputs; the results of the steps follow, in order
    steps      3 = aten.clone.default(0);  4, 5 = aten.split.Tensor(3, 2);  ...
    outputs    numbers of values           (4, 4, 0)          may repeat, may be inputs

Two tensors with equal views are two objects over the same elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .case import Plain
from .storage import Storage, View


@dataclass(frozen=True, slots=True)
class Value:
    """An operand: the value of that number."""

    number: int


@dataclass(frozen=True, slots=True)
class Name:
    """An operand: a dtype or memory format by torch's name, such as ``float16``."""

    name: str


ProgramOperand: TypeAlias = "Value | Name | Plain | tuple[ProgramOperand, ...]"


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """One call. ``target`` names one overload: ``aten.add_.Tensor``, ``ir.rms_norm.maybe_inplace``.

    ``results`` counts the tensors it returns, in a list or alone; each gets the next value number.
    What writes an operand returns it again (or, where ``results`` is 0, returns nothing).
    """

    target: str
    operands: tuple[ProgramOperand, ...] = ()
    keywords: tuple[tuple[str, ProgramOperand], ...] = ()
    results: int = 1

    def values(self) -> Iterator[int]:
        """The numbers of the values it takes, in order, those in lists included."""
        yield from value_numbers(self.operands)
        for _, operand in self.keywords:
            yield from value_numbers((operand,))


def value_numbers(operands: tuple[ProgramOperand, ...]) -> Iterator[int]:
    """The numbers of the values among operands and the lists in them, in order."""
    for operand in operands:
        if isinstance(operand, Value):
            yield operand.number
        elif isinstance(operand, tuple):
            yield from value_numbers(operand)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCase:
    """A straight-line program and the memory it starts from.

    ``inputs`` are numbers of ``tensors``; one number twice is one tensor object given twice.
    ``donated`` are positions among ``inputs``: their content after the call is nobody's concern,
    and they share memory with no other input. ``outputs`` are value numbers.
    """

    storages: tuple[Storage, ...]
    tensors: tuple[View, ...]
    inputs: tuple[int, ...]
    steps: tuple[ProgramStep, ...]
    outputs: tuple[int, ...]
    donated: tuple[int, ...] = ()

    @property
    def op(self) -> str:
        return "program"

    @property
    def values(self) -> int:
        """How many values there are: inputs and results."""
        return len(self.inputs) + sum(step.results for step in self.steps)

    def first_result(self, step: int) -> int:
        """The number of the first value that step number ``step`` makes."""
        return len(self.inputs) + sum(s.results for s in self.steps[:step])

    def input_view(self, position: int) -> View:
        """The view that input number ``position`` is."""
        return self.tensors[self.inputs[position]]

    def arrays(self) -> list[np.ndarray]:
        """Fresh storage arrays, one per storage: the memory before the call."""
        return [storage.array() for storage in self.storages]

    @property
    def largest_input(self) -> int:
        """Elements of the largest tensor (0 where there is none)."""
        return max((view.numel for view in self.tensors), default=0)
