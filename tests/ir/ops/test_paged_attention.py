"""Attention over the paged cache is that of each sequence by itself, in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import ir
import ir.compilation
from ir import ir_state, ops
from ir.errors import InputError
from ir.ops.kv_cache import configure_kv_cache
from ir.ops.paged_attention import WORKSPACE, reserve_workspace, workspace_numel
from ir.state import SealedError

BLOCKS, SIZE, KV_HEADS, WIDTH = 9, 4, 2, 8
SCALE = WIDTH**-0.5


def configure(dtype: torch.dtype = torch.float32) -> Tensor:
    configure_kv_cache(
        num_blocks=BLOCKS, block_size=SIZE, kv_heads=KV_HEADS, head_size=WIDTH, dtype=dtype
    )
    cache = ir_state.get("kv_cache")
    return cache.copy_(torch.randn(cache.shape, generator=torch.Generator().manual_seed(5)))


@pytest.fixture(autouse=True)
def _state() -> Iterator[None]:
    torch._dynamo.reset()
    with ir_state.override(WORKSPACE, ir_state.types[WORKSPACE].create):
        yield
    ir_state.discard("kv_cache")


def tables(lengths: list[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    """Shuffled blocks; entries beyond a sequence are no block numbers at all."""
    width = max(1, *(-(-n // SIZE) for n in lengths))
    found = torch.full((len(lengths), width), -(10**6), dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    for i, n in enumerate(lengths):
        count = -(-n // SIZE)
        found[i, :count] = torch.randperm(BLOCKS, generator=generator)[:count]
    return found, torch.tensor(lengths, dtype=torch.int32)


def by_hand(query: Tensor, cache: Tensor, blocks: Tensor, lengths: Tensor, scale: float) -> Tensor:
    out = torch.zeros(query.shape, dtype=torch.float64)
    for i, n in enumerate(lengths.tolist()):
        for head in range(query.shape[1]):
            kv = head // (query.shape[1] // KV_HEADS)
            places = [(int(blocks[i, t // SIZE]), t % SIZE) for t in range(n)]
            keys = [cache[0, b, o, kv].double() for b, o in places]
            values = [cache[1, b, o, kv].double() for b, o in places]
            logits = [float(query[i, head].double() @ k) * scale for k in keys]
            weights = [torch.tensor(x - max(logits), dtype=torch.float64).exp() for x in logits]
            for w, v in zip(weights, values, strict=True):
                out[i, head] += w / sum(weights) * v
    return out


# float32 arithmetic over at most 36 tokens of unit size, far from any cancellation.
BOUND = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("provider", ["native", "split_k"])
@pytest.mark.parametrize("heads", [2, 4, 6])
@pytest.mark.parametrize("lengths", [[1], [4], [5, 0, 36], [3, 17, 8, 2], [0]])
def test_every_sequence_attends_to_its_own_tokens(provider: str, heads: int, lengths: list[int]):
    cache = configure()
    blocks, seq_lens = tables(lengths)
    query = torch.randn(len(lengths), heads, WIDTH, generator=torch.Generator().manual_seed(9))
    # What no sequence owns is poisoned: it may be anything.
    owned = {int(b) for row in blocks for b in row if b >= 0}
    for b in set(range(BLOCKS)) - owned:
        cache[:, b] = float("nan")
    for i, n in enumerate(lengths):
        if n % SIZE and sum(int(blocks[i, n // SIZE]) in row for row in blocks.tolist()) == 1:
            cache[:, int(blocks[i, n // SIZE]), n % SIZE :] = float("inf")
    reserve_workspace(tokens=len(lengths), heads=heads, head_size=WIDTH)
    before = cache.clone()
    with ops.paged_decode_attention.set_priority([provider]):
        assert ops.paged_decode_attention.dispatch(query, blocks, seq_lens, SCALE).provider == (
            provider
        )
        got = ops.paged_decode_attention(query, blocks, seq_lens, SCALE)
    wanted = by_hand(query, before, blocks, seq_lens, SCALE)
    assert (got.double() - wanted).abs().max().item() < BOUND[torch.float32]
    assert torch.equal(cache.view(torch.int32), before.view(torch.int32))
    assert all(got[i].eq(0).all() for i, n in enumerate(lengths) if n == 0)


@pytest.mark.parametrize("provider", ["native", "split_k"])
def test_of_infinite_logits_the_largest_makes_nan_and_others_count_for_nothing(provider: str):
    cache = configure()
    blocks, seq_lens = tables([3, 3, 3])
    cache[0, int(blocks[0, 0]), :3] = float("-inf")
    cache[0, int(blocks[1, 0]), 2] = float("inf")
    cache[0, int(blocks[2, 0]), 2] = float("-inf")
    query = torch.rand(3, 2, WIDTH, generator=torch.Generator().manual_seed(9)) + 1
    reserve_workspace(tokens=3, heads=2, head_size=WIDTH)
    with ops.paged_decode_attention.set_priority([provider]):
        got = ops.paged_decode_attention(query, blocks, seq_lens, SCALE)
        shorter = ops.paged_decode_attention(query, blocks, seq_lens - 1, SCALE)
    assert got[:2].isnan().all()
    assert (got[2] - shorter[2]).abs().max().item() < BOUND[torch.float32]


@pytest.mark.parametrize("provider", ["native", "split_k"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(provider: str, dtype: torch.dtype):
    cache = configure(dtype)
    blocks, seq_lens = tables([7, 11])
    query = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(9)).to(dtype)
    reserve_workspace(tokens=2, heads=4, head_size=WIDTH)
    with ops.paged_decode_attention.set_priority([provider]):
        got = ops.paged_decode_attention(query, blocks, seq_lens, SCALE)
    wanted = by_hand(query, cache, blocks, seq_lens, SCALE)
    assert got.dtype is dtype
    assert (got.double() - wanted).abs().max().item() < BOUND[dtype]


def test_a_sequence_does_not_depend_on_its_neighbours_nor_on_padding():
    configure()
    blocks, seq_lens = tables([7, 11, 2])
    query = torch.randn(3, 4, WIDTH)
    together = ops.paged_decode_attention(query, blocks, seq_lens, SCALE)
    padded = torch.cat([query, torch.full((2, 4, WIDTH), float("nan"))])
    more = torch.cat([blocks, torch.full((2, blocks.shape[1]), -1, dtype=torch.int32)])
    lengths = torch.cat([seq_lens, torch.zeros(2, dtype=torch.int32)])
    assert torch.equal(ops.paged_decode_attention(padded, more, lengths, SCALE)[:3], together)


def test_without_room_in_the_workspace_native_serves_and_growing_is_for_before_the_seal():
    configure()
    blocks, seq_lens = tables([7])
    query = torch.randn(1, 2, WIDTH)
    op = ops.paged_decode_attention
    with op.set_priority(["split_k", "native"]):
        assert op.dispatch(query, blocks, seq_lens, SCALE).provider == "native"
        reserve_workspace(tokens=1, heads=2, head_size=WIDTH)
        assert ir_state.get(WORKSPACE).numel() == workspace_numel(1, 2, WIDTH)
        assert op.dispatch(query, blocks, seq_lens, SCALE).provider == "split_k"
        ir_state.seal("decode")
        try:
            reserve_workspace(tokens=1, heads=2, head_size=WIDTH)
            with pytest.raises(SealedError, match=r"would grow from 80 to 160 elements.*'decode'"):
                reserve_workspace(tokens=2, heads=2, head_size=WIDTH)
            two = torch.randn(2, 2, WIDTH)
            assert op.dispatch(two, *tables([7, 3]), SCALE).provider == "native"
        finally:
            ir_state.unseal("decode")


@pytest.mark.parametrize("provider", ["native", "split_k"])
@pytest.mark.parametrize("run", ["fx", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_decoder_step_writes_its_token_and_then_attends_to_it(provider: str, run: str):
    configure()
    reserve_workspace(tokens=2, heads=4, head_size=WIDTH)

    def step(query: Tensor, kv: Tensor, blocks: Tensor, lengths: Tensor) -> Tensor:
        for layer in range(2):
            with ir.scope(layer=layer):
                slots = blocks.gather(1, ((lengths - 1) // SIZE)[:, None].long())[:, 0] * SIZE
                ops.reshape_and_cache(kv, kv * 2, (slots + (lengths - 1) % SIZE).long())
                query = query + ops.paged_decode_attention(query, blocks, lengths, SCALE)
        return query

    g = torch.compile(
        step, backend=ir.compilation.backend, fullgraph=True,
        options={"run": run},  # type: ignore[dict-item]
    )  # fmt: skip
    generator = torch.Generator().manual_seed(4)
    blocks = torch.tensor([[3, 1], [8, 2]], dtype=torch.int32)
    steps = []
    for n in range(1, 7):
        query = torch.randn(2, 4, WIDTH, generator=generator)
        kv = torch.randn(2, KV_HEADS, WIDTH, generator=generator)
        steps.append((query, kv, blocks, torch.full((2,), n, dtype=torch.int32)))
    results, caches = [], []
    for f in (step, g):
        for layer in ("0", "1"):
            ir_state.get("kv_cache", layer).zero_()
        with torch.no_grad(), ops.paged_decode_attention.set_priority([provider]):
            results.append([f(*args) for args in steps])
        caches.append([ir_state.get("kv_cache", layer).clone() for layer in ("0", "1")])
    assert all(torch.equal(a, b) for a, b in zip(*caches, strict=True))
    for a, b in zip(*results, strict=True):
        if run == "fx":
            assert torch.equal(a, b)
        else:
            assert (a - b).abs().max().item() < 1e-5


@pytest.mark.parametrize(
    ("query", "blocks", "lengths", "scale", "message"),
    [
        ((1, 3, 8), (1, 1), (1,), 1.0, "a multiple of the cache's 2"),
        ((1, 2, 7), (1, 1), (1,), 1.0, r"\(tokens, heads, 8\)"),
        ((1, 2, 8), (1,), (1,), 1.0, r"block_tables.dim\(\) is 1"),
        ((1, 2, 8), (1, 0), (1,), 1.0, "one block or more"),
        ((1, 2, 8), (1, 1), (1, 1), 1.0, r"seq_lens.dim\(\) is 2"),
        ((1, 2, 8), (2, 1), (1,), 1.0, "as many sequences as query"),
        ((1, 2, 8), (1, 1), (1,), float("nan"), "a finite number above 0"),
    ],
)
def test_what_is_refused(query, blocks, lengths, scale: float, message: str):
    configure()
    args = torch.zeros(query), torch.zeros(blocks, dtype=torch.int32)
    with pytest.raises(InputError, match=message):
        ops.paged_decode_attention(*args, torch.ones(lengths, dtype=torch.int32), scale)
