"""What must be seen of a worker: its steps one by one, its caches after each, the store in the end.

`reference.connector` says by name which KV lies where; `reference.serving.model` which numbers
these names stand for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from reference.connector import Caches, Call, Entry, Kv, Mode, Moved, Request, Step, mode
from reference.dtypes import numpy_dtype
from reference.model.connector import (
    MODELS,
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    PagedSize,
    Restart,
    Serve,
    Served,
)

from .model import HEAD_SIZE, VOCABULARY, computed, initial

Floats = NDArray[np.float64]
POLICIES: Mapping[str, str | None] = MappingProxyType(
    {"file": "piecewise", "staged": "captured", "undeclared": None, "claiming": "captured"}
)
"""The graph policy that each connector declares."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ExpectedStep:
    """What must be seen of one event, or of a warm-up.

    `kind` is "warm-up", "serve", "dummy", "damage" or "by hand". `caches` (layers, 2, slots,
    heads, head size) are those after it, where `known` (slots,) says so; `written` are the slots
    that the step may write. By request, in order: `matched`, `rows`, and `logits`, (rows,
    vocabulary) or None where nothing is said. `admitted`: the calls made by hand that are in
    their place, `whole`: whether the step may end there. `reached`: of the admitted ones those that
    the connector itself is called for, by name and layer, 0 where they have none.
    """

    kind: str
    dummy: bool
    caches: Floats
    known: NDArray[np.bool_]
    written: frozenset[int] = frozenset()
    matched: Mapping[str, int] = field(default_factory=dict)
    moved: Moved | None = None
    logits: Mapping[str, Floats | None] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    finished: frozenset[str] = frozenset()
    admitted: tuple[bool, ...] = ()
    reached: tuple[tuple[str, int], ...] = ()
    whole: bool = True


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ExpectedRun:
    """What must be seen of a case: nothing but a refusal, or the steps.

    `mode` is the kind of graph in force; `captured` whether the hooks are part of it. `store` are
    the entries in the end by model and tokens, (layers, 2, tokens, heads, head size), None where
    nothing is said.
    """

    refused: bool
    mode: str
    captured: bool
    steps: tuple[ExpectedStep, ...]
    store: Mapping[Entry, Floats | None]


def expect_run(case: ConnectorCase) -> ExpectedRun:
    """What the reference expects of a legal case."""
    policy = POLICIES.get(case.connector, "captured")
    found = mode(policy, Mode(case.mode))
    # Nobody can see from a policy that it is false; a capture in which hooks record nothing can.
    if found is None or (case.connector == "claiming" and found is Mode.FULL):
        return ExpectedRun(refused=True, mode="", captured=False, steps=(), store={})
    return _Run(case, found).whole()


def request_of(served: Served) -> Request:
    """The request as the life of a connector knows it."""
    return Request(
        name=served.name,
        prompt=served.prompt,
        before=served.tokens[: served.start],
        tokens=served.tokens[served.start :],
        blocks=served.blocks,
        load=served.load,
        save=served.save,
    )


def new_caches(case: ConnectorCase, store: Caches | None = None, model: str = MODELS[0]) -> Caches:
    """The caches of a new worker for a model, on the store of another where one is given."""
    room = case.capacity if case.connector == "staged" else None
    if store is None:
        return Caches(block_size=case.size.block_size, model=model, room=room)
    return Caches(
        block_size=case.size.block_size,
        model=model,
        store=store.store,
        spoilt=store.spoilt,
        blocked=store.blocked,
        room=room,
    )


def values_of(size: PagedSize, names: tuple[Kv | None, ...]) -> Floats | None:
    """(layers, 2, len(names), heads, head size); None where a name is missing."""
    found = np.zeros((size.layers, 2, len(names), size.heads, HEAD_SIZE))
    for i, name in enumerate(names):
        if name is None:
            return None
        found[:, :, i] = computed(size.layers, size.heads, name)[0][:, :, -1]
    return found


