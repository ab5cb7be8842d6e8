"""Captures and replays do what the reference's model of them does, in any order of events."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from torch import Tensor

from fuzz.profiles import examples
from ir.capture import (
    BucketedGraphs,
    CapturedGraph,
    CaptureRefused,
    ReplayError,
    StaleAddress,
    capture,
    capture_buckets,
)
from reference.capture import Memory, Refused, Returned, Stale, bucket, cache_after, padded

OWNERS = ("a", "b", "c")
SMALL = st.integers(-9, 9)
SOME = st.sets(st.sampled_from(OWNERS), min_size=1).map(lambda s: tuple(sorted(s)))


class Captures(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Memory()
        self.held: dict[str, Tensor] = {}
        self.made: dict[int, Tensor] = {}
        self.graphs: dict[str, CapturedGraph] = {}
        self.results: list[tuple[Tensor, int]] = []

    @initialize(values=st.tuples(SMALL, SMALL, SMALL))
    def owners_exist(self, values: tuple[int, int, int]) -> None:
        for owner, value in zip(OWNERS, values, strict=True):
            self.create(owner, value)

    def create(self, owner: str, value: int) -> None:
        self.model.create(owner, value)
        self.held[owner] = torch.tensor([float(value)])
        self.made[self.model.owners[owner]] = self.held[owner]

    @rule(
        change=st.sampled_from(("create", "view", "drop", "give back", "give back")),
        owner=st.sampled_from(OWNERS),
        value=SMALL,
        data=st.data(),
    )
    def owner_changes(self, change: str, owner: str, value: int, data: st.DataObject) -> None:
        if change == "create":
            self.create(owner, value)
        elif change == "give back":
            taken = {block for o, block in self.model.owners.items() if o != owner}
            block = data.draw(st.sampled_from(sorted(set(self.made) - taken)))
            self.model.give_back(owner, block)
            self.held[owner] = self.made[block]
        elif owner in self.held and change == "view":
            # Another object on the same memory: no change of the block.
            self.held[owner] = self.held[owner].view(1)
        elif owner in self.held:
            self.model.drop(owner)
            del self.held[owner]
        # At once: rules are drawn so that few runs would replay between two changes.
        self.replay([value], 0)

    @rule(owner=st.sampled_from(OWNERS), value=SMALL)
    def write(self, owner: str, value: int) -> None:
        if owner in self.held:
            self.model.write(owner, value)
            self.held[owner].fill_(value)

    @rule(
        reads=SOME,
        writes=SOME,
        fault=st.sampled_from(("", "", "", "", "creates", "replaces", "host_reads")),
    )
    def capture(self, reads: tuple[str, ...], writes: tuple[str, ...], fault: str) -> None:
        name = next((n for n in ("g", "h") if n not in self.graphs), "")
        if not name:
            return
        reads = tuple(o for o in reads if o in self.held)
        writes = tuple(o for o in writes if o in self.held)
        if fault == "replaces" and "a" not in self.held:
            return
        held = self.held

        def work(x: Tensor) -> Tensor:
            if fault == "host_reads":
                x = x + x.tolist()[0]
            y = x + 0
            for o in reads:
                y = y + held[o]
            for o in writes:
                held[o].add_(x)
            if fault == "replaces":
                held["a"] = held["a"] + 0
            if fault == "creates":
                held["new"] = x * 2
            return y

        expected = self.model.capture(
            name, reads=reads, writes=writes, **({fault: True} if fault else {})
        )
        reason = ""
        try:
            graph = capture(work, torch.full((1,), 5.0), name=name)
        except CaptureRefused as refused:
            graph, reason = None, refused.reason
        if graph is None:
            assert expected == Refused(reason=reason)
            # What the function did to its owners in Python is not undone: do so here.
            held.pop("new", None)
            if fault == "replaces":
                held["a"] = self.made[self.model.owners["a"]]
            return
        assert not isinstance(expected, Refused)
        self.graphs[name] = graph

    @rule(values=st.lists(SMALL, min_size=1, max_size=3), poison=st.sampled_from((0, 0x5A, 0xC3)))
    def replay(self, values: list[int], poison: int) -> None:
        for name in sorted(self.graphs):
            for value in values:
                self.replay_once(name, value, poison)

    @rule(name=st.sampled_from(("g", "h")))
    def forget(self, name: str) -> None:
        self.graphs.pop(name, None)

    def replay_once(self, name: str, given_value: int, poison: int) -> None:
        graph = self.graphs[name]
        if poison:
            graph.poison(poison)
        expected = self.model.replay(name, given_value)
        owner, got = "", None
        try:
            got = graph.replay(torch.tensor([float(given_value)]))
        except StaleAddress as stale:
            owner = stale.owner
        if owner:
            assert isinstance(expected, Stale)
            assert owner in {f"held[{o!r}]" for o in expected.owners}
            return
        assert isinstance(expected, Returned)
        assert isinstance(got, Tensor)
        self.results.append((got, expected.value))

    @invariant()
    def results_are_kept(self) -> None:
        assert all(got.item() == value for got, value in self.results)

    @invariant()
    def memory_is_as_expected(self) -> None:
        assert {o: t.item() for o, t in self.held.items()} == {
            o: self.model.blocks[b] for o, b in self.model.owners.items()
        }


TestCaptures = Captures.TestCase
TestCaptures.settings = settings(max_examples=examples(40), stateful_step_count=25, deadline=None)


class PaddedReplays(RuleBasedStateMachine):
    SLOTS = 12

    @initialize(sizes=st.sets(st.integers(1, 6), min_size=1, max_size=3))
    def captured(self, sizes: set[int]) -> None:
        self.sizes = tuple(sorted(sizes))
        self.cache = torch.zeros(self.SLOTS)
        self.expected = dict.fromkeys(range(self.SLOTS), 0)
        n = max(sizes)
        self.graphs: BucketedGraphs = capture_buckets(
            self.write, torch.zeros(n), torch.full((n,), -1), sizes=sizes, padding=(0, -1)
        )

    def write(self, x: Tensor, slot: Tensor) -> Tensor:
        at = slot.clamp(min=0)
        self.cache.index_put_((at,), torch.where(slot >= 0, x, self.cache[at]))
        return x * 3

    @rule(rows=st.lists(SMALL, max_size=7), data=st.data())
    def replay(self, rows: list[int], data: st.DataObject) -> None:
        # Slot 0 lies in the null block, which no row owns.
        order = data.draw(st.permutations(range(1, self.SLOTS)))
        slots = [s if s % 4 else -1 for s in order[: len(rows)]]
        size = bucket(self.sizes, len(rows))
        inputs = torch.tensor(rows, dtype=torch.float32), torch.tensor(slots, dtype=torch.int64)
        try:
            got = self.graphs.replay(*inputs)
        except ReplayError:
            assert size is None
            return
        assert size is not None
        assert isinstance(got, Tensor)
        assert got.tolist() == [3 * v for v in rows]
        self.expected = cache_after(self.expected, padded(tuple(rows), tuple(slots), size))
        assert self.cache.tolist() == [self.expected[i] for i in range(self.SLOTS)]


TestPaddedReplays = PaddedReplays.TestCase
TestPaddedReplays.settings = settings(
    max_examples=examples(30), stateful_step_count=12, deadline=None
)
