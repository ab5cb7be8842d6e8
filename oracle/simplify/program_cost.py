"""How simple a program is: tuples of non-negative integers, so that shrinking always ends.

Fewer steps come first, then fewer values, less memory, plainer memory, plainer calls and values.
"""

from __future__ import annotations

import math

from reference.model import Name, ProgramCase, ProgramOperand, ProgramStep, Value, View
from reference.model.storage import contiguous_strides

from .cost import plain_rank, storage_ranks

PLAIN_TARGETS = (
    "aten.clone.default", "aten.add_.Tensor", "aten.add.Tensor", "aten.view.default",
    "aten.mul.Tensor", "aten.select.int", "aten.slice.Tensor", "aten.add.out",
)  # fmt: skip
"""The targets that say most to a reader, the plainest first; all others cost the same."""
_DTYPES = ("float32", "int64", "bool", "bfloat16", "float16")


def program_cost(case: ProgramCase) -> tuple[int, ...]:
    """The cost of a program. Only what differs in nothing else is told apart by its values."""
    return (
        len(case.steps),
        case.values,
        len(case.outputs),
        sum(math.prod(view.shape) for view in case.tensors),
        sum(len(view.shape) for view in case.tensors),
        _shared(case),
        sum(_oddness(view) for view in case.tensors),
        sum(storage.numel for storage in case.storages),
        len(case.storages) + len(case.tensors) + len(case.donated),
        sum(_dtype_cost(storage.dtype) for storage in case.storages),
        sum(len(step.keywords) for step in case.steps),
        sum(_step_cost(step) for step in case.steps) + sum(case.outputs),
        sum(int(storage_ranks(storage).sum()) for storage in case.storages),
    )


def _shared(case: ProgramCase) -> int:
    """Inputs that are a tensor or lie in a storage that an earlier one is or lies in."""
    storages = {case.tensors[number].storage for number in case.inputs}
    return len(case.inputs) - len(storages) + len(case.inputs) - len(set(case.inputs))


def _oddness(view: View) -> int:
    odd = view.strides != contiguous_strides(view.shape)
    return 1000 * odd + view.offset + sum(view.strides)


def _dtype_cost(dtype: str) -> int:
    return _DTYPES.index(dtype) if dtype in _DTYPES else len(_DTYPES)


def _step_cost(step: ProgramStep) -> int:
    known = step.target in PLAIN_TARGETS
    target = PLAIN_TARGETS.index(step.target) if known else len(PLAIN_TARGETS)
    operands = (*step.operands, *(operand for _, operand in step.keywords))
    return 10_000 * target + 100 * len(operands) + sum(map(_operand_cost, operands))


def _operand_cost(operand: ProgramOperand) -> int:
    if isinstance(operand, Value):
        return 2 + operand.number
    if isinstance(operand, Name):
        return 1 + (operand.name != "float32")
    if isinstance(operand, tuple):
        return 20 + sum(map(_operand_cost, operand))
    return plain_rank(operand)
