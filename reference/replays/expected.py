"""What a captured function must do, event by event: a program run again and again on one memory.

A replay is right only while each owner that the function uses holds the memory that it held at
the capture; else it is refused and changes nothing. It returns copies. A graph of a batch size
does what the function does for the rows of the batch alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..declaration import Refusal
from ..dtypes import numpy_dtype
from ..expectation import Unknown
from ..model import ProgramCase, Storage, View, is_self_overlapping
from ..model.capture import (
    CaptureCase,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Reseed,
    Seal,
    Write,
)
from ..model.storage import contiguous_strides
from ..programs import METADATA_ONLY, Asked, ExpectedProgram, ExpectedTensor, expect_program
from ..programs.machine import STRICT
from ..programs.stateful import STATEFUL
from .legal import IN_PLACE, refuses_sealed
from .traps import TRAPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """``family``: by which of capture, ledger, inputs, seal; ``reason`` of a capture, ``owners``
    one of which the ledger must name (none where one has no name)."""

    family: str
    reason: str = ""
    owners: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEvent:
    """``outputs`` of a replay that returns; ``memory`` afterwards, as bytes of each storage, None
    where nobody can tell or is told."""

    refused: Refused | None
    outputs: tuple[ExpectedTensor, ...]
    memory: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCapture:
    """``used`` are the positions of owners that the ledger must name.

    ``exact``: contents are told; else only dtypes, shapes and strides are, since an op of the IR
    may return any value of an interval.
    """

    refused: Refused | None
    used: frozenset[int]
    events: tuple[ExpectedEvent, ...]
    memory: tuple[bytes | None, ...]
    exact: bool


CaptureExpectation: TypeAlias = "ExpectedCapture | Unknown"


def expect_capture(case: CaptureCase) -> CaptureExpectation:
    """What ``case`` must do; Unknown where the body's meaning is, at some replay."""
    exact = not any(_is_interval(step.target) for step in case.body.steps)
    memory = _Memory(case, STRICT if exact else METADATA_ONLY)
    if isinstance(found := memory.run(case.body), Unknown):
        return found
    start = tuple(s.tobytes() for s in case.body.arrays())
    if (refused := refused_capture(case)) is not None:
        return ExpectedCapture(
            refused=refused, used=frozenset(), events=(), memory=start, exact=exact
        )
    events: list[ExpectedEvent] = []
    for event in case.events:
        seen = memory.apply(event)
        if isinstance(seen, Unknown):
            return seen
        events.append(seen)
    return ExpectedCapture(
        refused=None,
        used=used_owners(case),
        events=tuple(events),
        memory=memory.told(start=True),
        exact=exact,
    )


def _is_interval(target: str) -> bool:
    return target.startswith("ir.") and target not in STATEFUL


def refused_capture(case: CaptureCase) -> Refused | None:
    """Why the function may not be captured; None where it must be."""
    views = [case.body.input_view(i) for i in range(case.static)]
    shared = len({v.storage for v in views}) < len(views)
    if shared or any(is_self_overlapping(v) for v in views):
        return Refused(family="capture", reason="inputs")
    if case.trap:
        return Refused(family="capture", reason=TRAPS[case.trap])
    return None


def used_owners(case: CaptureCase) -> frozenset[int]:
    """The owners that hold a tensor which the body takes or returns.

    What returns its very operand (``contiguous`` of what is) neither reads nor writes it.
    """
    body = case.body
    stands_for = {i: number for i, number in enumerate(body.inputs)}
    used: set[int] = set()
    for i, step in enumerate(body.steps):
        values = list(step.values())
        if _returns_operand(body, i):
            stands_for[body.first_result(i)] = stands_for.get(values[0], -1)
            continue
        used |= {stands_for[v] for v in values if v in stands_for}
    used |= {stands_for[o] for o in body.outputs if o in stands_for}
    return frozenset(i for i in range(case.static, len(body.inputs)) if body.inputs[i] in used)


