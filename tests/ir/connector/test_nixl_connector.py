"""KV that one engine computed and another decodes from: both engines in this process."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch

from ir.connector import (
    EMPTY,
    ConnectorError,
    GraphMode,
    LifecycleError,
    ModelSize,
    NotStagedError,
    PagedModel,
    Runner,
    ScheduledRequest,
    Scheduler,
    SchedulerOutput,
    prepare,
    worker_step,
)
from ir.connector.nixl import NixlConnector, Prefilled, Role, TensorParallelModel, in_process
from ir.transfer import GeometryError, IncompatibleEnginesError
from ir.transfer.nixl import (
    Engine,
    HandshakeError,
    Network,
    PeerError,
    SideChannel,
    StillLandingError,
)

PROMPTS = {"r0": (1, 2, 3, 4, 5), "r1": (7, 8, 9, 10, 11, 12, 13, 14), "r2": (3, 3)}
TOKENS = 3
TP = [(1, 1), (2, 1), (1, 2), (4, 2), (2, 4)]


@dataclass(slots=True)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Side:
    """One engine: model, connector, scheduler, runner."""

    def __init__(
        self,
        name: str,
        role: Role,
        network: Network,
        *,
        tp: int = 1,
        size: ModelSize | None = None,
        mode: GraphMode = GraphMode.EAGER,
        **options,
    ) -> None:
        self.network = network
        self.connector = NixlConnector(
            name,
            model=options.pop("model", "m"),
            role=role,
            tp=tp,
            transport=in_process(network),
            **options,
        )
        size = size or ModelSize()
        self.model = TensorParallelModel(size, tp=tp, seed=1)
        self.runner = Runner(self.model, self.connector, mode, sizes=(1, 2, 4, 8, 16))
        self.runner.warm_up()
        self.scheduler = Scheduler(size, self.connector, rows=16)
        self.blocks: dict[str, tuple[int, ...]] = {}
        self.done: dict[str, list[int]] = {}
        self.failed: dict[str, str] = {}

    def step(self) -> None:
        output = self.scheduler.step()
        self.blocks.update({r.request: r.blocks for r in output.requests})
        result = self.runner.step(output)
        self.failed.update(result.failed)
        self.done.update(self.scheduler.update(result.tokens, result.failed))

    def serve(self) -> None:
        while not self.scheduler.idle:
            self.step()

    def kv(self, request: str, tokens: int) -> list[torch.Tensor]:
        """Each layer's KV of the first tokens, as it lies in the request's blocks."""
        size = self.model.size.block_size
        slots = [self.blocks[request][i // size] * size + i % size for i in range(tokens)]
        return [cache.flatten(1, 2)[:, slots].clone() for cache in self.model.caches.values()]

    def die(self) -> None:
        """As its peers see it when the process ends."""
        for name in [n for n in self.network.ports if n.startswith(f"{self.connector.engine_id}#")]:
            del self.network.ports[name]
        self.connector.close()


@dataclass(slots=True)
class Pair:
    p: Side
    d: Side

    def prefill(self, prompts=PROMPTS) -> dict[str, Prefilled]:
        for name, prompt in prompts.items():
            self.p.scheduler.add(name, prompt, tokens=1)
        self.p.serve()
        return {name: self.p.connector.offer(name, consumer="D") for name in prompts}

    def decode(self, offers: dict[str, Prefilled], prompts=PROMPTS) -> None:
        for prefilled in offers.values():
            self.d.connector.accept(prefilled)
        for name, prompt in prompts.items():
            self.d.scheduler.add(name, prompt, tokens=TOKENS)
        self.d.serve()


def make(p_tp: int = 1, d_tp: int = 1, **options) -> Pair:
    network = Network()
    p = Side("P", Role.PRODUCER, network, tp=p_tp, **options)
    d = Side("D", Role.CONSUMER, network, tp=d_tp, **options)
    assert d.connector.meet(p.connector.port) == "P"
    p.connector.progress()
    return Pair(p, d)


@pytest.fixture
def pair() -> Iterator[Pair]:
    both = make(2, 1)
    yield both
    for side in (both.p, both.d):
        side.connector.close()


@pytest.fixture(scope="module")
def expected() -> dict[str, list[int]]:
    """Tokens of one engine that does it all, without a connector."""
    return alone(PROMPTS)


def alone(prompts: dict[str, tuple[int, ...]]) -> dict[str, list[int]]:
    model = PagedModel(ModelSize(), seed=1)
    runner, scheduler = Runner(model), Scheduler(ModelSize(), None, rows=16)
    done: dict[str, list[int]] = {}
    for name, prompt in prompts.items():
        scheduler.add(name, prompt, tokens=TOKENS)
    while not scheduler.idle:
        result = runner.step(scheduler.step())
        # Ranks add in another order: no token may hang on a rounding.
        best = result.logits.topk(2).values
        assert bool((best[:, 0] - best[:, 1] > 1e-3).all())
        done.update(scheduler.update(result.tokens, result.failed))
    return done


@pytest.mark.parametrize("tp", TP, ids=lambda tp: f"{tp[0]}to{tp[1]}")
def test_the_consumer_gives_the_tokens_of_one_engine_from_the_producers_kv(tp, expected):
    both = make(*tp)
    offers = both.prefill()
    kv = {name: both.p.kv(name, len(prompt)) for name, prompt in PROMPTS.items()}
    both.decode(offers)
    assert (both.d.done, both.d.failed) == (expected, {})
    assert {name: tokens[0] for name, tokens in expected.items()} == {
        name: tokens[0] for name, tokens in both.p.done.items()
    }
    for name, prompt in PROMPTS.items():
        # The consumer computes the last token of a prompt again.
        got = both.d.kv(name, len(prompt) - 1)
        assert all(torch.equal(g, w[:, :-1]) for g, w in zip(got, kv[name], strict=True))
    both.p.connector.progress()
    both.p.step()


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_sharded_model_gives_the_logits_of_the_whole_one(tp: int):
    size = ModelSize()
    scheduler = Scheduler(size, None, rows=16)
    for name, prompt in PROMPTS.items():
        scheduler.add(name, prompt, tokens=1)
    output = scheduler.step()
    whole, sharded = PagedModel(size, seed=1), TensorParallelModel(size, tp=tp, seed=1)
    found = [Runner(model).step(output).logits for model in (whole, sharded)]
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-5)


def test_a_sharded_model_refuses_ranks_that_do_not_divide_its_heads():
    with pytest.raises(ConnectorError, match="tp is 3; accepted: a divisor of the 4 heads"):
        TensorParallelModel(ModelSize(), tp=3)


def free(side: Side) -> int:
    side.connector.progress()
    return side.connector.free_blocks


def test_every_block_comes_back_and_the_producer_reports_what_was_read(pair: Pair, expected):
    before = free(pair.p), free(pair.d)
    offers = pair.prefill()
    assert free(pair.p) == before[0] - 5
    pair.decode(offers)
    assert pair.d.done == expected
    assert (free(pair.p), free(pair.d)) == before
    assert pair.p.connector.news
    assert finished(pair.p).sent == PROMPTS.keys()
    assert not pair.p.connector.news
    assert finished(pair.p).sent == frozenset()
    assert not pair.p.connector.busy
    assert not pair.d.connector.busy


def finished(side: Side, output: SchedulerOutput = EMPTY, between=lambda: None):
    """What a step reports whose forward pass computes nothing."""
    layers = side.model.layers
    prepared = prepare(side.connector, output)
    between()
    with worker_step(side.connector, prepared, layers) as step:
        step.start_load_kv()
        step.begin_pass()
        for layer in layers:
            step.wait_for_layer_load(layer)
            step.save_kv_layer(layer, side.model.caches[layer])
        step.wait_for_save()
        return step.get_finished()


@pytest.mark.parametrize("when", ["before it is asked", "while it sends"])
def test_a_producer_that_dies_costs_its_requests_alone(pair: Pair, expected, when: str):
    prompts = {"r1": PROMPTS["r1"]}
    offers = pair.prefill(prompts)
    pair.d.connector.accept(offers["r1"])
    for name, prompt in PROMPTS.items():
        pair.d.scheduler.add(name, prompt, tokens=TOKENS)
    if when == "before it is asked":
        pair.p.die()
    else:
        die_at(pair.d.connector, pair.p.die)
    before = free(pair.d)
    pair.d.serve()
    assert pair.d.failed.keys() == {"r1"}
    assert "gone" in pair.d.failed["r1"]
    assert pair.d.done == {name: t for name, t in expected.items() if name != "r1"}
    assert free(pair.d) == before


def die_at(connector: NixlConnector, die) -> None:
    """Let the producer die when the consumer has begun to read."""
    begin = connector.start_load_kv

    def dying() -> None:
        begin()
        die()
        connector.__dict__.pop("start_load_kv")

    connector.__dict__["start_load_kv"] = dying


def test_data_that_lands_late_finds_nobody_in_its_blocks(expected):
    clock = Clock()
    both = make(clock=clock, seconds=2.0, lease=9.0)
    offers = both.prefill()
    ports = [p for n, p in both.d.network.ports.items() if n.startswith("D#")]
    for port in ports:
        port.lag = 10**9
    late = {"r1": PROMPTS["r1"]}
    both.d.connector.accept(offers["r1"])
    both.d.scheduler.add("r1", PROMPTS["r1"], tokens=TOKENS)
    die_at(both.d.connector, lambda: setattr(clock, "now", 2.5))
    before = free(both.d)
    both.d.step()
    assert both.d.failed == {"r1": "its deadline has passed"}
    # The request is over and its blocks in the caches are free, but not where its data may land.
    assert free(both.d) == before - 2
    assert both.d.connector.busy
    with pytest.raises(ConnectorError, match="close is called while data may land"):
        both.d.connector.close()
    computed = {name: prompt for name, prompt in PROMPTS.items() if name not in late}
    for name, prompt in computed.items():
        both.d.scheduler.add(name, prompt, tokens=TOKENS)
    both.d.step()
    for port in ports:
        port.lag = 0
    both.d.serve()
    assert both.d.done == {name: expected[name] for name in computed}
    assert free(both.d) == before


def test_kv_past_its_lease_is_computed_or_refused_and_never_read(expected):
    clock = Clock()
    both = make(clock=clock, lease=5.0)
    offers = both.prefill()
    both.d.connector.accept(offers["r0"])
    both.d.connector.accept(offers["r1"])
    both.d.scheduler.add("r1", PROMPTS["r1"], tokens=TOKENS)
    clock.now = 5.0
    both.d.scheduler.add("r0", PROMPTS["r0"], tokens=TOKENS)
    both.d.serve()
    # r1 was matched in time and read too late; r0 was not matched any more.
    assert list(both.d.failed) == ["r1"]
    assert "past its lease" in both.d.failed["r1"]
    assert both.d.done == {"r0": expected["r0"]}
    before = free(both.p)
    clock.now = 6.5
    assert free(both.p) == before + 5
    with pytest.raises(NotStagedError, match="staged KV of request 'r0' is not there"):
        both.p.connector.offer("r0", consumer="D")


def test_kv_whose_lease_ends_when_it_is_scheduled_is_not_read():
    clock = Clock()
    both = make(clock=clock, lease=5.0)
    offers = both.prefill()
    both.d.connector.accept(offers["r1"])
    both.d.scheduler.add("r1", PROMPTS["r1"], tokens=TOKENS)
    output = both.d.scheduler.step()
    found = finished(both.d, output, lambda: setattr(clock, "now", 5.5))
    assert list(found.failed) == ["r1"]
    assert "0.5 seconds past its lease" in found.failed["r1"]


def test_blocks_of_a_consumer_that_is_gone_come_back_and_are_not_reported_as_sent(pair: Pair):
    before = free(pair.p)
    pair.prefill()
    pair.d.die()
    deadline = time.monotonic() + 10
    while free(pair.p) != before:
        assert time.monotonic() < deadline
    assert finished(pair.p).sent == frozenset()


def test_a_hand_over_that_names_other_blocks_fails_alone(pair: Pair, expected):
    offers = pair.prefill()
    before = free(pair.d)
    offers["r1"] = replace(offers["r1"], blocks=(1, 999))
    pair.decode(offers)
    assert list(pair.d.failed) == ["r1"]
    assert "producer blocks of full attention is 1 to 999" in pair.d.failed["r1"]
    assert pair.d.done == {name: t for name, t in expected.items() if name != "r1"}
    assert free(pair.d) == before


def test_what_failed_to_load_is_not_saved():
    network = Network()
    p, d = Side("P", Role.PRODUCER, network), Side("D", Role.BOTH, network)
    d.connector.meet(p.connector.port)
    p.connector.progress()
    offers = Pair(p, d).prefill({"r1": PROMPTS["r1"]})
    before = free(d)
    for life, failed in (("another", {"r1"}), (offers["r1"].life, set())):
        d.connector.accept(replace(offers["r1"], life=life))
        request = ScheduledRequest(
            request="r1", prompt=PROMPTS["r1"], tokens=(), start=8, blocks=(1, 2, 3), load=8, save=8
        )
        found = finished(d, SchedulerOutput(step=0, requests=(request,)))
        assert found.failed.keys() == failed
        assert found.received == {"r1"} - failed
        assert free(d) == before - (0 if failed else 2)


def test_kv_that_nobody_is_offered_is_kept_for_its_lease_alone():
    clock = Clock()
    both = make(clock=clock, lease=5.0)
    before = free(both.p)
    both.p.scheduler.add("r0", PROMPTS["r0"], tokens=1)
    both.p.serve()
    assert free(both.p) == before - 2
    clock.now = 5.1
    assert free(both.p) == before


def test_kv_of_an_earlier_process_is_not_read_from_the_next_of_its_name(pair: Pair, expected):
    offers = pair.prefill()
    for prefilled in offers.values():
        pair.d.connector.accept(prefilled)
    pair.p.die()
    again = Side("P", Role.PRODUCER, pair.p.network, tp=2)
    assert pair.d.connector.meet(again.connector.port) == "P"
    again.connector.progress()
    for name, prompt in PROMPTS.items():
        pair.d.scheduler.add(name, prompt, tokens=TOKENS)
    pair.d.serve()
    assert pair.d.failed.keys() == PROMPTS.keys()
    assert all("of an earlier process of that name" in why for why in pair.d.failed.values())
    pair.p = again
    pair.d.blocks.clear()
    pair.decode(pair.prefill())
    assert pair.d.done == expected


def test_one_offer_serves_one_of_two_requests_and_the_other_is_computed(pair: Pair, expected):
    longer = (*PROMPTS["r0"], 6, 7)
    prompts = {"r0": PROMPTS["r0"], "twin": PROMPTS["r0"], "longer": longer}
    offers = pair.prefill({"r0": PROMPTS["r0"]})
    for prefilled in offers.values():
        pair.d.connector.accept(prefilled)
    for name, prompt in prompts.items():
        pair.d.scheduler.add(name, prompt, tokens=TOKENS)
    output = pair.d.scheduler.step()
    loads = {r.request: r.load for r in output.requests}
    assert {name: loads.get(name, 0) for name in prompts} == {"r0": 5, "twin": 0, "longer": 0}
    pair.d.scheduler.update(pair.d.runner.step(output).tokens, {})
    pair.d.serve()
    assert (pair.d.done, pair.d.failed) == (alone(prompts), {})
    assert pair.d.done["twin"] == expected["r0"]


def test_each_of_two_requests_with_a_prompt_has_its_own_offer(pair: Pair, expected):
    prompts = {"r0": PROMPTS["r0"], "twin": PROMPTS["r0"]}
    pair.decode(pair.prefill(prompts), prompts)
    assert (pair.d.done, pair.d.failed) == ({name: expected["r0"] for name in prompts}, {})
    pair.p.connector.progress()
    assert finished(pair.p).sent == prompts.keys()


def test_who_claims_nothing_gives_one_offer_to_who_comes_first(pair: Pair):
    offers = pair.prefill({"r0": PROMPTS["r0"]})
    pair.d.connector.accept(offers["r0"])
    requests = tuple(
        ScheduledRequest(
            request=name, prompt=PROMPTS["r0"], tokens=(), start=5, blocks=blocks, load=5
        )
        for name, blocks in (("first", (1, 2)), ("second", (3, 4)))
    )
    found = finished(pair.d, SchedulerOutput(step=0, requests=requests))
    assert found.received == {"first"}
    assert list(found.failed) == ["second"]
    assert "prefilled KV of request 'second' is taken" in found.failed["second"]


def test_an_engine_that_reads_nothing_accepts_nothing(pair: Pair):
    offers = pair.prefill({"r0": PROMPTS["r0"]})
    refusal = "the role of engine 'P' is producer; accepted: consumer or both"
    with pytest.raises(ConnectorError, match=refusal):
        pair.p.connector.accept(offers["r0"])


def test_a_longer_prompt_loads_what_it_begins_with(pair: Pair):
    longer = {"r0": (*PROMPTS["r0"], 6, 7)}
    offers = pair.prefill({"r0": PROMPTS["r0"]})
    pair.decode(offers, longer)
    assert pair.d.done == alone(longer)


def test_what_has_no_room_to_be_staged_has_its_tokens_and_no_offer(expected):
    both = make(blocks=2)
    for name in ("r1", "r2"):
        both.p.scheduler.add(name, PROMPTS[name], tokens=1)
    both.p.serve()
    assert both.p.done == {name: expected[name][:1] for name in ("r1", "r2")}
    both.p.connector.offer("r1", consumer="D")
    with pytest.raises(
        NotStagedError, match=r"request 'r2' is not there .*; accepted: one of \[\]"
    ):
        both.p.connector.offer("r2", consumer="D")


def test_what_has_no_room_to_land_fails_alone(expected):
    network = Network()
    p = Side("P", Role.PRODUCER, network)
    d = Side("D", Role.CONSUMER, network, blocks=3)
    d.connector.meet(p.connector.port)
    p.connector.progress()
    both = Pair(p, d)
    both.decode(both.prefill())
    assert list(d.failed) == ["r1"]
    assert "request 'r1' is 2; accepted: at most 1" in d.failed["r1"]
    assert d.done == {name: t for name, t in expected.items() if name != "r1"}


@pytest.mark.parametrize("mode", [GraphMode.PIECEWISE, GraphMode.FULL])
def test_graphs_serve_as_eager_does_and_full_gives_way(mode: GraphMode, expected):
    both = make(2, 1, mode=mode)
    assert both.d.runner.mode is GraphMode.PIECEWISE
    both.decode(both.prefill())
    assert (both.d.done, both.d.failed) == (expected, {})


def test_a_dummy_run_moves_nothing(pair: Pair):
    offers = pair.prefill()
    for prefilled in offers.values():
        pair.d.connector.accept(prefilled)
    before = [c.clone() for c in pair.d.model.caches.values()]
    blocks = free(pair.d)
    pair.d.runner.dummy_run(3)
    after = pair.d.model.caches.values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert free(pair.d) == blocks
    assert pair.d.connector.matched_tokens(PROMPTS["r1"]) == 8


def test_engines_with_unlike_blocks_exchange_kv(expected):
    network = Network()
    p = Side("P", Role.PRODUCER, network, tp=2)
    d = Side("D", Role.CONSUMER, network, size=ModelSize(block_size=8, blocks_per_request=2))
    d.connector.meet(p.connector.port)
    p.connector.progress()
    both = Pair(p, d)
    both.decode(both.prefill())
    assert (d.done, d.failed) == (expected, {})


@pytest.mark.parametrize(
    "options",
    [{"model": "other"}, {"size": ModelSize(hidden=64)}, {"size": ModelSize(layers=2)}],
    ids=["name", "head size", "layers"],
)
def test_an_unlike_model_is_refused_when_engines_meet(options):
    network = Network()
    p = Side("P", Role.PRODUCER, network)
    d = Side("D", Role.CONSUMER, network, **options)
    with pytest.raises(IncompatibleEnginesError) as refused:
        d.connector.meet(p.connector.port)
    assert "differ in model" in str(refused.value)


def test_nobody_at_a_port_is_refused_when_engines_meet(pair: Pair):
    pair.p.die()
    with pytest.raises(HandshakeError, match="accepted: a greeting in time"):
        pair.d.connector.meet(pair.p.connector.port)


def landing(**options) -> Pair:
    """A pair whose consumer has given up a read that does not end, and the producer's next life."""
    both = make(**options)
    offers = both.prefill({"r1": PROMPTS["r1"]})
    for port in both.d.network.ports.values():
        port.lag = 10**9
    both.decode(offers, {"r1": PROMPTS["r1"]})
    assert both.d.failed == {"r1": "its deadline has passed"}
    both.p.connector.close()
    return Pair(Side("P", Role.PRODUCER, both.d.network), both.d)


