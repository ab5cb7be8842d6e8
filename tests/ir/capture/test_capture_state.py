"""Stateful ops in captured graphs: the state moves on at each replay, in place, and is owned."""

import pytest
import torch
from torch import Tensor

import ir
from ir.capture import CaptureRefused, StaleAddress, capture
from ir.ops.kv_cache import KV_CACHE, configure_kv_cache
from ir.state import SealedError, ir_state

HISTORY = "fp8_amax_history"
LAYERS = ("a", "b")


@pytest.fixture(autouse=True)
def _fresh_states():
    ir_state.discard()
    yield
    ir_state.discard()


def quantized(x: Tensor) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    for layer in LAYERS:
        with ir.scope(layer=layer):
            found += ir.ops.quant_fp8_delayed(x * (1 + len(found)))
    return tuple(found)


def same(a: object, b: tuple[Tensor, ...]) -> bool:
    return isinstance(a, tuple) and all(
        torch.equal(x.to(torch.float32), y.to(torch.float32)) for x, y in zip(a, b, strict=True)
    )


def test_a_hundred_replays_are_a_hundred_eager_steps_with_stable_addresses():
    inputs = [torch.randn(3, 8) * (1 + i % 7) for i in range(100)]
    expected = [quantized(x) for x in inputs]
    ir_state.discard()
    quantized(torch.ones(3, 8))
    for layer in LAYERS:
        state = ir_state.get(HISTORY, (layer, None))
        state["amax"].zero_()
        state["next"].zero_()
    addresses = [ir_state.get(HISTORY, (layer, None))["amax"].data_ptr() for layer in LAYERS]
    graph = capture(quantized, torch.ones(3, 8))
    graph.seal()
    try:
        assert all(same(graph.replay(x), e) for x, e in zip(inputs, expected, strict=True))
        assert addresses == [
            ir_state.get(HISTORY, (layer, None))["amax"].data_ptr() for layer in LAYERS
        ]
        with pytest.raises(SealedError, match="quantized"), ir.scope(layer="c"):
            ir.ops.quant_fp8_delayed(torch.ones(1, 8))
    finally:
        graph.release()


def test_state_made_while_a_function_is_captured_is_refused():
    with pytest.raises(CaptureRefused) as refused:
        capture(quantized, torch.ones(3, 8))
    assert refused.value.reason == "state-created"
    assert HISTORY in refused.value.what


def test_state_that_was_replaced_stops_the_replay_and_is_named():
    quantized(torch.ones(3, 8))
    graph = capture(quantized, torch.ones(3, 8))
    owners = {e.owner for e in graph.ledger.entries if e.kind == "state"}
    assert len(owners) == 4
    ir_state.discard(HISTORY)
    with pytest.raises(StaleAddress, match=HISTORY):
        graph.replay()


def test_kv_is_written_by_slot_at_every_replay_and_nowhere_for_slot_minus_one():
    configure_kv_cache(num_blocks=3, block_size=4, kv_heads=1, head_size=2, dtype=torch.float32)

    def step(key: Tensor, slot: Tensor) -> Tensor:
        with ir.scope(layer="a"):
            return ir.ops.reshape_and_cache(key, key + 1, slot)

    with ir.scope(layer="a"):
        cache = ir_state.get(KV_CACHE)
    graph = capture(step, torch.zeros(2, 1, 2), torch.full((2,), -1))
    assert not cache.any()
    expected = torch.zeros_like(cache)
    for i, slots in enumerate(([5, -1], [-1, -1], [6, 5])):
        key = torch.full((2, 1, 2), float(i + 1))
        written = graph.replay(key, torch.tensor(slots))
        for row, slot in enumerate(slots):
            if slot >= 0:
                expected[0, slot // 4, slot % 4] = key[row]
                expected[1, slot // 4, slot % 4] = key[row] + 1
        assert torch.equal(cache, expected)
        assert isinstance(written, Tensor)
        assert written.item() == sum(s >= 0 for s in slots)


def test_attention_in_a_split_workspace_is_captured_and_the_workspace_may_not_grow():
    from ir.ops.paged_attention import reserve_workspace

    configure_kv_cache(num_blocks=5, block_size=4, kv_heads=1, head_size=4, dtype=torch.float32)

    def step(query: Tensor, tables: Tensor, lengths: Tensor) -> object:
        with ir.scope(layer="a"):
            return ir.ops.paged_decode_attention(query, tables, lengths, 0.5)

    with ir.scope(layer="a"):
        ir_state.get(KV_CACHE).normal_()
    reserve_workspace(tokens=2, heads=2, head_size=4)
    tables = torch.tensor([[1, 2], [3, 4]])
    with ir.ops.paged_decode_attention.set_priority(["split_k"]):
        graph = capture(step, torch.zeros(2, 2, 4), tables, torch.tensor([1, 1]))
        assert any("workspace" in e.owner for e in graph.ledger.entries)
        for lengths in ([8, 3], [1, 0], [5, 8]):
            inputs = torch.randn(2, 2, 4), tables, torch.tensor(lengths)
            got, expected = graph.replay(*inputs), step(*inputs)
            assert isinstance(got, Tensor)
            assert isinstance(expected, Tensor)
            assert torch.equal(got, expected)
    graph.seal()
    try:
        with pytest.raises(SealedError, match="step"):
            reserve_workspace(tokens=64, heads=2, head_size=4)
    finally:
        graph.release()
    reserve_workspace(tokens=64, heads=2, head_size=4)
    with pytest.raises(StaleAddress, match="workspace"):
        graph.replay()
