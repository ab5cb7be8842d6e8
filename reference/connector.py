"""What a KV connector's life means: which call may come when, and what then lies where.

One step of the worker side is bind, start of loads, passes over the layers (in each layer the
wait before its attention, the save after it), wait for saves, what has finished, clear. A real
step has one pass, a dummy step at least one. A dummy step moves nothing. KV is named by what it
is the KV of: the tokens up to and including its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

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
            case Call.PASS:
                return self.dummy or passes == 0
            case Call.REPLAYED:
                return self.captured and (self.dummy or passes == 0)
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


@dataclass(slots=True)
class Caches:
    """One worker's cache by slot, and the store on disk by prompt prefix, both naming their KV."""

    block_size: int
    slots: dict[int, Kv] = field(default_factory=dict)
    store: dict[tuple[int, ...], tuple[Kv, ...]] = field(default_factory=dict)

    def matched(self, prompt: tuple[int, ...]) -> int:
        """The longest stored prefix of whole blocks."""
        lengths = range(0, len(prompt) + 1, self.block_size)
        return max((n for n in lengths if n == 0 or prompt[:n] in self.store), default=0)

    def slot(self, blocks: tuple[int, ...], position: int) -> int:
        return blocks[position // self.block_size] * self.block_size + position % self.block_size

    def step(self, requests: tuple[Request, ...]) -> dict[str, str]:
        """A step happens; gives the requests that fail. A step without requests changes nothing.

        What fails to load is not saved; its rows are computed all the same, and nobody else's
        KV differs for it.
        """
        failed: dict[str, str] = {}
        for r in requests:
            entry = self.store.get(r.prompt[: r.load]) if r.load else ()
            if entry is None:
                failed[r.name] = "load"
                continue
            for position, kv in enumerate(entry):
                self.slots[self.slot(r.blocks, position)] = kv
        for r in requests:
            sequence = (*r.before, *r.tokens)
            for position in range(len(r.before), len(sequence)):
                kv = sequence[: position + 1]
                self.slots[self.slot(r.blocks, position)] = kv
        for r in requests:
            whole = r.save // self.block_size * self.block_size
            if whole and r.name not in failed:
                kept = tuple(self.slots[self.slot(r.blocks, i)] for i in range(whole))
                self.store[r.prompt[:whole]] = kept
        return failed