def test_waiting_for_an_earlier_lifes_data_costs_neither_lines_nor_threads():
    both = landing(seconds=0.3)
    before = threading.active_count()
    with pytest.raises(StillLandingError, match="got a new life; accepted: one once the old"):
        both.d.connector.meet(both.p.connector.port)
    # One call's thread, and that which answers it, may be about to end.
    assert threading.active_count() <= before + 2


def test_a_new_life_is_met_as_soon_as_the_earlier_ones_data_has_landed(monkeypatch, expected):
    both = landing(seconds=1.0)
    calls = []
    called = SideChannel.call

    def call(channel: SideChannel, port: int, *, seconds: float) -> None:
        calls.append(port)
        called(channel, port, seconds=seconds)

    answered = Engine.answer

    def answer(engine: Engine, port: int) -> str | None:
        try:
            return answered(engine, port)
        except StillLandingError:
            both.d.network.ports["D#0"].lag = 0
            raise

    monkeypatch.setattr(SideChannel, "call", call)
    monkeypatch.setattr(Engine, "answer", answer)
    assert both.d.connector.meet(both.p.connector.port) == "P"
    assert calls == [both.p.connector.port] * 2
    both.p.connector.progress()
    both.decode(both.prefill())
    assert both.d.done == expected


def test_an_offer_is_for_a_consumer_that_was_met(pair: Pair):
    pair.prefill({"r0": PROMPTS["r0"]})
    pair.p.scheduler.add("again", PROMPTS["r0"], tokens=1)
    pair.p.serve()
    with pytest.raises(PeerError, match=r"peer 'E' is unknown; accepted: one of \['D'\]"):
        pair.p.connector.offer("again", consumer="E")
    assert pair.p.connector.offer("again", consumer="D").tokens == PROMPTS["r0"]


