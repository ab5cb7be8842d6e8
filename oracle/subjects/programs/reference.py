"""The reference dressed as a subject, for programs: what it expects is what it observes."""

from __future__ import annotations

import numpy as np

from oracle.observation import ObservedTensor, Raised, Unavailable
from oracle.observation.program import ProgramReturned
from oracle.subject import Provider
from reference.declaration import Refusal
from reference.dtypes import encode, numpy_dtype
from reference.expectation import Unknown
from reference.model import ProgramCase, View, touched_elements
from reference.programs import ExpectedProgram, ExpectedTensor, expect_program

ROUTE = "reference"
PROVIDERS = (Provider(op="program", name="1", routes=(ROUTE,)),)


def observe(case: ProgramCase) -> ProgramReturned | Raised | Unavailable:
    """What the reference expects of the program, as an observation."""
    expected = expect_program(case)
    if isinstance(expected, Refusal):
        return Raised("RuntimeError", (), f"{expected.argument} {expected.rule}")
    if isinstance(expected, Unknown):
        return Unavailable(expected.because)
    outputs = tuple(_output(o, expected) for o in expected.outputs)
    return ProgramReturned(
        route=ROUTE,
        outputs=outputs,
        inputs_after=tuple(
            np.frombuffer(after.content, numpy_dtype(storage.dtype)).copy()
            for storage, after in zip(case.storages, expected.storages, strict=True)
        ),
        seen=_seen(case, expected),
        reached=tuple(_reached(i, expected) for i in range(len(expected.outputs))),
        eager=outputs,
    )


def _output(wanted: ExpectedTensor, expected: ExpectedProgram) -> ObservedTensor:
    given = len(expected.storages)
    return ObservedTensor(
        dtype=wanted.dtype,
        shape=wanted.shape,
        strides=wanted.strides,
        offset=wanted.offset,
        device="cpu",
        storage=wanted.storage if wanted.storage < given else given - 1 - wanted.storage,
        values=np.frombuffer(wanted.content, numpy_dtype(wanted.dtype)).reshape(wanted.shape),
    )


def _seen(case: ProgramCase, expected: ExpectedProgram) -> dict[int, ObservedTensor]:
    """One admitted value of each element that an op of the IR returns."""
    found: dict[int, ObservedTensor] = {}
    for call in expected.calls:
        for number, output in enumerate(call.outputs, case.first_result(call.step)):
            interval = output.interval
            values = np.where(np.isfinite(interval.lo), interval.lo, interval.hi)
            found[number] = ObservedTensor(
                dtype=output.dtype,
                shape=output.shape,
                strides=output.strides or (),
                offset=0,
                device="cpu",
                storage=-1,
                values=encode(values, output.dtype).reshape(output.shape),
            )
    return found


def _reached(i: int, expected: ExpectedProgram) -> tuple[str, ...]:
    one = expected.outputs[i]
    places = _places(one)
    found = [
        f"output {k}"
        for k, other in enumerate(expected.outputs)
        if k != i and other.storage == one.storage and places & _places(other)
    ]
    if places and one.storage < len(expected.storages):
        found.append(f"storage {one.storage}")
    return tuple(found)


def _places(tensor: ExpectedTensor) -> set[int]:
    return set(touched_elements(View(0, tensor.shape, tensor.strides, tensor.offset)).tolist())
