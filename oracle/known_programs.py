"""What torch.compile is known to do wrong on programs: each cause with its smallest programs.

A fingerprint tells where a disagreement shows and not why. A cause tells which programs have it,
so that what another one shows is no known disagreement. The smallest programs are among the cases
of every run: what is known shows there, or is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from reference.model import ProgramCase, ProgramOperand, ProgramStep, Storage, Value, View
from reference.programs import Asked, Machine

_COPIES = ("clone", "contiguous", "copy_", "to", "reshape", "_foreach_copy_")
"""Ops whose result Inductor may take for their operand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A known cause: ``spoils`` tells the programs that it may spoil, ``smallest`` are some.

    It is asked of a program, of the kind that shows, and of the output by its position; of any
    output where that is None.
    """

    spoils: Callable[[ProgramCase, str, int | None], bool]
    smallest: tuple[ProgramCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """One step: in which memories its operands lie, which of them it writes, and its results.

    Memories are numbers. ``copies``: its results have the elements of an operand. ``of_the_ir``:
    it may end in a copy of what it computed. ``strided``: an operand that it is given as ``out=``
    is not row-major.
    """

    given: tuple[int, ...]
    written: tuple[int, ...]
    made: tuple[int, ...]
    copies: bool
    of_the_ir: bool
    strided: bool


def _traced(case: ProgramCase) -> tuple[list[_Traced], list[int]]:
    """The steps, and the memory of each value. Empty where the reference stops at a step."""
    machine = Machine(case.storages, case.tensors, case.inputs, asked=Asked(intervals=False))
    numbers = {memory: i for i, memory in enumerate(machine.storages)}

    def lies(value: int) -> int:
        return numbers.setdefault(machine.values[value].memory, len(numbers))

    steps: list[_Traced] = []
    for step in case.steps:
        first = len(machine.values)
        if machine.apply(step) is not None:
            return [], []
        out = [v for name, o in step.keywords if name == "out" for v in _values((o,))]
        written = [*out]
        name = step.target.split(".")[1]
        if name.endswith("_"):
            operands = (*step.operands, *(o for _, o in step.keywords))
            written += _values(operands[:1])
        steps.append(
            _Traced(
                given=tuple(lies(v) for v in step.values()),
                written=tuple(lies(v) for v in written),
                made=tuple(lies(v) for v in range(first, len(machine.values))),
                copies=name in _COPIES,
                of_the_ir=step.target.startswith("ir."),
                strided=any(not _is_row_major(machine.values[v]) for v in out),
            )
        )
    return steps, [lies(v) for v in range(len(machine.values))]


def _values(operands: tuple[ProgramOperand, ...]) -> Iterator[int]:
    for operand in operands:
        if isinstance(operand, Value):
            yield operand.number
        elif isinstance(operand, tuple):
            yield from _values(operand)


def _is_row_major(tensor: object) -> bool:
    view = View(0, tensor.shape, tensor.strides, 0)  # type: ignore[attr-defined]
    return view.is_contiguous


def _writes_what_is_not_row_major(case: ProgramCase, _kind: str, _output: int | None) -> bool:
    """An ``out=`` that is not row-major."""
    return any(step.strided for step in _traced(case)[0])


def _returns_a_view_of_an_aliased_input(case: ProgramCase, _kind: str, output: int | None) -> bool:
    """Two tensors given in one storage, which is written, and an output in it."""
    lies = [case.tensors[number].storage for number in set(case.inputs)]
    steps, memories = _traced(case)
    written = {m for step in steps for m in step.written}
    return any(
        memory in written and lies.count(memory) > 1 for memory in _returned(case, memories, output)
    )


def _returns_a_copy_of_a_copy(case: ProgramCase, kind: str, output: int | None) -> bool:
    """An output that lies in a chain of copies, each of the one before, of which one is returned.

    That memory is shared spoils values only where some memory of the chain is written.
    """
    steps, memories = _traced(case)
    chains: dict[int, tuple[int, ...]] = {}
    for step in steps:
        if step.of_the_ir:
            chains.update((memory, (memory,)) for memory in step.made if memory not in step.given)
        if not step.copies:
            continue
        sources = [(m, *chains.get(m, ())) for m in step.given if m not in step.written]
        longest = max(sources, key=len, default=())
        for memory in {*step.made, *step.written} - set(step.given) | set(step.written):
            chains[memory] = max(chains.get(memory, ()), longest, key=len)
    written = {m for step in steps for m in step.written}
    deep = [{m, *chains[m]} for m in _returned(case, memories, None) if len(chains.get(m, ())) > 1]
    return any(
        memory in chain and (kind not in _OF_VALUES or chain & written)
        for chain in deep
        for memory in _returned(case, memories, output)
    )


_OF_VALUES = ("value", "route-differs")


def _returned(case: ProgramCase, memories: list[int], output: int | None) -> list[int]:
    """The memories of the outputs, or of the one at a position."""
    numbers = case.outputs if output is None else case.outputs[output : output + 1]
    return [memories[number] for number in numbers] if memories else []


def _step(target: str, *operands: ProgramOperand, **keywords: ProgramOperand) -> ProgramStep:
    return ProgramStep(f"aten.{target}", operands, tuple(keywords.items()))


def _case(
    numel: int, views: tuple[View, ...], *steps: ProgramStep, outputs: tuple[int, ...]
) -> ProgramCase:
    """A program on views of one storage that holds 1, 2, 3, ..."""
    content = np.arange(1, numel + 1, dtype=np.float32).tobytes()
    return ProgramCase(
        storages=(Storage("float32", numel, content),),
        tensors=views,
        inputs=tuple(range(len(views))),
        steps=steps,
        outputs=outputs,
    )


_V = Value
CAUSES: Mapping[str, Cause] = MappingProxyType(
    {
        "out-not-row-major": Cause(
            spoils=_writes_what_is_not_row_major,
            smallest=(
                _case(
                    6,
                    (View(0, (2, 3), (1, 2)),),
                    _step("mul.out", _V(0), 2.0, out=_V(0)),
                    outputs=(),
                ),
            ),
        ),
        "view-of-an-aliased-input": Cause(
            spoils=_returns_a_view_of_an_aliased_input,
            smallest=(
                _case(
                    3,
                    (View(0, (2,), (1,), 1), View(0, (2,), (1,))),
                    _step("add_.Tensor", _V(1), 0),
                    _step("select.int", _V(0), 0, 0),
                    outputs=(3,),
                ),
                _case(
                    6,
                    (View(0, (2, 3), (3, 1)), View(0, (1, 3), (3, 1), 3)),
                    _step("add_.Tensor", _V(0), 0),
                    _step("view.default", _V(1), (-1,)),
                    outputs=(3,),
                ),
                _case(
                    10,
                    (View(0, (2, 2, 1), (6, 3, 1)), View(0, (2, 2, 1), (6, 3, 1))),
                    _step("add_.Tensor", _V(0), 0),
                    ProgramStep("aten.chunk.default", (_V(1), 2, 1), results=2),
                    outputs=(3,),
                ),
            ),
        ),
        "copy-of-a-copy": Cause(
            spoils=_returns_a_copy_of_a_copy,
            smallest=(
                _case(
                    1,
                    (View(0, (1,), (1,)),),
                    _step("mul.Tensor", _V(0), 2),
                    _step("clone.default", _V(1)),
                    _step("clone.default", _V(2)),
                    outputs=(2, 3),
                ),
                _case(
                    2,
                    (View(0, (2,), (1,)),),
                    _step("clone.default", _V(0)),
                    _step("zero_.default", _V(0)),
                    _step("select.int", _V(1), 0, 1),
                    _step("clone.default", _V(3)),
                    outputs=(4,),
                ),
            ),
        ),
    }
)
"""The causes by name."""


def known_programs() -> tuple[ProgramCase, ...]:
    """The smallest programs of every cause."""
    return tuple(case for cause in CAUSES.values() for case in cause.smallest)
