"""How many clones could go: every set of them tried on data that hides nothing.

A set may go if, without these clones, outputs have the same bytes and layout, inputs hold the same
bytes afterwards, and outputs share storage with inputs and each other as before: on three sets of
random data, where inputs begin elsewhere in their storages, and where two inputs that look alike
are one tensor. Where an input begins, and that two are views of the same memory, nobody guards:
compiled code meets both. Only clones that keep their operand's layout are asked about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from reference.dtypes import FORMATS, numpy_dtype
from reference.model import ProgramCase, Storage, Value

from .calls import run_steps
from .memory import build, observed

MOST = 8
"""Clones up to which every set is tried."""
SETS = 3
_CLONE = "aten.clone.default"
Told = tuple[Any, ...]


def clones_of(case: ProgramCase, values: list[Any]) -> tuple[int, ...]:
    """Numbers of the values of clones laid out like their operand, given all values of a run."""
    found: list[int] = []
    number = len(case.inputs)
    for step in case.steps:
        if step.target == _CLONE and isinstance(step.operands[0], Value):
            made, given = values[number], values[step.operands[0].number]
            if made.stride() == given.stride():
                found.append(number)
        number += step.results
    return tuple(found)


class Tellers:
    """Runs of the whole program that a program without some clones is held against."""

    def __init__(self, case: ProgramCase) -> None:
        self._whole = [
            (setting, given, arrays, _run(given, arrays, frozenset()))
            for setting, given, arrays in _settings(case)
        ]

    def told(self, removed: frozenset[int]) -> str:
        """Which setting tells that these clones are gone; empty where none does."""
        for setting, case, arrays, whole in self._whole:
            if _run(case, arrays, removed) != whole:
                return setting
        return ""

    def removable(self, clones: tuple[int, ...]) -> int | None:
        """The size of the largest set that nobody tells; None where there are too many."""
        if len(clones) > MOST:
            return None
        for size in range(len(clones), 0, -1):
            if any(not self.told(frozenset(some)) for some in combinations(clones, size)):
                return size
        return 0


def _settings(case: ProgramCase) -> Iterator[tuple[str, ProgramCase, list[np.ndarray]]]:
    for number in range(SETS):
        yield f"data set {number}", case, _data(case, number)
    moved = _elsewhere(case)
    yield "data set 0, inputs beginning elsewhere", moved, _data(moved, 0)
    for merged in _merged_inputs(case):
        yield "data set 0, two inputs being one tensor", merged, _data(merged, 0)


def _data(case: ProgramCase, number: int) -> list[np.ndarray]:
    """Contents of every storage in which no two elements are likely to be equal.

    Of both signs: on positive numbers alone relu and abs write nothing.
    """
    random = np.random.default_rng([number, len(case.storages)])
    made: list[np.ndarray] = []
    for storage in case.storages:
        if FORMATS[storage.dtype].kind == "float":
            values = random.uniform(0.5, 3.0, storage.numel)
            values *= random.choice((-1.0, 1.0), storage.numel)
            made.append(values.astype(numpy_dtype(storage.dtype)))
        else:
            # Small: an integer may be an index, or a count.
            made.append(storage.array())
    return made


def _elsewhere(case: ProgramCase) -> ProgramCase:
    """The case with every input one element further on in a longer storage.

    Not so donated ones: whoever gives memory away does not ask where a result begins in it.
    """
    given_away = {case.tensors[case.inputs[i]].storage for i in case.donated}
    longer = {
        i: Storage(s.dtype, s.numel + 1, np.concatenate([data[:1], data]).tobytes())
        for i, s in enumerate(case.storages)
        if s.numel and i not in given_away
        for data in (s.array(),)
    }
    return replace(
        case,
        storages=tuple(longer.get(i, s) for i, s in enumerate(case.storages)),
        tensors=tuple(
            replace(view, offset=view.offset + 1) if view.storage in longer else view
            for view in case.tensors
        ),
    )


def _merged_inputs(case: ProgramCase) -> Iterator[ProgramCase]:
    """The case with two inputs that look alike, neither donated, given as one tensor."""
    looks = [
        (view.shape, view.strides, case.storages[view.storage].dtype)
        for view in (case.tensors[number] for number in case.inputs)
    ]
    for i, j in combinations(range(len(case.inputs)), 2):
        apart = case.inputs[i] != case.inputs[j] and not {i, j} & set(case.donated)
        if apart and looks[i] == looks[j]:
            inputs = tuple(case.inputs[i] if k == j else n for k, n in enumerate(case.inputs))
            yield replace(case, inputs=inputs)


def _run(case: ProgramCase, arrays: list[np.ndarray], removed: frozenset[int]) -> Told | str:
    """Everything that a caller can see of a run, donated inputs apart."""
    memory = build(case, arrays)
    try:
        values = run_steps(case, memory.inputs, identity=removed)
    except (RuntimeError, TypeError, ValueError) as error:  # a step that no longer fits
        return type(error).__name__
    outputs = observed(tuple(values[n] for n in case.outputs), memory)
    donated = {case.tensors[case.inputs[i]].storage for i in case.donated}
    inputs = [after.tobytes() for i, after in enumerate(memory.after(case)) if i not in donated]
    # A donated storage is nobody's: an output in it owns it, unless another one lies there too.
    own: dict[int, int] = {}
    partition = tuple(
        o.storage if o.storage >= 0 and o.storage not in donated
        else -1 - own.setdefault(o.storage, len(own))
        for o in outputs
    )  # fmt: skip
    shown = tuple((o.dtype, o.shape, o.strides, o.offset, o.values.tobytes()) for o in outputs)
    return (shown, tuple(inputs), partition)
