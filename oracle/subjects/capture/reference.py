"""The reference dressed as a subject, for captured functions."""

from __future__ import annotations

import numpy as np

from oracle.observation import ObservedTensor, Unavailable
from oracle.observation.capture import CaptureReturned, EventSeen, LedgerLine, RefusedBy
from oracle.subject import Provider
from reference.dtypes import numpy_dtype
from reference.expectation import Unknown
from reference.model.capture import CaptureCase, Replay
from reference.programs import ExpectedTensor
from reference.replays import ExpectedEvent, Refused, expect_capture

ROUTE = "reference"
PROVIDERS = (Provider(op="capture", name="1", routes=(ROUTE,)),)


def observe(case: CaptureCase) -> CaptureReturned | Unavailable:
    """What the reference expects, as an observation."""
    expected = expect_capture(case)
    if isinstance(expected, Unknown):
        return Unavailable(expected.because)
    used = sorted(expected.used | set(range(case.static)))
    return CaptureReturned(
        route=ROUTE,
        refused=_refused(expected.refused),
        # Owners have no rows: the graphs of all sizes use the same.
        ledgers=(tuple(_line(case, position) for position in used),) * len(case.sizes or (0,)),
        memory=_memory(case, expected.memory),
        events=tuple(
            _event(case, event, wanted)
            for event, wanted in zip(case.events, expected.events, strict=False)
        ),
    )


def _refused(refused: Refused | None) -> RefusedBy | None:
    if refused is None:
        return None
    return RefusedBy(
        family=refused.family,
        reason=refused.reason,
        owner=min(refused.owners, default=None),
        text=refused.family,
    )


def _line(case: CaptureCase, position: int) -> LedgerLine:
    view = case.body.input_view(position)
    return LedgerLine(
        owner=f"input {position}",
        position=position,
        storage=view.storage,
        shape=view.shape,
        strides=view.strides,
        offset=view.offset,
    )


def _memory(case: CaptureCase, memory: tuple[bytes | None, ...]) -> tuple[np.ndarray | None, ...]:
    return tuple(
        None if content is None else np.frombuffer(content, numpy_dtype(storage.dtype))
        for content, storage in zip(memory, case.body.storages, strict=True)
    )


def _event(case: CaptureCase, event: object, wanted: ExpectedEvent) -> EventSeen:
    outputs = tuple(_output(o) for o in wanted.outputs)
    if case.noise and isinstance(event, Replay) and wanted.refused is None:
        outputs += (_noise(),)
    memory = _memory(case, wanted.memory)
    copied = wanted.refused is None and isinstance(event, Replay) and event.how != "static"
    return EventSeen(
        refused=_refused(wanted.refused),
        outputs=outputs,
        eager=outputs,
        memory=memory,
        eager_memory=memory,
        kept=outputs if copied else None,
    )


def _output(wanted: ExpectedTensor) -> ObservedTensor:
    return ObservedTensor(
        dtype=wanted.dtype,
        shape=wanted.shape,
        strides=wanted.strides,
        offset=0,
        device="cpu",
        storage=-1,
        values=np.frombuffer(wanted.content, numpy_dtype(wanted.dtype)).reshape(wanted.shape),
    )


def _noise() -> ObservedTensor:
    return ObservedTensor(
        dtype="float32",
        shape=(4,),
        strides=(1,),
        offset=0,
        device="cpu",
        storage=-1,
        values=np.array([0.5, 0.25, 0.75, 0.125], np.float32),
    )
