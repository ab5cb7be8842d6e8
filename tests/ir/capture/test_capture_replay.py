"""A replay does what the function does, on the same memory, and nothing else."""

import threading

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import ir
from ir.capture import CapturedGraph, CaptureRefused, ReplayError, capture, register_replayable
from ir.op import register_op


def equal(a: object, b: object) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.buffers(), b.buffers(), strict=True))


@pytest.mark.usefixtures("poisoned_fresh_memory")
def test_a_decoder_layer_replays_bit_for_bit_over_changed_inputs(decoder, step_inputs, dtype):
    eager, captured = decoder(dtype), decoder(dtype)
    graph = capture(captured, *step_inputs(0, 3, dtype))
    held: list[tuple[object, Tensor]] = []
    for step in range(4):
        inputs = step_inputs(step, 3, dtype)
        expected = eager(*inputs)
        # What malloc recycles meanwhile is overwritten.
        for n in (8, 96, 384, 4096):
            torch.empty(n, dtype=torch.uint8).fill_(0xC3)
        got = graph.replay(*inputs)
        assert equal(got, expected)
        assert same_state(eager, captured)
        assert torch.equal(eager.steps, captured.steps)
        held.append((got, expected))
    assert all(equal(got, expected) for got, expected in held)


def test_a_capture_leaves_no_trace(decoder, step_inputs):
    layer = decoder(torch.float32)
    capture(layer, *step_inputs(2, 3, torch.float32))
    assert same_state(layer, decoder(torch.float32))
    assert layer.steps.item() == 0


def test_every_way_of_repeating_a_call_is_used(decoder, step_inputs):
    graph = capture(decoder(torch.bfloat16), *step_inputs(0, 3, torch.bfloat16))
    manners = {manner for _, manner in graph.calls}
    assert manners == {"out", "in-place", "copy"}
    calls = dict(graph.calls)
    assert calls["aten.mm.default"] == "out"
    assert calls["aten.index_put_.default"] == "in-place"
    assert calls["aten._scaled_dot_product_flash_attention_for_cpu.default"] == "copy"


def test_a_poisoned_arena_changes_no_result(decoder, step_inputs):
    eager, captured = decoder(torch.float32), decoder(torch.float32)
    graph = capture(captured, *step_inputs(0, 2, torch.float32))
    for step, byte in enumerate((0x5A, 0xC3, 0xFF)):
        graph.poison(byte)
        inputs = step_inputs(step, 2, torch.float32)
        assert equal(graph.replay(*inputs), eager(*inputs))


def test_python_runs_only_while_a_graph_is_captured():
    runs: list[int] = []

    def step(x: Tensor) -> Tensor:
        runs.append(1)
        return x * 2

    graph = capture(step, torch.ones(2))
    captured = len(runs)
    for _ in range(3):
        graph.replay()
    assert len(runs) == captured


def test_static_results_lie_where_they_lay_and_copies_do_not():
    graph = capture(lambda x: x + 1, torch.zeros(4))
    static = graph.replay(torch.full((4,), 1.0), static=True)
    kept = graph.replay(torch.full((4,), 5.0))
    assert graph.replay(torch.full((4,), 8.0), static=True) is static
    assert equal(static, torch.full((4,), 9.0))
    assert equal(kept, torch.full((4,), 6.0))


def test_a_result_that_is_an_input_or_state_is_copied_too():
    state = torch.zeros(2)

    def step(x: Tensor) -> dict[str, Tensor]:
        state.add_(x)
        return {"x": x, "state": state, "again": state}

    graph = capture(step, torch.ones(2))
    first = graph.replay()
    graph.replay(torch.full((2,), 5.0))
    assert isinstance(first, dict)
    assert torch.equal(first["x"], torch.ones(2))
    assert torch.equal(first["state"], torch.ones(2))
    assert first["again"] is first["state"]
    assert torch.equal(state, torch.full((2,), 6.0))


