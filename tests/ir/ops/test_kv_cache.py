"""Keys and values land in their slots, and nowhere else."""

from collections.abc import Iterator

import pytest
import torch

import ir
import ir.compilation
from ir import ir_state, ops
from ir.errors import InputError
from ir.ops.kv_cache import configure_kv_cache

BLOCKS, SIZE, HEADS, WIDTH = 4, 3, 2, 5


@pytest.fixture(autouse=True)
def _cache() -> Iterator[None]:
    torch._dynamo.reset()
    configure_kv_cache(
        num_blocks=BLOCKS, block_size=SIZE, kv_heads=HEADS, head_size=WIDTH, dtype=torch.float32
    )
    yield
    ir_state.discard("kv_cache")


def rows(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, HEADS, WIDTH, generator=generator) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "slots",
    [[], [0], [-1], [-1, -1], [11, 0, 5], [0, -1, 7], [-1, 0, -1], [-1, 3, -1, 4], [7, -1, -5]],
)
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_each_token_is_written_to_its_slot_and_every_other_byte_stays(
    slots: list[int], index: torch.dtype
):
    with ir.scope(layer=2):
        cache = ir_state.get("kv_cache").copy_(torch.randn(2, BLOCKS, SIZE, HEADS, WIDTH))
        wanted = cache.clone()
        key, value = rows(len(slots))
        for i, slot in enumerate(slots):
            if slot >= 0:
                wanted[0, slot // SIZE, slot % SIZE] = key[i]
                wanted[1, slot // SIZE, slot % SIZE] = value[i]
        written = ops.reshape_and_cache(key, value, torch.tensor(slots, dtype=index))
        assert ir_state.get("kv_cache") is cache
    assert torch.equal(cache, wanted)
    assert written.item() == sum(s >= 0 for s in slots)
    assert torch.equal(ir_state.get("kv_cache"), torch.zeros_like(cache))


@pytest.mark.parametrize("run", ["fx", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_write_is_in_place_without_a_copy_of_the_cache(run: str):
    def f(key: torch.Tensor, value: torch.Tensor, slots: torch.Tensor) -> None:
        for layer in range(2):
            with ir.scope(layer=layer):
                ops.reshape_and_cache(key + layer, value, slots)

    report = ir.compilation.Report()
    g = torch.compile(
        f, backend=ir.compilation.backend, fullgraph=True,
        options={"run": run, "report": report},  # type: ignore[dict-item]
    )  # fmt: skip
    caches = [ir_state.get("kv_cache", str(i)) for i in range(2)]
    addresses = [c.data_ptr() for c in caches]
    key, value = rows(3)
    wanted = [torch.zeros_like(c) for c in caches]
    with torch.no_grad():
        for slots in ([0, 4, -1], [-1, 11, 0], [-1, -1, -1]):
            g(key, value, torch.tensor(slots))
            for layer in range(2):
                for i, slot in enumerate(slots):
                    if slot >= 0:
                        wanted[layer][0].view(-1, HEADS, WIDTH)[slot] = key[i] + layer
                        wanted[layer][1].view(-1, HEADS, WIDTH)[slot] = value[i]
                assert torch.equal(caches[layer], wanted[layer])
    assert [c.data_ptr() for c in caches] == addresses
    if run == "fx":
        assert report.passes[-1].kept == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("key", "value", "slots", "message"),
    [
        ((2, 2, 5), (2, 2, 5), torch.zeros(2), "int32 or int64"),
        ((2, 2, 5), (2, 2, 5), torch.zeros(2, 1, dtype=torch.int64), r"slot_mapping.dim\(\) is 2"),
        ((2, 2, 4), (2, 2, 5), torch.zeros(2, dtype=torch.int64), r"key.shape is \(2, 2, 4\)"),
        ((2, 2, 5), (2, 3, 5), torch.zeros(2, dtype=torch.int64), r"value.shape is \(2, 3, 5\)"),
        ((2, 2, 5), (3, 2, 5), torch.zeros(2, dtype=torch.int64), "as many tokens"),
        ((2, 2, 5), (2, 2, 5), torch.zeros(3, dtype=torch.int64), "as many tokens"),
    ],
)
def test_what_is_refused(key, value, slots, message: str):
    with pytest.raises(InputError, match=message):
        ops.reshape_and_cache(torch.zeros(key), torch.zeros(value), slots)
    half = torch.zeros(2, 2, 5, dtype=torch.float16)
    with pytest.raises(InputError, match=r"dtype is torch.float16; accepted: torch.float32"):
        ops.reshape_and_cache(half, half, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "message"), [({"num_blocks": 0}, "at least 1"), ({"dtype": torch.int8}, "bfloat16")]
)
def test_a_wrong_cache_is_refused(change: dict, message: str):
    given = {
        "num_blocks": 1, "block_size": 1, "kv_heads": 1, "head_size": 1, "dtype": torch.float16
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        configure_kv_cache(**{**given, **change})
