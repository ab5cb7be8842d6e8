"""CUDA graphs keep the promises of the host capture, which is judged against them here."""

import pytest
import torch
from torch import Tensor

from ir.capture import CaptureRefused, StaleAddress, capture, capture_buckets

pytestmark = pytest.mark.gpu


def on_gpu(layer):
    """A decoder layer of the fixture, with the counter that is no buffer."""
    moved = layer.cuda()
    moved.steps = moved.steps.cuda()
    return moved


def equal(a: object, b: object) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)


def test_a_decoder_layer_replays_bit_for_bit_over_changed_inputs(decoder, step_inputs, dtype):
    eager, captured = on_gpu(decoder(dtype)), on_gpu(decoder(dtype))
    graph = capture(captured, *(t.cuda() for t in step_inputs(0, 3, dtype)))
    assert graph.backend == "cuda"
    held: list[tuple[object, Tensor]] = []
    for step in range(4):
        inputs = [t.cuda() for t in step_inputs(step, 3, dtype)]
        expected = eager(*inputs)
        # The caching allocator's free blocks, which a dangling address would read.
        free = [torch.full((1 << n,), 0xC3, dtype=torch.uint8, device="cuda") for n in range(9, 25)]
        del free
        got = graph.replay(*inputs)
        assert equal(got, expected)
        assert equal(captured.kv, eager.kv)
        held.append((got, expected))
    assert all(equal(got, expected) for got, expected in held)


def test_a_capture_leaves_no_trace(decoder, step_inputs):
    layer = on_gpu(decoder(torch.float32))
    capture(layer, *(t.cuda() for t in step_inputs(2, 3, torch.float32)))
    assert equal(layer.kv, torch.zeros_like(layer.kv))
    assert layer.steps.item() == 0


BODIES = {
    "item": (lambda x: x * x.sum().item(), "host-sync"),
    "nonzero": (lambda x: x.nonzero(), "data-dependent-shape"),
    "rand": (lambda x: x + torch.rand(4, device="cuda"), "unregistered-generator"),
    "tensor": (lambda x: x + torch.tensor(1.0, device="cuda"), "host-data"),
    "plain": (lambda x: x * 2 + 1, ""),
    "sort": (lambda x: torch.sort(x).values, ""),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("backend", ["host", "cuda"])
def test_both_backends_refuse_the_same_for_the_same_reason(name: str, backend: str):
    body, reason = BODIES[name]
    x = torch.arange(4.0, device="cuda")
    if reason:
        with pytest.raises(CaptureRefused) as refused:
            capture(body, x, backend="cuda" if backend == "cuda" else "host")
        assert refused.value.reason == reason
    else:
        graph = capture(body, x, backend="cuda" if backend == "cuda" else "host")
        other = torch.tensor([3.0, 1.0, 2.0, 0.0], device="cuda")
        assert equal(graph.replay(other), body(other))


def test_what_the_host_capture_admits_and_gives_cuda_admits_and_gives(decoder, step_inputs, dtype):
    layers = [on_gpu(decoder(dtype)) for _ in range(2)]
    given = [t.cuda() for t in step_inputs(0, 2, dtype)]
    host = capture(layers[0], *(t.clone() for t in given), backend="host")
    cuda = capture(layers[1], *(t.clone() for t in given), backend="cuda")
    for step in range(3):
        inputs = [t.cuda() for t in step_inputs(step, 2, dtype)]
        assert equal(host.replay(*inputs), cuda.replay(*inputs))
        assert equal(layers[0].kv, layers[1].kv)


def test_a_registered_generator_gives_what_eager_would_get_after_the_same_seed():
    generator = torch.cuda.default_generators[torch.cuda.current_device()]

    def step(x: Tensor) -> Tensor:
        return x + torch.rand(4, device="cuda")

    x = torch.ones(4, device="cuda")
    graph = capture(step, x, generators=[generator])
    for seed in (1, 2, 1):
        generator.manual_seed(seed)
        expected = [step(x), step(x)]
        generator.manual_seed(seed)
        assert all(equal(graph.replay(x), e) for e in expected)


def test_memory_that_an_owner_gave_up_stops_the_replay():
    layer = torch.nn.Linear(4, 4, device="cuda")
    graph = capture(layer, torch.ones(2, 4, device="cuda"))
    layer.weight = torch.nn.Parameter(torch.randn(4, 4, device="cuda"))
    with pytest.raises(StaleAddress, match=r"linear\.weight"):
        graph.replay()


def test_a_padded_batch_gives_what_eager_gives_for_the_padded_rows(decoder, step_inputs):
    eager, captured = on_gpu(decoder(torch.float32)), on_gpu(decoder(torch.float32))
    largest = [torch.zeros(4, 32, device="cuda")]
    largest += [torch.zeros(4, dtype=torch.int64, device="cuda") for _ in range(2)]
    largest.append(torch.zeros(4, 1, dtype=torch.int64, device="cuda"))
    graphs = capture_buckets(captured, *largest, sizes=(1, 2, 4), padding=(0, 0, -1, 0))
    for step, rows in enumerate((3, 4, 1)):
        inputs = [t.cuda() for t in step_inputs(step, rows, torch.float32)]
        more = graphs.bucket(rows) - rows
        by_hand = [
            torch.cat((t, torch.full((more, *t.shape[1:]), pad, dtype=t.dtype, device="cuda")))
            for t, pad in zip(inputs, (0, 0, -1, 0), strict=True)
        ]
        assert equal(graphs.replay(*inputs), eager(*by_hand)[:rows])
        assert equal(captured.kv, eager.kv)
