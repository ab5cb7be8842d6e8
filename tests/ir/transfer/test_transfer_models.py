"""Real models: the check values of their sizes, and a plan for every pair of ranks they admit."""

from itertools import product
from typing import Any

import pytest

import reference.transfer as rt
from fuzz.catalogue.geometries import ModelGeometry, geometries
from ir.transfer import (
    CacheGroup,
    EngineGeometry,
    EngineTransferPlan,
    GeometryError,
    IncompatibleEnginesError,
    ModelCache,
    Placement,
    blocks_per_state,
    check_engines,
    plan_transfer,
)
from ir.transfer import groups as make

MODELS = {model.name: model for model in geometries()}
TOKENS = 16


def _group(kind: str, layers: tuple[int, ...], sizes: dict[str, Any]) -> CacheGroup:
    match kind:
        case "full" | "sliding":
            return make.attention(layers, **sizes)
        case "mla":
            return make.latent(layers, **sizes)
        case "mamba2":
            return make.mamba2(layers, **sizes)
        case _:
            return make.gated_delta_net(layers, **sizes)


def _cache(model: ModelGeometry) -> ModelCache:
    groups = tuple(_group(g.kind, g.layers, dict(g.sizes)) for g in model.groups)
    return ModelCache(model.name, model.query_heads, groups)


def _engine(name: str, cache: ModelCache, tp: int) -> EngineGeometry:
    return EngineGeometry(
        engine_id=name,
        model=cache,
        tp=tp,
        num_blocks=3,
        block_tokens=TOKENS * blocks_per_state(cache, tp=tp, kernel_tokens=TOKENS),
        kernel_tokens=TOKENS,
        placement=Placement.BLOCKS_FIRST,
        shares_tensors=cache.has_states,
    )


def test_a_state_of_nemotron_takes_131_blocks_at_tp_4_and_261_at_tp_1():
    cache = _cache(MODELS["Nemotron-3-Nano-30B"])
    *convolution, _ = next(g for g in cache.groups if g.kind.is_state).parts
    assert sum(part.units * part.unit_bytes for part in convolution) == 36_864
    assert blocks_per_state(cache, tp=4, kernel_tokens=16) == 131
    assert blocks_per_state(cache, tp=1, kernel_tokens=16) == 261


def test_a_model_without_states_needs_one_block():
    assert blocks_per_state(_cache(MODELS["Llama-3.1-8B"]), tp=1, kernel_tokens=16) == 1


def test_the_layers_are_those_of_the_models():
    counts = {
        model.name: [(group.kind, len(group.layers)) for group in model.groups]
        for model in geometries()
    }
    assert counts == {
        "Llama-3.1-8B": [("full", 32)],
        "Llama-3.1-70B": [("full", 80)],
        "Qwen3-30B-A3B": [("full", 48)],
        "Qwen3-Next-80B-A3B": [("full", 12), ("gdn", 36)],
        "DeepSeek-V3": [("mla", 61)],
        "Gemma-3-27B": [("full", 10), ("sliding", 52)],
        "gpt-oss-120b": [("full", 18), ("sliding", 18)],
        "Nemotron-3-Nano-30B": [("full", 6), ("mamba2", 23)],
    }
    nemotron = MODELS["Nemotron-3-Nano-30B"]
    assert nemotron.groups[0].layers == (5, 12, 19, 26, 33, 42)
    assert all("config.json of " in model.source for model in geometries())


@pytest.mark.parametrize("name", MODELS)
def test_both_sides_have_the_same_parts(name: str):
    ours = _cache(MODELS[name]).groups
    for group, theirs in zip(ours, MODELS[name].groups, strict=True):
        cached = theirs.cached()
        assert (cached.is_state, cached.window) == (group.kind.is_state, group.window)
        assert [(p.name, p.units, p.unit_bytes) for p in cached.parts] == [
            (p.name, p.units, p.unit_bytes) for p in group.parts
        ]


def _admitted(cache: ModelCache, limit: int) -> set[tuple[int, int]]:
    found = set()
    for p, d in product(range(1, limit + 1), repeat=2):
        try:
            check_engines(_engine("P", cache, p), _engine("D", cache, d))
        except (GeometryError, IncompatibleEnginesError):
            continue
        found.add((p, d))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_pairs_planned_are_the_pairs_admitted(name: str):
    admitted = rt.admitted_pairs(name, up_to=16)
    assert len(admitted) == 25
    assert _admitted(_cache(MODELS[name]), 16) == set(admitted)


def _bases(engine: EngineGeometry, stage: int) -> tuple[int, ...]:
    found, at = [], 1 << 32
    for stride in engine.page_strides(stage):
        found.append(at)
        at += stride * engine.num_blocks
    return tuple(found)


def _bytes_written(plan: EngineTransferPlan) -> int:
    """Bytes of all blocks of the consumer's rows: what one rank reads to fill its memory."""
    rows = [channel.consumer_rows for channel in plan.channels]
    return sum(int((r[:, 1] * r[:, 4]).sum()) for r in rows)


def _bytes_held(model: ModelGeometry, tp: int, block_tokens: int, blocks: int) -> int:
    """Bytes of all pages of one rank of a model, by definition."""
    total = 0
    for group in model.groups:
        cached = group.cached()
        per_page = sum(max(1, p.units // tp) * p.unit_bytes for p in cached.parts)
        positions = 1 if cached.is_state else block_tokens
        total += per_page * positions * len(group.layers)
    return total * blocks


@pytest.mark.parametrize("name", MODELS)
def test_every_admitted_pair_fills_the_whole_of_each_rank(name: str):
    model, cache = MODELS[name], _cache(MODELS[name])
    for p, d in rt.admitted_pairs(name, up_to=16):
        producer, consumer = _engine("P", cache, p), _engine("D", cache, d)
        theirs = {worker: _bases(producer, worker.stage) for worker in producer.workers}
        held = _bytes_held(model, d, consumer.block_tokens, consumer.num_blocks)
        for worker in {consumer.workers[0], consumer.workers[-1]}:
            plan = plan_transfer(
                producer,
                consumer,
                worker,
                producer_bases=theirs,
                consumer_bases=_bases(consumer, worker.stage),
            )
            assert _bytes_written(plan) == held
