"""Plainer calls: a target that says more, fewer operands, smaller numbers, earlier values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reference.model import ProgramCase, ProgramOperand, ProgramStep, Value
from reference.programs import ATEN

_NUMBERS: tuple[int, ...] = (1, 2)


def plainer_calls(case: ProgramCase) -> Iterator[ProgramCase]:
    """Each step in turn: another target first, then its operands."""
    for i, step in enumerate(case.steps):
        for plainer in (*_targets(step), *_fewer(step), *_operands(step)):
            yield replace(case, steps=(*case.steps[:i], plainer, *case.steps[i + 1 :]))
    for i, output in enumerate(case.outputs):
        for earlier in range(output):
            yield replace(case, outputs=(*case.outputs[:i], earlier, *case.outputs[i + 1 :]))


def _targets(step: ProgramStep) -> Iterator[ProgramStep]:
    """One added to what the step writes; or, where it writes nothing, to what it takes first."""
    values = tuple(step.values())
    if not values or step.results > 1:
        return
    target = ATEN.get(step.target)
    if target is not None and target.writes and step.results == 1:
        written = dict(step.keywords).get(target.writes, Value(values[0]))
        yield ProgramStep("aten.add_.Tensor", (written, 1))
    elif step.results == 1:
        for number in values:
            yield ProgramStep("aten.clone.default", (Value(number),))
            yield ProgramStep("aten.add.Tensor", (Value(number), 1))
            yield ProgramStep("aten.view.default", (Value(number), (-1,)))


def _fewer(step: ProgramStep) -> Iterator[ProgramStep]:
    """Without one keyword, with one given by place, without the last operand, a list shorter."""
    for i, (_, operand) in enumerate(step.keywords):
        rest = (*step.keywords[:i], *step.keywords[i + 1 :])
        yield replace(step, keywords=rest)
        yield replace(step, operands=(*step.operands, operand), keywords=rest)
    if len(step.operands) > 1:
        yield replace(step, operands=step.operands[:-1])
    for i, operand in enumerate(step.operands):
        if isinstance(operand, tuple) and len(operand) > 1:
            for k in range(len(operand)):
                yield _with(step, i, (*operand[:k], *operand[k + 1 :]))


def _operands(step: ProgramStep) -> Iterator[ProgramStep]:
    for i, operand in enumerate(step.operands):
        for plainer in _plainer(operand):
            yield _with(step, i, plainer)
    for i, (name, operand) in enumerate(step.keywords):
        for plainer in _plainer(operand):
            changed = (*step.keywords[:i], (name, plainer), *step.keywords[i + 1 :])
            yield replace(step, keywords=changed)


def _plainer(operand: ProgramOperand) -> Iterator[ProgramOperand]:
    if isinstance(operand, Value):
        yield from _NUMBERS
        for number in range(operand.number):
            yield Value(number)
    elif isinstance(operand, float):
        yield from (1.0, 2.0, *_NUMBERS)
    elif isinstance(operand, int) and not isinstance(operand, bool):
        yield from (0, *_NUMBERS)
    elif isinstance(operand, tuple):
        yield (-1,)
        for k, item in enumerate(operand):
            for plainer in _plainer(item):
                yield (*operand[:k], plainer, *operand[k + 1 :])


def _with(step: ProgramStep, i: int, operand: ProgramOperand) -> ProgramStep:
    return replace(step, operands=(*step.operands[:i], operand, *step.operands[i + 1 :]))