def _returns_operand(body: ProgramCase, step: int) -> bool:
    """Whether a step that may copy has nothing to do."""
    if body.steps[step].target not in ("aten.contiguous.default", "aten.to.dtype"):
        return False
    first = body.first_result(step)
    operand = next(body.steps[step].values())
    shown = replace(body, steps=body.steps[: step + 1], outputs=(operand, first), donated=())
    found = expect_program(shown, asked=METADATA_ONLY)
    return isinstance(found, ExpectedProgram) and found.outputs[0] == found.outputs[1]


class _Memory:
    """The body's storages as they are now, and which owners hold what they held."""

    def __init__(self, case: CaptureCase, asked: Asked) -> None:
        self.case = case
        self.asked = asked
        self.arrays = case.body.arrays()
        self.used = used_owners(case)
        self.away: dict[int, str] = {}
        """How each owner that holds something else came to do so."""
        self.lost: set[int] = set()
        """Storages that nobody but the graph holds, so that nobody can look."""
        self.sealed = False

    def run(self, body: ProgramCase) -> ExpectedProgram | Unknown:
        """The body, on the memory given with it."""
        found = expect_program(body, asked=self.asked)
        if isinstance(found, Refusal):
            return Unknown("torch-refuses-the-body")
        if isinstance(found, ExpectedProgram) and any(
            s.free is not None or s.given for s in found.storages
        ):
            return Unknown("given-away")
        return found

    def told(self, *, start: bool = False) -> tuple[bytes | None, ...]:
        arrays = self.case.body.arrays() if start else self.arrays
        hidden = set(self.lost)
        if self.case.sizes:
            # Rows that pad are the graph's concern.
            hidden |= {self.case.body.input_view(i).storage for i in range(self.case.static)}
        exact = self.asked is STRICT
        return tuple(
            None if i in hidden or not (exact or start) else array.tobytes()
            for i, array in enumerate(arrays)
        )

    def apply(self, event: object) -> ExpectedEvent | Unknown:
        refused: Refused | None = None
        outputs: tuple[ExpectedTensor, ...] = ()
        match event:
            case Replay():
                refused = self._stale()
                if refused is None:
                    found = self._replayed(event)
                    if isinstance(found, Unknown):
                        return found
                    outputs = found
            case Misfit():
                # A batch is looked at before its graph is.
                stale = None if self.case.sizes else self._stale()
                refused = stale or Refused(family="inputs")
            case Write():
                self._write(event)
            case Move():
                refused = self._move(event)
            case Seal():
                refused = Refused(family="seal") if event.on and self.sealed else None
                self.sealed = event.on
            case Create():
                refused = Refused(family="seal") if self.sealed else None
            case Poison() | Churn() | Reseed():
                pass
            case _:
                raise TypeError(f"event {event!r}; accepted: a capture event")
        return ExpectedEvent(refused=refused, outputs=outputs, memory=self.told())

    def _stale(self) -> Refused | None:
        stale = {i for i in self.away if self._matters(i)}
        if not stale:
            return None
        named = all(self.case.owner(i) != "unnamed" for i in stale)
        # Of one tensor in several places any place may be named.
        stale = stale.union(*(self._holders(i) for i in stale if self.away[i] in IN_PLACE))
        return Refused(family="ledger", owners=frozenset(stale if named else ()))

    def _matters(self, position: int) -> bool:
        """Whether the graph can no longer use the memory that it recorded for an owner."""
        how = self.away[position]
        if how == "view":
            return False
        if position < self.case.static:
            return True
        if position not in self.used:
            # Another place may hold the very tensor that has moved.
            same = self._holders(position) & self.used
            return how in IN_PLACE and bool(same)
        # What nobody can name is kept by the graph itself: only that very tensor can move.
        return self.case.owner(position) != "unnamed" or how in IN_PLACE

    def _holders(self, position: int) -> set[int]:
        number = self.case.body.inputs[position]
        return {i for i, n in enumerate(self.case.body.inputs) if n == number}

    def _move(self, event: Move) -> Refused | None:
        owner = self.case.owner(event.position)
        now = self.away.get(event.position)
        if self.sealed and refuses_sealed(owner, event.how, now):
            return Refused(family="seal")
        if event.how == "back":
            self.away.pop(event.position, None)
            return None
        self.away[event.position] = event.how
        if owner == "unnamed" and event.how == "drop":
            self.lost.add(self.case.body.input_view(event.position).storage)
        return None

    def _write(self, event: Write) -> None:
        if event.position in self.away and self.away[event.position] != "view":
            return
        view = self.case.body.input_view(event.position)
        _fill(view, self.arrays[view.storage], event.content)

    def _replayed(self, event: Replay) -> tuple[ExpectedTensor, ...] | Unknown:
        case = self.case
        body = case.body
        if case.sizes:
            return self._batch(event)
        taken = [
            g if isinstance(g, Storage) else self._held(body.input_view(g)) for g in event.given
        ]
        for i, content in enumerate(taken):
            view = body.input_view(i)
            _fill(view, self.arrays[view.storage], content)
        return self._ran(body)

    def _held(self, view: View) -> Storage:
        values = np.ascontiguousarray(view.of(self.arrays[view.storage]))
        return Storage(self.case.body.storages[view.storage].dtype, view.numel, values.tobytes())

    def _batch(self, event: Replay) -> tuple[ExpectedTensor, ...] | Unknown:
        """The body on the rows of the batch, and on no others."""
        rows = rows_of(self.case, event)
        body = for_rows(self.case, rows)
        for i, content in enumerate(event.given):
            if isinstance(content, int):
                return Unknown("static-input-of-a-bucket")
            view = body.input_view(i)
            self.arrays[view.storage] = content.array()
        found = self._ran(body)
        if isinstance(found, Unknown):
            return found
        for output, has_rows in zip(found, self.case.batched, strict=True):
            if has_rows and output.shape[:1] != (rows,):
                return Unknown("result-without-rows")
        return found

    def _ran(self, body: ProgramCase) -> tuple[ExpectedTensor, ...] | Unknown:
        found = self.run(replace(body, storages=tuple(self._storages(body))))
        if isinstance(found, Unknown):
            return found
        for i, (storage, after) in enumerate(zip(body.storages, found.storages, strict=True)):
            self.arrays[i] = np.frombuffer(after.content, numpy_dtype(storage.dtype)).copy()
        return found.outputs

    def _storages(self, body: ProgramCase) -> Iterator[Storage]:
        for storage, array in zip(body.storages, self.arrays, strict=True):
            yield Storage(storage.dtype, array.size, array.tobytes())


def _fill(view: View, array: np.ndarray, content: Storage) -> None:
    view.of(array)[...] = content.array().reshape(view.shape)


def rows_of(case: CaptureCase, event: Replay) -> int:
    """The rows of a batch: of the first input that has any."""
    for i, (content, pad) in enumerate(zip(event.given, case.padding, strict=True)):
        if pad is not None and isinstance(content, Storage):
            row = int(np.prod(case.body.input_view(i).shape[1:]))
            return content.numel // max(row, 1)
    return 0


def for_rows(case: CaptureCase, rows: int) -> ProgramCase:
    """The body with so many rows in each batched static input, each packed in its storage."""
    body = case.body
    tensors, storages = list(body.tensors), list(body.storages)
    for i, pad in enumerate(case.padding):
        view = body.input_view(i)
        shape = view.shape if pad is None else (rows, *view.shape[1:])
        packed = View(view.storage, shape, contiguous_strides(shape))
        tensors[body.inputs[i]] = packed
        kept = storages[view.storage].array()[: packed.numel]
        storages[view.storage] = Storage(storages[view.storage].dtype, packed.numel, kept.tobytes())
    return replace(body, tensors=tuple(tensors), storages=tuple(storages))
