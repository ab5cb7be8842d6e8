"""What a program must do: outputs bit for bit, storages after the call, who shares memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ..declaration import Refusal
from ..expectation import Unknown
from ..model import ProgramCase
from .answers import NotKnown
from .ir_calls import Asked, ExpectedCall, Observed
from .machine import STRICT, Machine
from .memory import Memory, Tensor, stored
from .wanted import wanted_elements

Sharing: TypeAlias = Literal["must", "may", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTensor:
    """An output: metadata as eager torch gives it, bytes in index order.

    ``storage`` numbers the memory: that of the case's storages first, then fresh ones. ``shares``
    are the numbers of all storages whose memory it may be, its own among them.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    content: bytes
    storage: int
    shares: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedStorage:
    """A storage of the case after the call: its bytes, and which elements may hold anything.

    ``free`` is None where every element is told. ``given`` says that an input in it was donated
    or given away to ``maybe_inplace``: outputs may then come to lie in it.
    """

    content: bytes
    free: np.ndarray | None
    given: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedProgram:
    """``calls`` are the ops of the IR in order: their outputs must lie in these intervals.

    Everything else follows from the outputs that were observed of those calls; where none were
    given, from some admitted values, and only metadata then mean anything. ``wanted``: of each
    value that a call returned, by number, which elements anybody reads.
    """

    outputs: tuple[ExpectedTensor, ...]
    storages: tuple[ExpectedStorage, ...]
    inputs: tuple[int, ...]
    calls: tuple[ExpectedCall, ...]
    wanted: Mapping[int, np.ndarray]

    def sharing(self, i: int, j: int) -> Sharing:
        """Whether outputs number ``i`` and ``j`` share a storage.

        Of a tensor without elements nobody can tell.
        """
        a, b = self.outputs[i], self.outputs[j]
        if 0 in (*a.shape, *b.shape):
            return "may"
        if a.storage == b.storage:
            return "must"
        return "may" if a.shares & b.shares else "never"

    def sharing_with_storage(self, i: int, storage: int) -> Sharing:
        """Whether output number ``i`` lies in the case's storage of that number."""
        output = self.outputs[i]
        if 0 in output.shape:
            return "may"
        if output.storage == storage:
            return "must"
        return "may" if storage in output.shares or self.storages[storage].given else "never"


ProgramExpectation: TypeAlias = "ExpectedProgram | Refusal | Unknown"


def expect_program(
    case: ProgramCase,
    *,
    observed: Mapping[int, Observed] | None = None,
    asked: Asked = STRICT,
) -> ProgramExpectation:
    """What ``case`` must do; a Refusal names the step's target and the rule that it breaks.

    ``observed``: for each step that calls an op of the IR, by number, the outputs a subject saw.
    """
    try:
        machine = Machine(case.storages, case.tensors, case.inputs, asked=asked)
    except NotKnown as unknown:
        return Unknown(unknown.because)
    stopped = _run(machine, case, observed)
    return expectation_of(machine, case) if stopped is None else stopped


def known_calls(
    case: ProgramCase, *, observed: Mapping[int, Observed], asked: Asked = STRICT
) -> tuple[ExpectedCall, ...]:
    """The ops of the IR that follow from what was ``observed``: all before what is unknown."""
    machine = Machine(case.storages, case.tensors, case.inputs, asked=asked)
    _run(machine, case, observed)
    return tuple(machine.calls)


def _run(
    machine: Machine, case: ProgramCase, observed: Mapping[int, Observed] | None
) -> Refusal | Unknown | None:
    seen = {} if observed is None else observed
    for i, step in enumerate(case.steps):
        if (stopped := machine.apply(step, seen.get(i))) is not None:
            return stopped
    return None


def expectation_of(machine: Machine, case: ProgramCase) -> ProgramExpectation:
    """What is to be seen of ``case`` once all its steps have run."""
    outputs = [machine.values[number] for number in case.outputs]
    if any(output.is_lost for output in outputs):
        return Unknown("given-away")
    numbers = {memory: i for i, memory in enumerate(machine.storages)}
    given: set[Memory] = set()
    free = {memory: memory.lost for memory in machine.storages if memory.lost is not None}
    for position in case.donated:
        tensor = machine.values[position]
        mask = free.get(tensor.memory, np.zeros(len(tensor.memory.array), np.bool_)).copy()
        tensor.window(mask)[...] = True
        free[tensor.memory] = mask
        given.add(tensor.memory)
    for i in range(len(case.inputs)):
        if machine.values[i].is_lost:
            given.add(machine.values[i].memory)
    return ExpectedProgram(
        outputs=tuple(_output(tensor, numbers) for tensor in outputs),
        storages=tuple(
            ExpectedStorage(content=m.content(), free=free.get(m), given=m in given)
            for m in machine.storages
        ),
        inputs=tuple(case.input_view(i).storage for i in range(len(case.inputs))),
        calls=tuple(machine.calls),
        wanted=wanted_elements(case, machine) if machine.calls else {},
    )


def _output(tensor: Tensor, numbers: dict[Memory, int]) -> ExpectedTensor:
    storage = numbers.setdefault(tensor.memory, len(numbers))
    shares = frozenset(numbers.setdefault(m, len(numbers)) for m in tensor.memory.shares)
    return ExpectedTensor(
        dtype=tensor.dtype,
        shape=tensor.shape,
        strides=tensor.strides,
        offset=tensor.offset,
        content=stored(tensor.read(), tensor.dtype),
        storage=storage,
        shares=shares,
    )
