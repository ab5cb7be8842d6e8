"""What happens to a captured function: replays with other inputs, and all that may come between.

At least three replays return. What cannot be undone comes last, with a replay that is refused.
"""

from __future__ import annotations

import numpy as np

from reference.dtypes import numpy_dtype
from reference.model import Storage
from reference.model.capture import (
    MISFITS,
    CaptureCase,
    CaptureEvent,
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
from reference.replays.legal import ways_to_move

from ...chooser import Chooser
from ..programs.data import draw_storage

_BYTES = (0x5A, 0xC3, 0xFF, 0x00)
_STATES = ("state", "kv_cache")
_LASTING = {"grow": 6, "resize": 3}


class _Drawing:
    """Events so far, and what they have changed."""

    def __init__(self, case: CaptureCase, chooser: Chooser) -> None:
        self.case = case
        self.chooser = chooser
        self.events: list[CaptureEvent] = []
        self.sealed = False

    def content(self, position: int) -> Storage:
        """Other values for an input: whole numbers are those that it has, in another order."""
        view = self.case.body.input_view(position)
        storage = self.case.body.storages[view.storage]
        if not storage.dtype.startswith("int"):
            return draw_storage(storage.dtype, view.numel, self.chooser)
        there = view.of(storage.array()).reshape(-1).tolist() or [0]
        values = [self.chooser.choose(there) for _ in range(view.numel)]
        return Storage(
            storage.dtype, view.numel, np.array(values, numpy_dtype(storage.dtype)).tobytes()
        )

    def replay(self, how: str = "copied") -> None:
        case, chooser = self.case, self.chooser
        given: tuple[Storage | int, ...] = ()
        if case.sizes:
            given = self.batch()
        elif case.static and not chooser.chance(0.1):
            given = tuple(self.content(i) for i in range(case.static))
            if chooser.chance(0.15):
                given = self.swapped(given)
        elif case.static and chooser.chance(0.5):
            position = chooser.integer(0, case.static - 1)
            self.events.append(Write(position=position, content=self.content(position)))
        self.events.append(Replay(given=given, how=how))

    def swapped(self, given: tuple[Storage | int, ...]) -> tuple[Storage | int, ...]:
        """The graph's own static inputs given for each other, where two are alike."""
        body = self.case.body
        look = [
            (body.input_view(i).shape, body.storages[body.input_view(i).storage].dtype)
            for i in range(self.case.static)
        ]
        found = list(given)
        for i in range(len(found)):
            alike = [k for k in range(len(found)) if look[k] == look[i]]
            found[i] = self.chooser.choose(alike)
        return tuple(found)

    def batch(self) -> tuple[Storage, ...]:
        """The rows of a batch: each real slot once, none in block 0, or nowhere."""
        case, chooser = self.case, self.chooser
        rows = chooser.integer(1, max(case.sizes))
        given: list[Storage] = []
        for i, pad in enumerate(case.padding):
            view = case.body.input_view(i)
            dtype = case.body.storages[view.storage].dtype
            numel = view.numel // view.shape[0] * rows if pad is not None else view.numel
            if pad == -1:
                given.append(self.slots(rows))
            elif dtype == "int64":
                values = [chooser.integer(0, 3) for _ in range(numel)]
                given.append(Storage(dtype, numel, np.array(values, np.int64).tobytes()))
            else:
                given.append(draw_storage(dtype, numel, chooser))
        return tuple(given)

    def slots(self, rows: int) -> Storage:
        free = [*range(4, 12)]
        found: list[int] = []
        for _ in range(rows):
            slot = -1 if self.chooser.chance(0.15) else self.chooser.choose(free)
            if slot >= 0:
                free.remove(slot)
            found.append(slot)
        return Storage("int64", rows, np.array(found, np.int64).tobytes())

    def between(self) -> None:
        """One thing that leaves the graph as it is."""
        case, chooser = self.case, self.chooser
        owned = range(case.static, len(case.body.inputs))
        kind = chooser.choose(
            ("churn", "churn", "poison", "poison", "write", "write", "misfit", "seal", "move",
             "move", "reseed", "create")
        )  # fmt: skip
        if kind == "churn":
            self.events.append(Churn(byte=chooser.choose(_BYTES)))
        elif kind == "poison":
            self.events.append(Poison(byte=chooser.choose(_BYTES)))
        elif kind == "misfit":
            self.events.append(Misfit(how=chooser.choose(MISFITS)))
        elif kind == "reseed" and case.noise:
            self.events.append(Reseed(seed=chooser.integer(0, 99)))
        elif kind == "seal" and any(o in _STATES for o in case.owners):
            self.sealed = not self.sealed
            self.events.append(Seal(on=self.sealed))
        elif kind == "write" and len(owned):
            position = chooser.choose(owned)
            self.events.append(Write(position=position, content=self.content(position)))
        elif kind == "create":
            states = [i for i in owned if case.owner(i) == "state"]
            if states:
                self.events.append(Create(position=chooser.choose(states)))
        elif kind == "move" and len(owned):
            self.move_and_back(chooser.choose(owned))

    def move_and_back(self, position: int) -> None:
        """An owner goes away, a replay shows that it is missed, and it comes back."""
        once = ("resize", "grow", "drop" if self.case.owner(position) == "unnamed" else "")
        ways = [w for w in ways_to_move(self.case, position) if w not in once]
        if not ways:
            return
        way = self.chooser.choose(ways)
        self.events.append(Move(position=position, how=way))
        self.replay()
        if self.sealed and self.case.owner(position) in _STATES:
            # Sealed, it could neither go by the registry nor come back by it.
            way = way if way in ("data", "transpose") else ""
        if way:
            self.events.append(Move(position=position, how="back"))

    def lasting(self) -> None:
        """An owner, or a static input, goes for good; the replay that follows tells."""
        found: dict[str, list[int]] = {}
        for i in range(len(self.case.body.inputs)):
            for way in ways_to_move(self.case, i):
                found.setdefault(way, []).append(i)
        # The way first, and those that cannot be undone more often: no other place has them, and
        # few owners can go by them.
        ways = [way for way in found for _ in range(_LASTING.get(way, 1))]
        if ways:
            way = self.chooser.choose(ways)
            self.events.append(Move(position=self.chooser.choose(found[way]), how=way))
            self.replay()


def draw_events(case: CaptureCase, chooser: Chooser) -> tuple[CaptureEvent, ...]:
    """Three to five replays with others between, some of them refused."""
    drawing = _Drawing(case, chooser)
    if case.noise:
        drawing.events.append(Reseed(seed=chooser.integer(0, 99)))
    for _ in range(chooser.choose((3, 3, 4, 5))):
        for _ in range(chooser.choose((0, 1, 1, 2))):
            drawing.between()
        how = chooser.choose(("copied", "copied", "copied", "static", "audited"))
        drawing.replay("copied" if case.sizes else how)
    if chooser.chance(0.35):
        drawing.lasting()
    return tuple(drawing.events)
