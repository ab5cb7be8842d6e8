"""Whether a program may be replaced by another: nobody can tell their effects apart."""

from __future__ import annotations

import numpy as np

from ..dtypes import numpy_dtype
from ..layout import same_strides
from ..model import ProgramCase
from ..model.program_edits import without_step
from .expected import ExpectedProgram, ExpectedStorage, expect_program

CLONE = "aten.clone.default"


def admits(expected: ExpectedProgram, other: ExpectedProgram, case: ProgramCase) -> bool:
    """Whether a program that does what ``other`` says does what ``expected`` demands of ``case``.

    Bytes and metadata of the outputs, bytes of the storages where they are told, and who shares
    memory with whom. Both are of programs on the memory of ``case``.
    """
    pairs = zip(expected.outputs, other.outputs, strict=True)
    if not all(
        (a.dtype, a.shape, a.offset, a.content) == (b.dtype, b.shape, b.offset, b.content)
        and same_strides(a.shape, b.strides, a.strides)
        for a, b in pairs
    ):
        return False
    for storage, a, b in zip(case.storages, expected.storages, other.storages, strict=True):
        if not _same_content(a, b, storage.dtype):
            return False
    for i, output in enumerate(other.outputs):
        for j in range(i):
            shared = output.storage == other.outputs[j].storage
            if expected.sharing(i, j) == ("never" if shared else "must"):
                return False
        for storage in set(expected.inputs):
            shared = output.storage == storage
            if expected.sharing_with_storage(i, storage) == ("never" if shared else "must"):
                return False
    return True


def _same_content(a: ExpectedStorage, b: ExpectedStorage, dtype: str) -> bool:
    if a.content == b.content:
        return True
    if a.free is None:
        return False
    item = np.dtype(f"V{numpy_dtype(dtype).itemsize}")
    differs = np.frombuffer(a.content, item) != np.frombuffer(b.content, item)
    return not (differs & ~a.free).any()


def clones(case: ProgramCase) -> tuple[int, ...]:
    """The numbers of the steps that clone."""
    return tuple(i for i, step in enumerate(case.steps) if step.target == CLONE)


def without_clones(case: ProgramCase, removed: tuple[int, ...]) -> ProgramCase:
    """The program in which the originals stand for these clones (numbers of steps)."""
    for step in sorted(removed, reverse=True):
        original = next(case.steps[step].values())
        edited = without_step(case, step, {case.first_result(step): original})
        if edited is None or case.steps[step].target != CLONE:
            raise ValueError(f"step {step} calls {case.steps[step].target!r}; accepted: {CLONE!r}")
        case = edited
    return case


def may_go(case: ProgramCase, removed: tuple[int, ...], expected: ExpectedProgram) -> bool:
    """Whether these clones can go at once, on the data that ``case`` holds.

    ``expected`` is what the whole program must do; it calls no op of the IR.
    """
    found = expect_program(without_clones(case, removed))
    return isinstance(found, ExpectedProgram) and admits(expected, found, case)
