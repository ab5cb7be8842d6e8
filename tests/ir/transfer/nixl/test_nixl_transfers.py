"""Engines in processes of their own exchange random caches, byte for byte, over both transports."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from ir.transfer import IncompatibleEnginesError
from ir.transfer.nixl import Fault, Status

CASES = 24

SHAPES = {
    "more producers": lambda s: s.producer.tp > s.consumer.tp,
    "more consumers": lambda s: s.producer.tp < s.consumer.tp,
    "latent": lambda s: any(g.kind.name == "MLA" for g in s.producer.model.groups),
    "mamba-1": lambda s: any(g.kind.name == "MAMBA1" for g in s.producer.model.groups),
    "mamba-2": lambda s: any(g.kind.name == "MAMBA2" for g in s.producer.model.groups),
    "gated delta net": lambda s: any(g.kind.name == "GDN" for g in s.producer.model.groups),
    "sliding window": lambda s: any(g.window is not None for g in s.producer.model.groups),
    "partial hit": lambda s: 0 < s.request.cached_tokens < s.request.prompt_tokens,
    "full hit": lambda s: s.request.cached_tokens == s.request.prompt_tokens,
    "full hit, attention alone": lambda s: (
        s.request.cached_tokens == s.request.prompt_tokens and not s.producer.model.has_states
    ),
    "stages differ": lambda s: s.producer.stage_layers != s.consumer.stage_layers,
    "kernels differ": lambda s: s.producer.kernel_tokens != s.consumer.kernel_tokens,
    "tensors shared": lambda s: s.producer.shares_tensors,
}


@pytest.mark.slow
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_every_byte_lands_where_the_reference_says(transfers, engines, cluster, push: bool):
    failed = {}
    for seed in range(CASES):
        scenario = transfers.random_scenario(seed)
        outcome = engines.run(cluster, scenario, push=push)
        if found := engines.faults_of(scenario, outcome, Fault.NONE):
            failed[seed] = found
    assert failed == {}


@pytest.mark.slow
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_each_shape_of_transfer_lands(transfers, engines, cluster, push: bool):
    failed = {}
    for name, has in SHAPES.items():
        scenario = next(s for i in count(100) if has(s := transfers.random_scenario(i)))
        outcome = engines.run(cluster, scenario, push=push)
        if found := engines.faults_of(scenario, outcome, Fault.NONE):
            failed[name] = found
    assert failed == {}


@pytest.mark.slow
def test_a_full_hit_moves_nothing_and_frees_the_producers_blocks(transfers, engines, cluster):
    has = SHAPES["full hit, attention alone"]
    scenario = next(s for i in count(100) if has(s := transfers.random_scenario(i)))
    outcome = engines.run(cluster, scenario)
    assert outcome.first.status is Status.DONE
    assert all((t == engines.sentinel).all() for of in outcome.memory.values() for t in of)
    assert engines.sent(outcome) == engines.notices(scenario)
    assert all(name == scenario.request.producer_request for *_, name in outcome.notified)
    assert outcome.freed == {scenario.request.producer_request: True}


@pytest.mark.slow
def test_engines_that_cannot_exchange_are_refused_when_they_meet(transfers, engines, cluster):
    scenario = next(
        s for i in count(100) if (s := transfers.random_scenario(i)).consumer.kernel_tokens == 2
    )
    other = replace(scenario.producer, kernel_tokens=3, block_tokens=3)
    memory = {
        worker: tuple(
            np.zeros((other.num_blocks, stride), dtype=np.uint8)
            for stride in other.page_strides(worker.stage)
        )
        for worker in other.workers
    }
    with pytest.raises(IncompatibleEnginesError, match=r"'P' and consumer 'D' .*kernel_tokens"):
        cluster.run(other, scenario.consumer, scenario.request, memory)
    outcome = engines.run(cluster, scenario)
    assert engines.faults_of(scenario, outcome, Fault.NONE) == []


@pytest.mark.slow
@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_a_refused_request_moves_nothing_and_frees_its_blocks(
    transfers, engines, cluster, push: bool
):
    scenario = transfers.random_scenario(0)
    beyond = tuple(
        tuple(scenario.consumer.num_blocks for _ in of) for of in scenario.request.consumer_blocks
    )
    bad = replace(scenario, request=replace(scenario.request, consumer_blocks=beyond))
    outcome = engines.run(cluster, bad, push=push)
    assert outcome.first.status is Status.REFUSED
    assert f"accepted: 0 to {scenario.consumer.num_blocks - 1}" in outcome.first.error
    assert all((t == engines.sentinel).all() for of in outcome.memory.values() for t in of)
    assert outcome.notified == {}
    assert outcome.freed == {scenario.request.producer_request: True}
    outcome = engines.run(cluster, scenario, push=push)
    assert engines.faults_of(scenario, outcome, Fault.NONE) == []