def bytes_of(values: Floats, dtype: str) -> NDArray[np.uint8]:
    """Values of a cache or an entry as its bytes: (layers, 2, slots, bytes)."""
    stored = np.ascontiguousarray(values.astype(numpy_dtype(dtype)))
    return stored.view(np.uint8).reshape(*values.shape[:3], -1)


class _Run:
    def __init__(self, case: ConnectorCase, found: Mode) -> None:
        self.case, self.size, self.mode = case, case.size, found
        self.life = new_caches(case)
        self.blank = initial(case.size)
        self.steps: list[ExpectedStep] = []

    def whole(self) -> ExpectedRun:
        self.steps.append(self._seen("warm-up", dummy=True))
        for event in self.case.events:
            match event:
                case Serve():
                    self._serve(event)
                case Dummy():
                    self.steps.append(self._seen("dummy", dummy=True))
                case Damage():
                    self.life.damage(event.tokens, event.how)
                    self.steps.append(self._seen("damage", dummy=True))
                case Restart():
                    self._restart(event.model)
                case ByHand():
                    self._by_hand(event)
        entries = {
            entry: None if entry in self.life.spoilt else values_of(self.size, names)
            for entry, names in self.life.store.items()
        }
        return ExpectedRun(
            refused=False,
            mode=self.mode.value,
            captured=self.mode is Mode.FULL and self.case.connector == "staged",
            steps=tuple(self.steps),
            store=entries,
        )

    def _seen(self, kind: str, *, dummy: bool) -> ExpectedStep:
        """A step, with the caches as they are now."""
        caches = self.blank.copy()
        known = np.ones(self.size.slots, bool)
        for slot, name in self.life.slots.items():
            values = values_of(self.size, (name,))
            if values is None:
                known[slot] = False
            else:
                caches[:, :, slot] = values[:, :, 0]
        return ExpectedStep(kind=kind, dummy=dummy, caches=caches, known=known)

    def _restart(self, model: str) -> None:
        self.life = new_caches(self.case, self.life, model)
        self.steps.append(self._seen("warm-up", dummy=True))

    def _serve(self, event: Serve) -> None:
        matched = {r.name: self.life.matched(r.prompt) for r in event.requests}
        requests = tuple(request_of(r) for r in event.requests)
        moved = self.life.move(requests, dies=event.dies)
        seen = self._seen("serve", dummy=not requests)
        told = {} if moved.died else {r.name: self._logits(r) for r in event.requests}
        self.steps.append(
            replace(
                seen,
                matched=matched,
                moved=moved,
                logits=told,
                rows={r.name: r.stop - r.start for r in event.requests},
                finished=frozenset(event.finished),
                written=frozenset(self._written(event)),
            )
        )
        if moved.died:
            self._restart(self.life.model)

    def _written(self, event: Serve) -> Iterator[int]:
        for r in event.requests:
            for position in (*range(r.load), *range(r.start, r.stop)):
                yield self.life.slot(r.blocks, position)

    def _logits(self, r: Served) -> Floats | None:
        last = self.life.slots.get(self.life.slot(r.blocks, r.stop - 1))
        if last != r.tokens:
            return None
        logits = computed(self.size.layers, self.size.heads, r.tokens)[1]
        return logits[r.start :].astype(np.float64).reshape(-1, VOCABULARY)

    def _by_hand(self, event: ByHand) -> None:
        captured = POLICIES.get(self.case.connector) == "captured"
        step = Step(layers=self.size.layers, dummy=event.dummy, captured=captured)
        admitted: list[bool] = []
        reached: list[tuple[str, int]] = []
        for name, layer in event.calls:
            call = Call(name)
            admitted.append(step.admits(call, layer))
            if not admitted[-1]:
                continue
            step.call(call, layer)
            # A connector does not hear where a pass begins, nor that a graph was replayed.
            if call not in (Call.PASS, Call.REPLAYED):
                reached.append((name, layer if call in (Call.LOAD, Call.SAVE) else 0))
        seen = self._seen("by hand", dummy=event.dummy)
        self.steps.append(
            replace(seen, admitted=tuple(admitted), reached=tuple(reached), whole=step.whole)
        )