def test_constants_among_the_results_stay():
    graph = capture(lambda x: (x + 1, None, 3, "s"), torch.zeros(1))
    got = graph.replay()
    assert isinstance(got, tuple)
    assert got[1:] == (None, 3, "s")


def test_inputs_that_lie_in_the_static_ones_are_read_before_they_are_written():
    x, y = torch.tensor([1.0]), torch.tensor([10.0])
    graph = capture(lambda x, y: x - y, x, y)
    assert equal(graph.replay(y, x), torch.tensor([9.0]))


def test_memory_that_nothing_writes_is_returned_as_it_is():
    def step(x: Tensor) -> Tensor:
        y = torch.empty(4)
        y[:2].copy_(x)
        return y

    graph = capture(step, torch.ones(2))
    got = graph.replay(torch.full((2,), 7.0))
    assert isinstance(got, Tensor)
    assert torch.equal(got[:2], torch.full((2,), 7.0))


@pytest.mark.parametrize("own", [False, True], ids=["default", "own"])
def test_a_registered_generator_gives_what_eager_would_get_after_the_same_seed(own: bool):
    generator = torch.Generator() if own else torch.default_generator
    given = generator if own else None

    def step(x: Tensor) -> Tensor:
        noise = torch.rand(4, generator=given)
        return x + noise + torch.empty(4).normal_(generator=given)

    before = generator.get_state()
    graph = capture(step, torch.zeros(4), generators=[generator])
    assert torch.equal(generator.get_state(), before)
    x = torch.ones(4)
    for seed in (1, 2, 1):
        generator.manual_seed(seed)
        expected = [step(x), step(x)]
        generator.manual_seed(seed)
        assert all(equal(graph.replay(x), e) for e in expected)


def test_a_replay_from_within_a_replay_is_refused():
    graphs: list[CapturedGraph] = []
    inner: list[type[BaseException]] = []

    @torch.library.custom_op("test_capture::reentering", mutates_args=())
    def reentering(x: Tensor) -> Tensor:
        if graphs:
            try:
                graphs[0].replay()
            except ReplayError as error:
                inner.append(type(error))
        return x + 1

    register_replayable(torch.ops.test_capture.reentering.default)
    graphs.append(capture(lambda x: reentering(x), torch.zeros(2)))
    graphs[0].replay()
    assert inner == [ReplayError]


def test_a_replay_inside_a_capture_is_refused():
    graph = capture(lambda x: x + 1, torch.zeros(2))
    with pytest.raises(CaptureRefused, match="nested"):
        capture(lambda x: (graph.replay(), x)[1], torch.zeros(2))


def test_replays_of_two_threads_do_not_mix():
    entered, leave = threading.Event(), threading.Event()
    wait = [False]

    @torch.library.custom_op("test_capture::waiting", mutates_args=())
    def waiting(x: Tensor) -> Tensor:
        if wait[0]:
            entered.set()
            leave.wait(10)
        return x + 1

    register_replayable(torch.ops.test_capture.waiting.default)
    graph = capture(lambda x: waiting(x), torch.zeros(2))
    wait[0] = True
    thread = threading.Thread(target=graph.replay)
    thread.start()
    entered.wait(10)
    try:
        with pytest.raises(ReplayError, match="being replayed"):
            graph.replay()
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.zeros(3),),
        (torch.zeros(2, dtype=torch.float64),),
        (torch.zeros(2, 1),),
        (torch.zeros(2), torch.zeros(2)),
    ],
    ids=["shape", "dtype", "rank", "number"],
)
def test_inputs_of_another_kind_are_refused(inputs: tuple[Tensor, ...]):
    graph = capture(lambda x: x + 1, torch.zeros(2))
    with pytest.raises(ReplayError, match="accepted: "):
        graph.replay(*inputs)


