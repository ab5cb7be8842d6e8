"""What a KV connector's life means: which call may come when, and what then lies where.

One step of the worker side is bind, start of loads, passes over the layers (in each layer the
wait before its attention, the save after it), wait for saves, what has finished, clear. A real
step has one pass, a dummy step at least one, each gone through. A dummy step moves nothing. KV is
named by what it is the KV of: the tokens up to and including its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Entry = tuple[str, tuple[int, ...]]
"""What is stored: the name of the model, and the tokens whose KV it is."""
Kv = tuple[int, ...]
"""The KV of one token: the token, after all tokens before it."""


class Call(enum.Enum):
    """What a worker calls in a step."""

    START = "start_load_kv"
    PASS = "begin_pass"
    LOAD = "wait_for_layer_load"
    SAVE = "save_kv_layer"
    REPLAYED = "layers_replayed"
    WAIT = "wait_for_save"
    FINISHED = "get_finished"


@dataclass(slots=True)
class Step:
    """One step, from bind to clear: says of each call whether it may come now.

    `captured` says whether the connector's hooks are part of a FULL graph, so that a replay may
    stand for a pass.
    """

    layers: int
    dummy: bool
    captured: bool
    done: list[Call] = field(default_factory=list)
    hooks: list[tuple[Call, int]] = field(default_factory=list)
    """The hooks of the last pass, in order, with their layers."""

    def admits(self, call: Call, layer: int = 0) -> bool:
        """Whether `call` may come now; `layer` only counts for hooks."""
        passes = sum(c in (Call.PASS, Call.REPLAYED) for c in self.done)
        if Call.FINISHED in self.done:
            return False
        if Call.WAIT in self.done:
            return call is Call.FINISHED
        if Call.START not in self.done:
            return call is Call.START
        due = [(c, i) for i in range(self.layers) for c in (Call.LOAD, Call.SAVE)]
        match call:
            case Call.PASS | Call.REPLAYED:
                # A pass that was begun is gone through: KV of its layers is on the way.
                again = self.dummy and self.hooks in ([], due)
                return (passes == 0 or again) and (call is Call.PASS or self.captured)
            case Call.LOAD | Call.SAVE:
                return passes > 0 and due[len(self.hooks) :][:1] == [(call, layer)]
            case Call.WAIT:
                return passes > 0 and self.hooks == due
            case _:
                return False

    def call(self, call: Call, layer: int = 0) -> None:
        """An admitted call happens. Raises ValueError for another."""
        if not self.admits(call, layer):
            raise ValueError(f"{call.value} of layer {layer} after {self.done}: not admitted")
        self.done.append(call)
        match call:
            case Call.PASS:
                self.hooks = []
            case Call.REPLAYED:
                self.hooks = [(c, i) for i in range(self.layers) for c in (Call.LOAD, Call.SAVE)]
            case Call.LOAD | Call.SAVE:
                self.hooks.append((call, layer))
            case _:
                pass

    @property
    def whole(self) -> bool:
        """Whether the step may end here without an error."""
        return Call.FINISHED in self.done


def hooks_of_a_pass(layers: int) -> tuple[tuple[str, int], ...]:
    """By name and layer: in each layer the load before its attention, the save after it."""
    return tuple((c.value, i) for i in range(layers) for c in (Call.LOAD, Call.SAVE))


@dataclass(frozen=True, slots=True)
class Misplaced:
    """The first call of a step that may not come when it does, or that is missing at the end."""

    position: int
    call: str
    """What came, empty at the end."""
    layer: int = 0


def misplaced(
    calls: Sequence[tuple[Call, int]],
    *,
    layers: int,
    dummy: bool,
    captured: bool = False,
    passes: int | None = 1,
) -> Misplaced | None:
    """What is wrong with a whole step's calls as a connector sees them; None where nothing is.

    A connector does not see where a pass begins: before the hooks of layer 0, after a whole pass.
    `passes` are how many it must have seen, None for any; 0 where a replay stands for the pass.
    """
    step = Step(layers=layers, dummy=dummy, captured=captured)
    seen = 0
    for i, (call, layer) in enumerate(calls):
        if call is Call.LOAD and layer == 0 and step.admits(Call.PASS):
            step.call(Call.PASS)
            seen += 1
        if call is Call.WAIT and passes == 0 and step.admits(Call.REPLAYED):
            step.call(Call.REPLAYED)
        wrong_number = call is Call.WAIT and passes is not None and seen != passes
        if wrong_number or not step.admits(call, layer):
            return Misplaced(i, call.value, layer)
        step.call(call, layer)
    return None if step.whole else Misplaced(len(calls), "")


class Mode(enum.Enum):
    """What a runner is asked for, and what it uses."""

    EAGER = "eager"
    PIECEWISE = "piecewise"
    FULL = "full"


def mode(policy: str | None, asked: Mode) -> Mode | None:
    """The mode for a connector whose policy is "captured", "piecewise" or none; None: refused."""
    if asked is not Mode.FULL:
        return asked
    return {"captured": Mode.FULL, "piecewise": Mode.PIECEWISE}.get(policy or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one step does for one request; blocks hold its positions in order.

    The first `load` positions are loaded, then `tokens` are computed from position `start` on,
    then whole blocks of the first `save` positions are saved. `prompt` has at least `load` and
    `save` tokens; `before` are all tokens before `start`.
    """

    name: str
    prompt: tuple[int, ...]
    before: tuple[int, ...]
    tokens: tuple[int, ...]
    blocks: tuple[int, ...]
    load: int
    save: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of the moves of one step, by request; `failed` says "load" or "save".

    `died`: the worker ended in the midst of its saves, and nobody heard of anything.
    """

    received: frozenset[str]
    sent: frozenset[str]
    failed: Mapping[str, str]
    died: bool = False


@dataclass(slots=True)
class Caches:
    """One worker's cache by slot, and the store on disk by entry, both naming their KV.

    An entry is of one `model` and one prefix of a prompt; a worker sees those of its own model.

    None is KV of which nothing is said: what was computed after positions that hold other KV than
    the request's. `spoilt` entries are there and cannot be loaded; in place of `blocked` ones lies
    what can be neither read nor replaced. Where there is `room` for so many tokens a step, loads
    beyond it fail, and saves beyond it do not happen.
    """

    block_size: int
    model: str = ""
    slots: dict[int, Kv | None] = field(default_factory=dict)
    store: dict[Entry, tuple[Kv | None, ...]] = field(default_factory=dict)
    spoilt: set[Entry] = field(default_factory=set)
    blocked: set[Entry] = field(default_factory=set)
    room: int | None = None

    def entry(self, tokens: tuple[int, ...]) -> Entry:
        """What these tokens are stored as by this worker."""
        return self.model, tokens

    def matched(self, prompt: tuple[int, ...]) -> int:
        """The longest stored prefix of whole blocks."""
        lengths = range(0, len(prompt) + 1, self.block_size)
        return max(
            (n for n in lengths if n == 0 or self.entry(prompt[:n]) in self.store), default=0
        )

    def slot(self, blocks: tuple[int, ...], position: int) -> int:
        return blocks[position // self.block_size] * self.block_size + position % self.block_size

    def damage(self, tokens: tuple[int, ...], how: str) -> None:
        """An entry is "gone", "blocked", or, where it is there, spoilt in some other way."""
        entry = self.entry(tokens)
        if how in ("gone", "blocked"):
            self.store.pop(entry, None)
            self.spoilt.discard(entry)
            self.blocked.discard(entry)
            if how == "blocked":
                self.blocked.add(entry)
        elif entry in self.store:
            self.spoilt.add(entry)

    def step(self, requests: tuple[Request, ...]) -> dict[str, str]:
        """A step happens; gives the requests that fail. A step without requests changes nothing."""
        return dict(self.move(requests).failed)

    def move(self, requests: tuple[Request, ...], *, dies: int = -1) -> Moved:
        """A step happens. With `dies` at least 0, the worker does at that sync of its saves.

        What fails to load is not saved; its rows are computed all the same, and nobody else's
        KV differs for it.
        """
        received, failed = self._load(requests)
        for r in requests:
            sequence = (*r.before, *r.tokens)
            start = len(r.before)
            sound = all(
                self.slots.get(self.slot(r.blocks, p)) == sequence[: p + 1] for p in range(start)
            )
            for p in range(start, len(sequence)):
                self.slots[self.slot(r.blocks, p)] = sequence[: p + 1] if sound else None
        return self._save(requests, received, failed, dies)

    def _load(self, requests: tuple[Request, ...]) -> tuple[set[str], dict[str, str]]:
        received: set[str] = set()
        failed: dict[str, str] = {}
        used = 0
        for r in requests:
            if not r.load:
                continue
            wanted = self.entry(r.prompt[: r.load])
            stored = None if wanted in self.spoilt else self.store.get(wanted)
            if stored is None or (self.room is not None and used + r.load > self.room):
                failed[r.name] = "load"
                continue
            for position, kv in enumerate(stored):
                self.slots[self.slot(r.blocks, position)] = kv
            received.add(r.name)
            used += r.load
        return received, failed

    def _save(
        self, requests: tuple[Request, ...], received: set[str], failed: dict[str, str], dies: int
    ) -> Moved:
        sent: set[str] = set()
        used = syncs = 0
        for r in requests:
            whole = r.save // self.block_size * self.block_size
            if not whole or r.name in failed:
                continue
            if self.room is not None and used + whole > self.room:
                continue
            used += whole
            if dies == syncs:
                return Moved(received=frozenset(), sent=frozenset(), failed={}, died=True)
            syncs += 1
            entry = self.entry(r.prompt[:whole])
            if entry in self.blocked:
                failed[r.name] = "save"
                continue
            kept = tuple(self.slots.get(self.slot(r.blocks, i)) for i in range(whole))
            self.store[entry] = kept
            self.spoilt.discard(entry)
            if dies == syncs:
                return Moved(received=frozenset(), sent=frozenset(), failed={}, died=True)
            syncs += 1
            sent.add(r.name)
        return Moved(received=frozenset(received), sent=frozenset(sent), failed=failed)
