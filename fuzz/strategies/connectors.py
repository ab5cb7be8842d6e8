"""Connector cases: a small scheduler's steps, with failures of the store and dummy runs between.

The scheduler admits requests whose prompts end at block boundaries and beside them, with prefixes
in the store or in another request's blocks; it cuts prompts to what a step has room for, aborts
and preempts. It knows from the reference what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fuzz.chooser import Chooser
from reference.connector import Caches
from reference.model.connector import (
    CALLS,
    DAMAGES,
    MODELS,
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    Event,
    PagedSize,
    Restart,
    Serve,
    Served,
)
from reference.serving import VOCABULARY, new_caches, request_of

CONNECTORS = ("file", "file", "staged", "staged", "staged", "undeclared", "none")
MODES = ("eager", "eager", "piecewise", "full", "full")
BUCKETS = ((4,), (5,), (6,), (8,), (2, 6))
MOST_EVENTS = 7


@dataclass(slots=True)
class _Running:
    name: str
    prompt: tuple[int, ...]
    blocks: tuple[int, ...] = ()
    done: int = 0
    """Tokens whose KV is in the cache."""
    generated: tuple[int, ...] = ()
    saved: bool = False

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.prompt, *self.generated)


@dataclass(slots=True)
class _Scheduler:
    chooser: Chooser
    case: ConnectorCase
    life: Caches = field(init=False)
    free: list[int] = field(init=False)
    waiting: list[_Running] = field(default_factory=list)
    running: list[_Running] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    stems: list[tuple[int, ...]] = field(default_factory=list)
    names: int = 0

    def __post_init__(self) -> None:
        self.life = new_caches(self.case)
        self.free = list(range(1, self.case.size.blocks))
        longest = self.case.size.longest
        self.stems = [
            tuple(self.chooser.integer(0, VOCABULARY - 1) for _ in range(longest))
            for _ in range(self.chooser.choose((1, 1, 2)))
        ]

    @property
    def stores(self) -> bool:
        return self.case.connector != "none"

    def prompt(self) -> tuple[int, ...]:
        """The beginning of a stem: at a block boundary, or one token beside it."""
        size, chooser = self.case.size, self.chooser
        blocks = chooser.integer(1, size.blocks_per_request)
        length = blocks * size.block_size + chooser.choose((-1, 0, 0, 1))
        if length > size.longest:
            length -= size.block_size
        prompt = chooser.choose(self.stems)[: max(length, 1)]
        if chooser.chance(0.15):
            return (*prompt[:-1], chooser.integer(0, VOCABULARY - 1))
        return prompt

    def serve(self) -> Serve:
        """One step, of what runs and of who arrives."""
        chooser = self.chooser
        for _ in range(chooser.choose((0, 1, 1, 2))):
            self.waiting.append(_Running(f"r{self.names}", self.prompt()))
            self.names += 1
        self._disturb()
        rows = self.case.buckets[-1]
        requests: list[Served] = []
        for each in list(self.running):
            if rows and (served := self._continued(each, rows)) is not None:
                rows -= served.stop - served.start
                requests.append(served)
        for each in list(self.waiting):
            if rows and (served := self._admitted(each, rows, requests)) is not None:
                rows -= served.stop - served.start
                requests.append(served)
        finished, self.ended = tuple(self.ended), []
        dies = -1
        if any(r.save for r in requests) and chooser.chance(
            0.5 if self._replaces(requests) else 0.1
        ):
            dies = chooser.integer(0, 3)
        event = Serve(requests=tuple(requests), finished=finished, dies=dies)
        moved = self.life.move(tuple(request_of(r) for r in requests), dies=dies)
        if moved.died:
            self.restart(self.life.model)
        for name in moved.failed:
            self._end(next(r for r in self.running if r.name == name))
        return event

    def _replaces(self, requests: list[Served]) -> bool:
        """Whether an entry is saved that is there already."""
        b = self.case.size.block_size
        saved = [r.prompt[: r.save // b * b] for r in requests if r.save]
        return any(self.life.entry(tokens) in self.life.store for tokens in saved)

    def _disturb(self) -> None:
        """Somebody is aborted, or gives its blocks away and waits again."""
        chooser = self.chooser
        if self.running and chooser.chance(0.15):
            self._end(chooser.choose(self.running))
        if self.running and chooser.chance(0.15):
            preempted = chooser.choose(self.running)
            self._release(preempted)
            preempted.done, preempted.blocks = 0, ()
            self.waiting.append(preempted)

    def _release(self, each: _Running) -> None:
        self.running.remove(each)
        shared = {block for other in self.running for block in other.blocks}
        self.free.extend(block for block in each.blocks if block not in shared)

    def _end(self, each: _Running) -> None:
        self._release(each)
        self.ended.append(each.name)

    def _continued(self, each: _Running, rows: int) -> Served | None:
        """The next chunk of a prompt, or one more token, where there is a place for it."""
        size = self.case.size
        if each.done == len(each.tokens):
            if each.done + 1 > min(len(each.blocks) * size.block_size, size.longest):
                self._end(each)
                return None
            each.generated = (*each.generated, self.chooser.integer(0, VOCABULARY - 1))
        return self._served(each, min(rows, len(each.tokens) - each.done), 0)

    def _admitted(self, each: _Running, rows: int, already: list[Served]) -> Served | None:
        """A first step: KV from the connector, or from blocks that another request holds."""
        size, chooser = self.case.size, self.chooser
        wanted = min(len(each.tokens) + chooser.choose((0, 1, 2)), size.longest)
        needed = -(-wanted // size.block_size)
        shared: tuple[int, ...] = ()
        if chooser.chance(0.3):
            shared = self._held(each, {block for r in already for block in r.blocks})
        if needed - len(shared) > len(self.free):
            return None
        mine = self.free[: needed - len(shared)]
        self.free = self.free[len(mine) :]
        each.blocks = (*shared, *mine)
        each.done = len(shared) * size.block_size
        load = 0
        if self.stores and not shared:
            load = self._load(each.prompt)
            each.done = min(load, len(each.tokens) - 1)
        self.waiting.remove(each)
        self.running.append(each)
        return self._served(each, min(rows, len(each.tokens) - each.done), load)

    def _load(self, prompt: tuple[int, ...]) -> int:
        """What is matched; sometimes nothing, less, or what nobody ever stored."""
        matched = self.life.matched(prompt)
        kind = self.chooser.integer(0, 10)
        if kind == 0:
            return 0
        if kind == 1:
            return max(0, matched - self.case.size.block_size)
        if kind <= 3:
            return self.chooser.integer(0, len(prompt))
        return matched

    def _held(self, each: _Running, busy: set[int]) -> tuple[int, ...]:
        """Whole leading blocks that another request has filled with these very tokens."""
        b = self.case.size.block_size
        for other in self.running:
            count = 0
            while (
                (count + 1) * b <= min(other.done, len(each.tokens) - 1)
                and other.tokens[: (count + 1) * b] == each.tokens[: (count + 1) * b]
                and not set(other.blocks[: count + 1]) & busy
            ):
                count += 1
            if count:
                return other.blocks[:count]
        return ()

    def _served(self, each: _Running, count: int, load: int) -> Served:
        stop = each.done + count
        save = 0
        if self.stores and stop >= len(each.prompt) and not each.saved:
            save = len(each.prompt) if not load or self.chooser.chance(0.5) else 0
            each.saved = True
        elif self.stores and stop < len(each.prompt) and self.chooser.chance(0.2):
            save = stop
        served = Served(
            name=each.name,
            prompt=each.prompt,
            generated=each.generated,
            start=each.done,
            stop=stop,
            blocks=each.blocks,
            load=load,
            save=save,
        )
        each.done = stop
        return served

    def damage(self) -> Damage:
        """To what a waiting request would load, to what is stored, or to what is not yet."""
        chooser = self.chooser
        stored = sorted(tokens for m, tokens in self.life.store if m == self.life.model)
        if stored and chooser.chance(0.75):
            tokens = chooser.choose(stored)
        else:
            prompt = self.prompt()
            b = self.case.size.block_size
            tokens = prompt[: len(prompt) // b * b] or prompt
        event = Damage(tokens, chooser.choose(DAMAGES if tokens in stored else ("blocked",)))
        self.life.damage(event.tokens, event.how)
        return event

    def restart(self, model: str) -> Restart:
        self.life = new_caches(self.case, self.life, model)
        self.free = list(range(1, self.case.size.blocks))
        self.waiting = [_Running(r.name, r.prompt) for r in (*self.running, *self.waiting)]
        self.running = []
        return Restart(model)

    def event(self) -> Event:
        kind = self.chooser.integer(0, 11)
        if kind == 0:
            return self.restart(self.chooser.choose(MODELS))
        if kind <= 2:
            return Dummy(self.chooser.integer(1, self.case.buckets[-1]))
        if kind <= 4 and self.stores:
            return self.damage()
        return self.serve()


def _size(chooser: Chooser) -> PagedSize:
    block_size = chooser.choose((1, 2, 2, 3, 4))
    blocks_per_request = chooser.integer(1, {1: 6, 2: 4, 3: 3, 4: 2}[block_size])
    return PagedSize(
        layers=chooser.choose((1, 1, 2, 2, 2, 3)),
        heads=chooser.choose((1, 2)),
        block_size=block_size,
        blocks=1 + blocks_per_request * chooser.integer(1, 3),
        blocks_per_request=blocks_per_request,
    )


def connector_case(chooser: Chooser, *, connector: str = "", mode: str = "") -> ConnectorCase:
    """A served schedule, with a given connector and mode or with any."""
    case = ConnectorCase(
        size=_size(chooser),
        connector=connector or chooser.choose(CONNECTORS),
        mode=mode or chooser.choose(MODES),
        dtype=chooser.choose(("float32", "float32", "bfloat16", "float16", "float64")),
        capacity=chooser.choose((64, 64, 64, 5, 3)),
        buckets=chooser.choose(BUCKETS),
        events=(),
    )
    scheduler = _Scheduler(chooser, case)
    count = chooser.integer(2, MOST_EVENTS)
    return replace(case, events=tuple(scheduler.event() for _ in range(count)))


def by_hand_case(chooser: Chooser) -> ConnectorCase:
    """Steps whose calls are made by hand: mostly in order, so that late calls are reached too."""
    layers = chooser.choose((1, 2, 2, 3))
    connector = chooser.choose(("file", "staged", "undeclared", "claiming"))
    case = ConnectorCase(
        size=PagedSize(layers=layers, block_size=chooser.choose((1, 2))),
        connector=connector,
        mode="eager",
        buckets=(2,),
        events=(),
    )
    hooks = [(c, i) for i in range(layers) for c in ("wait_for_layer_load", "save_kv_layer")]
    made: list[Event] = []
    for _ in range(chooser.integer(1, 4)):
        calls: list[tuple[str, int]] = [("start_load_kv", 0)]
        for _ in range(chooser.choose((0, 1, 1, 1, 2))):
            calls += [("begin_pass", 0), *hooks]
        calls += [("wait_for_save", 0), ("get_finished", 0)]
        for _ in range(chooser.choose((0, 0, 1, 1, 2, 3))):
            at = chooser.integer(0, len(calls) - 1)
            other = (chooser.choose(CALLS), chooser.integer(0, layers - 1))
            match chooser.integer(0, 3):
                case 0:
                    calls.insert(at, other)
                case 1:
                    calls[at] = other
                case 2 if len(calls) > 1:
                    del calls[at]
                case _:
                    calls = calls[: at + 1]
        made.append(ByHand(chooser.chance(0.5), tuple(calls)))
    return replace(case, events=tuple(made))


def refused_case(chooser: Chooser) -> ConnectorCase:
    """A connector that must be refused under the kind of graph that is asked for."""
    connector = chooser.choose(("undeclared", "claiming"))
    return connector_case(chooser, connector=connector, mode="full")


def compiled_case(chooser: Chooser) -> ConnectorCase:
    """A schedule for a model of few kinds: a compiled one serves many cases."""
    case = connector_case(chooser, mode="eager")
    size = replace(case.size, layers=2, heads=2)
    return replace(case, size=size, dtype=chooser.choose(("float32", "bfloat16")))


def generated_case(chooser: Chooser) -> ConnectorCase:
    """A schedule for the one model that is compiled to machine code, which takes seconds."""
    case = connector_case(chooser, mode="eager")
    return replace(case, size=replace(case.size, layers=1, heads=2), dtype="float32")
