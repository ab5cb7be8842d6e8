"""The Triton providers that keep state, against natives: interpreted, and on a GPU."""

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

if importlib.util.find_spec("triton") is None:
    pytest.skip("the package triton is not installed", allow_module_level=True)

import ir
import ir.compilation
from ir import ir_state, kernels, ops
from ir.ops.fp8_delayed import HISTORY
from ir.ops.kv_cache import configure_kv_cache
from ir.ops.paged_attention import SPLITS, WORKSPACE, reserve_workspace
from ir.state import SealedError

kernels.load()

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
INTEGERS = {2: torch.int16, 4: torch.int32}
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.interpret),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
on_each_device = pytest.mark.parametrize("device", DEVICES)
# float32 arithmetic over a few dozen tokens of unit size, rounded once.
BOUND = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SIZE = 4


@pytest.fixture(autouse=True)
def _state() -> Iterator[None]:
    torch._dynamo.reset()
    names = (WORKSPACE, HISTORY)
    creates = [ir_state.types[name].create for name in names]
    with ir_state.override(names[0], creates[0]), ir_state.override(names[1], creates[1]):
        yield
    ir_state.discard("kv_cache")


def bits(t: Tensor) -> Tensor:
    return t.view(INTEGERS[t.element_size()]) if t.dtype.is_floating_point else t


def configure(
    dtype: torch.dtype, device: str, *, blocks: int = 9, kv_heads: int = 2, head_size: int = 8
) -> Tensor:
    configure_kv_cache(
        num_blocks=blocks, block_size=SIZE, kv_heads=kv_heads, head_size=head_size,
        dtype=dtype, device=device,
    )  # fmt: skip
    cache = ir_state.get("kv_cache")
    return cache.copy_(torch.randn(cache.shape, generator=torch.Generator().manual_seed(5)))