def test_a_step_that_fails_gives_its_blocks_back(pair: Pair, expected):
    before = free(pair.p), free(pair.d)
    pair.p.scheduler.add("r0", PROMPTS["r0"], tokens=1)
    broken = pair.p.scheduler.step()
    with pytest.raises(LifecycleError), stepping(pair.p, broken) as step:
        step.wait_for_save()
    assert free(pair.p) == before[0]
    offers = pair.prefill({"r1": PROMPTS["r1"]})
    pair.d.connector.accept(offers["r1"])
    pair.d.scheduler.add("r1", PROMPTS["r1"], tokens=TOKENS)
    with pytest.raises(LifecycleError), stepping(pair.d, pair.d.scheduler.step()) as step:
        step.wait_for_save()
    while pair.d.connector.busy:
        pair.d.connector.progress()
    assert free(pair.d) == before[1]
    assert (pair.d.done, pair.d.failed) == ({}, {})


def stepping(side: Side, output):
    opened = worker_step(side.connector, prepare(side.connector, output), side.model.layers)

    class Started:
        def __enter__(self):
            step = opened.__enter__()
            step.start_load_kv()
            return step

        def __exit__(self, *error):
            return opened.__exit__(*error)

    return Started()


def test_calls_out_of_turn_are_refused(pair: Pair):
    connector = pair.d.connector
    with pytest.raises(LifecycleError, match="register_kv_caches is called twice"):
        connector.register_kv_caches(pair.d.model.caches)
    with pytest.raises(LifecycleError, match="start_load_kv is called with nothing bound"):
        connector.start_load_kv()
    with pytest.raises(LifecycleError, match="accepted: NixlMetadata"):
        connector.bind_connector_metadata({})
    fresh = NixlConnector("E", model="m", transport=in_process(Network()))
    with pytest.raises(LifecycleError, match="meet is called without caches"):
        fresh.meet(1)
    fresh.close()


def test_heads_that_ranks_cannot_divide_are_refused_when_caches_are_known():
    connector = NixlConnector("E", model="m", tp=3, transport=in_process(Network()))
    with pytest.raises(GeometryError, match="a divisor of the 4 query heads"):
        connector.register_kv_caches(PagedModel(ModelSize()).caches)
    with pytest.raises(ConnectorError, match="the caches of the layers is"):
        connector.register_kv_caches({"layer.0": torch.zeros(2, 3), "layer.1": torch.zeros(2, 4)})
    connector.close()