@pytest.mark.parametrize("mode", ["plain", "no-grad", "inference", "autocast", "grad-input"])
def test_the_callers_modes_change_nothing(mode: str):
    w = torch.randn(4, 4, requires_grad=mode == "grad-input")

    def step(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.sort(x @ w, dim=-1).values

    graph = capture(step, torch.zeros(2, 4))
    x = torch.randn(2, 4)
    contexts = {
        "no-grad": torch.no_grad(),
        "inference": torch.inference_mode(),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
    }
    expected = step(x)
    with contexts.get(mode, torch.enable_grad()):
        got = graph.replay(x)
    assert equal(got, expected)
    assert isinstance(got, Tensor)
    assert not got.is_inference()
    assert not got.requires_grad


def test_ops_of_the_ir_are_recorded_through_their_providers():
    x, w = torch.randn(3, 8), torch.randn(8)

    def step(x: Tensor) -> Tensor:
        return ir.ops.silu_and_mul(ir.ops.rms_norm(x, w, 1e-6))

    graph = capture(step, x)
    assert "aten.rsqrt.default" in dict(graph.calls)
    for _ in range(3):
        x = torch.randn(3, 8)
        assert equal(graph.replay(x), step(x))


def test_donated_activations_are_written_at_replay():
    w = torch.randn(8)

    def step(x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        return ir.ops.fused_add_rms_norm.maybe_inplace(x.clone(), r.clone(), w, 1e-6)

    graph = capture(step, torch.randn(3, 8), torch.randn(3, 8))
    for _ in range(3):
        inputs = torch.randn(3, 8), torch.randn(3, 8)
        got, expected = graph.replay(*inputs), step(*inputs)
        assert isinstance(got, tuple)
        assert all(equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.slow
def test_a_compiled_provider_is_replayed_compiled(op_name):
    def native(x: Tensor, scale: Tensor) -> Tensor:
        return (x * scale).sum(-1, keepdim=True) + x

    native.__annotations__ = {"x": Tensor, "scale": Tensor, "return": Tensor}
    op = register_op(name=op_name())(native)
    scale = torch.randn(64)
    with op.set_priority(["native"], compile=True):
        graph = capture(lambda x: op(x, scale), torch.randn(4, 64))
        assert [manner for _, manner in graph.calls] == ["copy"]
        x = torch.randn(4, 64)
        assert equal(graph.replay(x), op(x, scale))


def test_state_of_the_registry_is_captured_owned_and_sealed():
    from ir.state import SealedError, ir_state

    ir_state.register_type("test_capture_calls", lambda: torch.zeros(1), per="layer")
    try:

        def step(x: Tensor) -> Tensor:
            total = torch.zeros(1)
            for layer in range(2):
                calls = ir_state.get("test_capture_calls", str(layer))
                calls.add_(layer + 1)
                total = total + calls
            return x * total

        with pytest.raises(CaptureRefused, match="state-created"):
            capture(step, torch.ones(1))
        graph = capture(step, torch.ones(1))
        owners = [e.owner for e in graph.ledger.entries if e.kind == "state"]
        assert owners == ["state test_capture_calls of 0", "state test_capture_calls of 1"]
        assert [graph.replay() for _ in range(3)] == [torch.tensor([3.0 * n]) for n in (1, 2, 3)]
        graph.seal()
        with pytest.raises(SealedError, match="step"):
            ir_state.get("test_capture_calls", "2")
        graph.release()
        ir_state.replace("test_capture_calls", torch.zeros(1), "1")
        with pytest.raises(RuntimeError, match="state test_capture_calls of 1 was"):
            graph.replay()
    finally:
        ir_state.unregister_type("test_capture_calls")


def test_inference_mode_is_captured_as_it_is(decoder, step_inputs):
    with torch.inference_mode():
        eager, captured = decoder(torch.float32), decoder(torch.float32)
        graph = capture(captured, *step_inputs(0, 3, torch.float32))
    for step in range(3):
        inputs = step_inputs(step, 3, torch.float32)
        with torch.inference_mode():
            expected = eager(*inputs)
        assert equal(graph.replay(*inputs), expected)
        assert same_state(eager, captured)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: torch.tensor_split(x, torch.ones(1, dtype=torch.int64)), "host-sync"),
        (lambda x: torch.argwhere(x), "data-dependent-shape"),
        (lambda x: x.sum().item() * x, "host-sync"),
        (lambda x: torch.dropout(x, 0.5, True), "unregistered-generator"),
        (lambda x: torch.ops.aten.item(x[0]) * x, "host-sync"),
    ],
    ids=["tensor-split", "argwhere", "item", "dropout", "composite-item"],
)
def test_inference_mode_hides_nothing(body, reason: str):
    with torch.inference_mode(), pytest.raises(CaptureRefused) as refused:
        capture(body, torch.ones(3))
    assert refused.value.reason == reason