def rows(shape: tuple[int, ...], dtype: torch.dtype, device: str, layout: int = 0) -> Tensor:
    """Values, row-major, transposed in memory, or with steps between."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype).to(device)
    if layout == 1:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == 2:
        return torch.zeros((*shape[:-1], 2 * shape[-1]), dtype=dtype, device=device)[
            ..., ::2
        ].copy_(x)
    return x


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("slots", [[], [-1], [35, 0, 5], [0, -1, 7, -9], [-1, -1]])
def test_reshape_and_cache_writes_the_bits_of_native(dtype, slots: list[int], device: str):
    for layout, index in ((0, torch.int64), (1, torch.int32), (2, torch.int64)):
        found = []
        for provider in ("native", "triton"):
            cache = configure(dtype, device)
            key = rows((len(slots), 2, 8), dtype, device, layout)
            value = rows((len(slots), 2, 8), dtype, device, (layout + 1) % 3) * 3
            # A NaN of another pattern than the one that arithmetic makes.
            if slots:
                bits(value)[0, 0, 0] = 0x7F81 if dtype is not torch.float32 else 0x7F800123
            mapping = torch.tensor(slots, dtype=index, device=device)
            with ops.reshape_and_cache.set_priority([provider, "native"]):
                assert ops.reshape_and_cache.dispatch(key, value, mapping).provider == provider
                written = ops.reshape_and_cache(key, value, mapping)
            found.append((bits(cache).cpu().clone(), written.cpu()))
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])
        assert found[0][1].dtype is found[1][1].dtype


@on_each_device
def test_a_slot_beyond_the_cache_is_written_nowhere(device: str):
    wide = torch.full((2, 3, SIZE, 2, 8), 7.0, device=device)
    key = rows((3, 2, 8), torch.float32, device)
    slots = torch.tensor([3 * SIZE, 1, 2**40], device=device)
    held = torch.full((4, *wide.shape[1:]), 7.0, device=device)
    with (
        ir_state.override("kv_cache", lambda: held[1:3]),
        ops.reshape_and_cache.set_priority(["triton", "native"]),
    ):
        ops.reshape_and_cache(key, key, slots)
    wanted = torch.full_like(held, 7.0)
    wanted[1, 0, 1] = wanted[2, 0, 1] = key[1]
    assert torch.equal(held, wanted)


def tables(lengths: list[int], device: str) -> tuple[Tensor, Tensor]:
    """Shuffled blocks; entries beyond a sequence are no block numbers at all."""
    width = max(1, *(-(-n // SIZE) for n in lengths))
    found = torch.full((len(lengths), width), -(10**6), dtype=torch.int32)
    generator = torch.Generator().manual_seed(1)
    for i, n in enumerate(lengths):
        count = -(-n // SIZE)
        found[i, :count] = torch.randperm(9, generator=generator)[:count]
    return found.to(device), torch.tensor(lengths, dtype=torch.int32, device=device)


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("lengths", [[1, 3], [4], [5, 0, 36], [17, 8, 2], [0]])
def test_paged_decode_attention_is_natives_within_its_roundings(
    dtype: torch.dtype, heads: int, lengths: list[int], device: str
):
    for head_size, layout in ((8, 0), (5, 1)):
        cache = configure(dtype, device, head_size=head_size)
        blocks, seq_lens = tables(lengths, device)
        owned = {int(b) for row in blocks.tolist() for b in row if b >= 0}
        for b in set(range(9)) - owned:
            cache[:, b] = float("nan")
        query = rows((len(lengths), heads, head_size), dtype, device, layout)
        scale = head_size**-0.5
        op = ops.paged_decode_attention
        with ir.scope(device=device):
            reserve_workspace(tokens=len(lengths), heads=heads, head_size=head_size)
            before = cache.clone()
            wanted = op(query, blocks, seq_lens, scale)
            with op.set_priority(["triton", "native"]):
                assert op.dispatch(query, blocks, seq_lens, scale).provider == "triton"
                got = op(query, blocks, seq_lens, scale)
        assert (got.shape, got.dtype, got.stride()) == (wanted.shape, dtype, wanted.stride())
        assert torch.equal(bits(cache), bits(before))
        assert (got.double() - wanted.double()).abs().max().item() <= BOUND[dtype]


@on_each_device
@pytest.mark.parametrize("provider", ["native", "split_k", "triton"])
@pytest.mark.parametrize("where", ["query", "key", "value"])
def test_a_nan_that_is_read_reaches_its_outputs_and_no_others(
    provider: str, where: str, device: str
):
    cache = configure(torch.float32, device)
    blocks, seq_lens = tables([7, 9], device)
    query = rows((2, 4, 8), torch.float32, device)
    wanted = torch.zeros(2, 4, 8, dtype=torch.bool)
    if where == "query":
        query[1, 2, 3] = float("nan")
        wanted[1, 2] = True
    else:
        # Position 6 of the first sequence, in a block that the second does not have.
        blocks[0] = torch.tensor([0, 1, -1])
        blocks[1] = torch.tensor([2, 3, 4])
        cache[0 if where == "key" else 1, 1, 2, 1, 5] = float("nan")
        wanted[0, 2:, slice(None) if where == "key" else 5] = True
    op = ops.paged_decode_attention
    with ir.scope(device=device):
        reserve_workspace(tokens=2, heads=4, head_size=8)
        with op.set_priority([provider, "native"] if provider != "native" else [provider]):
            got = op(query, blocks, seq_lens, 0.5)
    assert torch.equal(got.isnan().cpu(), wanted)


@on_each_device
def test_the_workspace_grows_before_the_seal_and_never_after(device: str):
    configure(torch.float32, device)
    op = ops.paged_decode_attention
    args = (rows((2, 2, 8), torch.float32, device), *tables([7, 3], device), 0.5)
    with ir.scope(device=device), op.set_priority(["triton", "native"]):
        assert op.dispatch(*args).provider == "native"
        reserve_workspace(tokens=2, heads=2, head_size=8)
        assert ir_state.get(WORKSPACE).numel() == SPLITS * 2 * 2 * 10
        assert op.dispatch(*args).provider == "triton"
        ir_state.seal("decode")
        try:
            with pytest.raises(SealedError, match="'decode'"):
                reserve_workspace(tokens=3, heads=2, head_size=8)
            address = ir_state.get(WORKSPACE).data_ptr()
            op(*args)
            assert ir_state.get(WORKSPACE).data_ptr() == address
        finally:
            ir_state.unseal("decode")


@on_each_device
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5,), (3, 17), (2, 3, 6), (0, 4)])
def test_quant_fp8_delayed_is_natives_bit_for_bit_call_after_call(dtype, shape, device: str):
    xs = []
    for i in range(36):
        x = rows(shape, dtype, device, layout=2 * (i % 2)) * float(i % 7 + 1)
        if i in (4, 20) and x.numel():
            x[..., 0] = (float("nan"), float("inf"))[i == 20]
        xs.append(torch.zeros_like(x) if i == 9 else x)
    found = {}
    for provider in ("native", "triton"):
        with (
            ir.scope(layer=provider, device=device),
            ops.quant_fp8_delayed.set_priority([provider, "native"]),
        ):
            held = ir_state.get(HISTORY)
            outputs = [ops.quant_fp8_delayed(x) for x in xs]
            assert ir_state.get(HISTORY) is held
            found[provider] = [
                *(t.view(torch.uint8).cpu() for output in outputs for t in output),
                held["amax"].cpu(), held["next"].cpu(),
            ]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(found["native"], found["triton"], strict=True))
    assert bool(found["triton"][-1] > 0) == bool(xs[0].numel())


@on_each_device
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_lowered_to_triton_keeps_its_states_where_they_are(device: str):
    configure(torch.float32, device)
    priorities = [
        op.set_priority(["triton", "native"])
        for op in (ops.reshape_and_cache, ops.paged_decode_attention, ops.quant_fp8_delayed)
    ]

    def step(query: Tensor, kv: Tensor, blocks: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        scales = []
        for layer in range(2):
            with ir.scope(layer=layer):
                slots = blocks.gather(1, ((lengths - 1) // SIZE)[:, None].long())[:, 0] * SIZE
                ops.reshape_and_cache(kv, kv * 2, (slots + (lengths - 1) % SIZE).long())
                query = query + ops.paged_decode_attention(query, blocks, lengths, 0.5)
                scales.append(ops.quant_fp8_delayed(query)[1])
        return query, *scales

    g = torch.compile(
        step, backend=ir.compilation.backend, fullgraph=True,
        options={"run": "fx"},  # type: ignore[dict-item]
    )  # fmt: skip
    blocks = torch.tensor([[3, 1], [8, 2]], dtype=torch.int32, device=device)
    steps = [
        (
            rows((2, 4, 8), torch.float32, device) * n, rows((2, 2, 8), torch.float32, device) + n,
            blocks, torch.full((2,), n, dtype=torch.int32, device=device),
        )
        for n in range(1, 6)
    ]  # fmt: skip
    results, states = [], []
    with priorities[0], priorities[1], priorities[2], torch.no_grad(), ir.scope(device=device):
        reserve_workspace(tokens=2, heads=4, head_size=8)
        caches = [ir_state.get("kv_cache", str(layer)) for layer in range(2)]
        histories = [ir_state.get(HISTORY, (str(layer), device)) for layer in range(2)]
        held = [*caches, *(t for h in histories for t in h.values()), ir_state.get(WORKSPACE)]
        addresses = [t.data_ptr() for t in held]
        for f in (step, g):
            for t in held:
                t.zero_()
            results.append([f(*args) for args in steps])
            states.append([t.clone() for t in held[:-1]])
            assert [t.data_ptr() for t in held] == addresses
    for a, b in zip(results[0], results[1], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
