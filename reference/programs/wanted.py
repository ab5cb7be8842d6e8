"""Which elements of what ops of the IR return anybody reads: a program gone through backwards.

Element by element the bytes that are read later are known at each step: at the end those of the
outputs and of the storages, whatever was given away left out. A step that changes none of them
does nothing; one that does reads its operands, whole.

    after the last step    outputs, storages
    y = zero_(v)           what v covers is read no more: zeros came before every reader
    v = ir.rms_norm(u)     the elements of v that are read now are wanted of the op; if any is,
                           u and the weight are read
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np

from ..contract import contract_for
from ..legal import DECLARATIONS
from ..model import ProgramCase
from .arguments import Arguments, Held
from .ir_calls import ir_parameters, split_target
from .machine import Machine
from .memory import Memory, Tensor
from .stateful import STATEFUL
from .vocabulary import ATEN, RENEWING


def wanted_elements(case: ProgramCase, machine: Machine) -> dict[int, np.ndarray]:
    """For each value that an op of the IR returned, by number, which of its elements are read.

    ``machine`` has run all of ``case``. Of a call whose outputs nobody reads none is.
    """
    read = _Read(case, machine)
    found: dict[int, np.ndarray] = {}
    contracts = {call.step: call.contract for call in machine.calls}
    first = len(machine.values)
    for number, step in reversed(list(enumerate(case.steps))):
        first -= step.results
        results = machine.values[first : first + step.results]
        target = ATEN.get(step.target) or STATEFUL.get(step.target)
        if target is not None:
            a = target.parameters.bind(step, machine.values)
            read.before(a, results, target.writes, renews=step.target in RENEWING)
            continue
        call = split_target(step.target)
        if call is None:  # a machine that has run knows every target
            raise ValueError(f"{step.target!r} was not run")
        a = ir_parameters(call[0]).bind(step, machine.values)
        needs = _needs(call[0].op, contracts[number])
        for k, (names, result) in enumerate(zip(needs, results, strict=True), first):
            found[k] = read.of(result)
            if found[k].any():
                read.add(a.given[name] for name in names)
    return found


class _Read:
    """Per storage, which elements are read after the step that is looked at."""

    def __init__(self, case: ProgramCase, machine: Machine) -> None:
        self.masks: dict[Memory, np.ndarray] = {}
        for memory in machine.storages:
            kept = np.ones(len(memory.array), np.bool_)
            self.masks[memory] = kept if memory.lost is None else ~memory.lost
        for position in case.donated:
            self._window(machine.values[position])[...] = False
        self.add(machine.values[number] for number in case.outputs)

    def _window(self, tensor: Tensor) -> np.ndarray:
        memory = tensor.memory
        if memory not in self.masks:
            self.masks[memory] = np.zeros(len(memory.array), np.bool_)
        return tensor.window(self.masks[memory])

    def of(self, tensor: Tensor) -> np.ndarray:
        return self._window(tensor).copy()

    def add(self, operands: Iterable[Held]) -> None:
        for tensor in _tensors(operands):
            self._window(tensor)[...] = True

    def before(self, a: Arguments, results: list[Tensor], writes: str, *, renews: bool) -> None:
        """Go back over a step of ``aten``."""
        if writes:
            changed = [*_tensors([a.given[writes]]), *results]
        else:
            held = {t.memory for t in _tensors(a.given.values())}
            changed = [r for r in results if r.memory not in held]
        if not any(self._window(t).any() for t in changed):
            return
        if renews:
            # A list that is written is not returned again; what is returned may have been resized.
            for tensor in results or changed:
                self._window(tensor)[...] = False
        self.add(o for name, o in a.given.items() if not (renews and name == writes))


def _tensors(operands: Iterable[Held]) -> Iterator[Tensor]:
    for operand in operands:
        if isinstance(operand, Tensor):
            yield operand
        elif isinstance(operand, tuple):
            yield from _tensors(operand)


@functools.cache
def _needs(op: str, contract_name: str) -> tuple[frozenset[str], ...]:
    """For each output the parameters that it is made of, as the op's contract has it."""
    declaration, contract = DECLARATIONS[op], contract_for(op, contract_name)
    parameters = frozenset(spec.name for spec in declaration.parameters)
    of: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in parameters}
    for step in contract.steps:
        inputs = (*step.operands, *([step.needs] if step.needs else ()))
        of[step.name] = frozenset().union(*(of.get(n, frozenset()) for n in inputs)) & parameters
    return tuple(of[contract.outputs[spec.name]] for spec in declaration.outputs)
