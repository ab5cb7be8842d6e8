"""Connectors, steps and runners do what the reference's model of their life says."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor

from fuzz.profiles import examples
from ir.connector import (
    FileConnector,
    GraphMode,
    GraphPolicy,
    LifecycleError,
    ModelSize,
    PagedModel,
    PolicyError,
    Runner,
    ScheduledRequest,
    SchedulerOutput,
    StagedFileConnector,
    graph_mode,
    prepare,
    worker_step,
)
from ir.connector.batch import PADDING, batch_of
from ir.connector.store import entry_key
from reference.connector import Caches, Call, Mode, Request, Step, mode

LAYERS = ("layer.0", "layer.1")
CACHE = torch.zeros(2, 2, 4, 1, 2)
REAL = SchedulerOutput(
    step=0,
    requests=(ScheduledRequest(request="r", prompt=(1,), tokens=(1,), start=0, blocks=(1,)),),
)
CALLS = st.tuples(st.sampled_from(Call), st.integers(0, 1))


def whole_pass() -> list[tuple[Call, int]]:
    return [(call, i) for i in range(2) for call in (Call.LOAD, Call.SAVE)]


# Sequences that are mostly right, so that late calls are reached too.
SEQUENCES = st.lists(
    st.one_of(
        CALLS.map(lambda c: [c]),
        st.just([(Call.START, 0), (Call.PASS, 0), *whole_pass()]),
        st.just([(Call.PASS, 0), *whole_pass()]),
        st.just([(Call.WAIT, 0), (Call.FINISHED, 0)]),
    ),
    max_size=6,
).map(lambda parts: [c for part in parts for c in part])


@settings(max_examples=examples(300), deadline=None)
@given(calls=SEQUENCES, dummy=st.booleans(), captured=st.booleans())
def test_a_step_admits_exactly_the_calls_that_the_reference_admits(
    noting, calls: list[tuple[Call, int]], dummy: bool, captured: bool
):
    connector = noting(GraphPolicy.CAPTURED if captured else GraphPolicy.PIECEWISE)
    model = Step(layers=2, dummy=dummy, captured=captured)
    prepared = prepare(connector) if dummy else prepare(connector, REAL)
    refused_end = False
    try:
        with worker_step(connector, prepared, LAYERS) as step:
            for call, layer in calls:
                admitted = model.admits(call, layer)
                try:
                    if call is Call.LOAD:
                        step.wait_for_layer_load(LAYERS[layer])
                    elif call is Call.SAVE:
                        step.save_kv_layer(LAYERS[layer], CACHE)
                    else:
                        getattr(step, call.value)()
                except LifecycleError:
                    assert not admitted, (call, layer)
                else:
                    assert admitted, (call, layer)
                    model.call(call, layer)
    except LifecycleError:
        refused_end = True
    assert refused_end is not model.whole
    assert connector.bound is None


@pytest.mark.parametrize("asked", list(GraphMode))
@pytest.mark.parametrize("policy", [None, *GraphPolicy])
def test_the_mode_follows_the_reference(noting, policy: GraphPolicy | None, asked: GraphMode):
    expected = mode(None if policy is None else policy.value, Mode(asked.value))
    if expected is None:
        with pytest.raises(PolicyError):
            graph_mode(noting(policy), asked)
    else:
        assert graph_mode(noting(policy), asked).value == expected.value


SIZE = ModelSize(layers=2, blocks=8, blocks_per_request=2)


class Serving(RuleBasedStateMachine):
    """Real and dummy steps of one runner, beside the reference's caches and eager's bytes.

    What a step loads must be, byte for byte, what an earlier one saved; what it computes, what
    eager computes on the same rows and caches.
    """

    connector_class: type = FileConnector
    asked = GraphMode.FULL

    @initialize()
    def warmed_up(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="irverify-kv-"))
        self.connector = self.connector_class(self.root, model="m", block_size=4)
        self.runner = Runner(PagedModel(SIZE, seed=2), self.connector, self.asked, (4, 8))
        self.eager = Runner(PagedModel(SIZE, seed=2))
        self.caches = Caches(block_size=4)
        self.saved: dict[tuple[int, ...], list[Tensor]] = {}
        self.runner.warm_up()
        self.steps = 0

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def kv(self, runner: Runner) -> list[Tensor]:
        """The caches by slot."""
        return [c.flatten(1, 2) for c in runner.model.caches.values()]

    def expect(self, output: SchedulerOutput, failed: dict[str, str]) -> None:
        """Bring eager's caches to what the runner's must be after the step."""
        for r in output.requests:
            if r.load and r.request not in failed:
                slots = [self.caches.slot(r.blocks, i) for i in range(r.load)]
                for cache, kept in zip(
                    self.kv(self.eager), self.saved[r.prompt[: r.load]], strict=True
                ):
                    cache[:, slots] = kept
        rows = batch_of(output, SIZE).tensors
        more = 0
        if self.runner.mode is not GraphMode.EAGER:
            more = next(s for s in self.runner.sizes if s >= rows[0].shape[0]) - rows[0].shape[0]
        self.eager._forward(
            *(
                torch.cat((t, torch.full((more, *t.shape[1:]), pad)))
                for t, pad in zip(rows, PADDING, strict=True)
            )
        )

    def check_memory(self) -> None:
        pairs = list(zip(self.kv(self.runner), self.kv(self.eager), strict=True))
        assert all(torch.equal(got, expected) for got, expected in pairs)
        empty = [s for s in range(SIZE.blocks * 4) if s not in self.caches.slots]
        assert all(not got[:, empty].any() for got, _ in pairs)

    @rule(
        prompts=st.lists(
            st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
            min_size=1,
            max_size=2,
        ),
        lose=st.booleans(),
    )
    def step(self, prompts: list[tuple[int, ...]], lose: bool) -> None:
        real: list[ScheduledRequest] = []
        model: list[Request] = []
        for i, prompt in enumerate(prompts):
            load = self.caches.matched(prompt)
            assert self.connector.matched_tokens(prompt) == load
            start = min(load, len(prompt) - 1)
            blocks = (2 * i + 1, 2 * i + 2)
            save = 0 if load else len(prompt)
            real.append(
                ScheduledRequest(
                    request=f"r{i}",
                    prompt=prompt,
                    tokens=prompt[start:],
                    start=start,
                    blocks=blocks,
                    load=load,
                    save=save,
                )
            )
            model.append(
                Request(
                    name=f"r{i}",
                    prompt=prompt,
                    before=prompt[:start],
                    tokens=prompt[start:],
                    blocks=blocks,
                    load=load,
                    save=save,
                )
            )
        if lose and self.caches.store:
            # Between scheduling and loading; its reader must fail, and nobody else.
            _, lost = next(iter(self.caches.store))
            if all(r.load == 0 or r.prompt[: r.load] != lost for r in model[1:]):
                self.lose(lost)
        output = SchedulerOutput(step=self.steps, requests=tuple(real))
        self.steps += 1
        result = self.runner.step(output)
        assert set(result.failed) == set(self.caches.step(tuple(model)))
        assert set(result.tokens) == {r.request for r in real} - set(result.failed)
        self.expect(output, dict(result.failed))
        self.check_memory()
        for prefix in {tokens for _, tokens in self.caches.store} - self.saved.keys():
            saver = next(r for r in real if r.prompt[: len(prefix)] == prefix)
            slots = [self.caches.slot(saver.blocks, i) for i in range(len(prefix))]
            self.saved[prefix] = [cache[:, slots].clone() for cache in self.kv(self.runner)]

    def lose(self, prefix: tuple[int, ...]) -> None:
        del self.caches.store[self.caches.entry(prefix)], self.saved[prefix]
        self.connector.store.path(entry_key("m", prefix)).unlink()

    @precondition(lambda self: hasattr(self, "runner"))
    @rule(rows=st.integers(1, 8))
    def dummy(self, rows: int) -> None:
        files = sorted(p.name for p in self.root.iterdir())
        before = [c.clone() for c in self.runner.model.caches.values()]
        self.runner.dummy_run(rows)
        assert self.caches.step(()) == {}
        after = self.runner.model.caches.values()
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert sorted(p.name for p in self.root.iterdir()) == files


class StagedServing(Serving):
    connector_class = StagedFileConnector


class EagerServing(Serving):
    asked = GraphMode.EAGER


TestServing = pytest.mark.slow(Serving.TestCase)
TestStagedServing = pytest.mark.slow(StagedServing.TestCase)
TestEagerServing = EagerServing.TestCase
for case in (TestServing, TestStagedServing, TestEagerServing):
    case.settings = settings(max_examples=examples(6), stateful_step_count=8, deadline=None)