def test_an_audited_replay_finds_the_writes_of_a_kernel_taken_whole():
    buffer, other = torch.zeros(2), torch.zeros(2)
    memory = buffer.numpy()
    writes = [False]

    @torch.library.custom_op("test_capture::writing", mutates_args=())
    def writing(x: Tensor) -> Tensor:
        if writes[0]:
            memory[0] += 1
        return x + 1

    register_replayable(torch.ops.test_capture.writing.default)

    def step(x: Tensor) -> Tensor:
        other.add_(x)
        return writing(x) + buffer * 0

    graph = capture(step, torch.zeros(2))
    assert equal(graph.audited(torch.ones(2)), torch.full((2,), 2.0))
    assert torch.equal(other, torch.ones(2))
    writes[0] = True
    with pytest.raises(ReplayError, match="buffer is changed by the replay"):
        graph.audited(torch.ones(2))


def test_a_number_assigned_under_a_mask_is_a_constant_of_the_graph():
    def step(x: Tensor) -> Tensor:
        y = x.clone()
        y[y > 0] = 2.5
        return y

    graph = capture(step, torch.zeros(3))
    for x in (torch.tensor([1.0, -1.0, 3.0]), torch.tensor([-1.0, 4.0, -2.0])):
        graph.poison(0x5A)
        assert equal(graph.replay(x), step(x))


def _lstm(x: Tensor) -> Tensor:
    return LSTM(x[None])[0]


LSTM = torch.nn.LSTM(8, 8).requires_grad_(False)
WEIGHT = torch.randn(4, 8)
BODIES = {
    "max": lambda x: x.max(dim=1),
    "topk": lambda x: x.topk(3),
    "var-mean": lambda x: torch.var_mean(x, 1),
    "foreach": lambda x: torch.ops.aten._foreach_add([x, x * 2], 3.0),
    "lstm": _lstm,
    "complex": lambda x: torch.view_as_real(torch.view_as_complex(x.view(4, 4, 2)) * 1j),
    "fft": lambda x: torch.fft.fft(x).real,
    "in-place-input": lambda x: x.mul_(2).add(1),
    "views": lambda x: (x[1:], x.t(), x.view(-1)),
    "scatter": lambda x: torch.zeros(4, 8).scatter_(1, x.abs().long().clamp(max=7), x),
    "split": lambda x: x.split(2),
    "fp8": lambda x: x.to(torch.float8_e4m3fn).float(),
    "transposed": lambda x: (x.t() @ WEIGHT).t().clone(),
    "no-rows": lambda x: torch.zeros(0, 8) + x[:0],
    "arange": lambda x: torch.arange(8) * x,
    "nested": lambda x: (x, None, [x * 2, {"a": x.sum()}]),
    "one-element-stepped": lambda x: (x + 1).view(-1)[::2][:1],
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_values_and_layouts_are_those_of_eager(body):
    graph = capture(body, torch.randn(4, 8))
    for _ in range(3):
        x = torch.randn(4, 8)
        with torch.no_grad():
            expected = tree_leaves(body(x.clone()))
        got = tree_leaves(graph.replay(x))
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert (a is None) is (b is None)
            if a is not None:
                assert torch.equal(a, b)
                assert (a.dtype, a.stride()) == (b.dtype, b.stride())
