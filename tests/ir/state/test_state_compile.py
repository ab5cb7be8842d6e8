"""Compiled code updates the same states as eager code, in place, each layer its own."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ir
import ir.compilation
from ir import IrContext, ir_state
from ir.capture import capture
from ir.compilation import ReplacementCache, Report
from ir.op import IrOp, register_op

Names = Callable[[str], str]
pytestmark = [
    pytest.mark.usefixtures("dynamo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LAYERS = 4


class Quantized:
    """An op with a provider that keeps a running maximum for each layer, and a model of it."""

    def __init__(self, fresh: Names) -> None:
        self.state = state = fresh("running_max")
        ir_state.register_type(state, lambda: torch.zeros(1), per="layer")

        def native(x: Tensor) -> Tensor:
            return x / x.abs().amax()

        self.op = op = register_op(name=fresh("quant"))(native)

        @op.register_impl("running", state=(state,))
        def running(x: Tensor) -> Tensor:
            held = ir_state.get(state)
            held.copy_(torch.maximum(held, x.abs().amax()))
            return x / held

        class Layer(nn.Module):
            def __init__(self, i: int) -> None:
                super().__init__()
                self.i = i

            def forward(self, x: Tensor) -> Tensor:
                with ir.scope(layer=self.i):
                    return op(x * (self.i + 1)) + 1

        self.model = nn.Sequential(*[Layer(i) for i in range(LAYERS)])

    def states(self) -> list[Tensor]:
        return [ir_state.get(self.state, str(i)) for i in range(LAYERS)]

    def zero(self) -> None:
        for s in self.states():
            s.zero_()


@pytest.fixture
def quantized(fresh: Names) -> Any:
    made = Quantized(fresh)
    with torch.no_grad(), made.op.set_priority(["running"]):
        yield made


def inputs(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(3, 5, generator=generator) * (i + 1) for i in range(count)]


def compiled(f: Any, **options: Any) -> Callable[..., Any]:
    options.setdefault("run", "fx")
    options.setdefault("cache", ReplacementCache())
    return torch.compile(f, backend=ir.compilation.backend, fullgraph=True, options=options)


@pytest.mark.parametrize("wrap", [True, False])
def test_every_compiled_step_equals_the_eager_one(quantized: Quantized, wrap: bool):
    xs = inputs(10)
    eager, after = [], []
    for x in xs:
        eager.append(quantized.model(x))
        after.append([s.clone() for s in quantized.states()])
    held = quantized.states()
    addresses = [s.data_ptr() for s in held]
    quantized.zero()
    with ir.enable_torch_wrap(wrap):
        model = compiled(quantized.model)
        for k, x in enumerate(xs):
            assert torch.equal(model(x), eager[k])
            now = quantized.states()
            assert all(torch.equal(a, b) for a, b in zip(now, after[k], strict=True))
    assert all(a is b for a, b in zip(quantized.states(), held, strict=True))
    assert [s.data_ptr() for s in quantized.states()] == addresses


@pytest.mark.slow
def test_the_same_under_inductor(quantized: Quantized):
    xs = inputs(4)
    for x in xs:
        quantized.model(x)
    after = [s.clone() for s in quantized.states()]
    addresses = [s.data_ptr() for s in quantized.states()]
    quantized.zero()
    model = compiled(quantized.model, run="inductor")
    for x in xs:
        model(x)
    assert all(torch.equal(a, b) for a, b in zip(quantized.states(), after, strict=True))
    assert [s.data_ptr() for s in quantized.states()] == addresses


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_backends_that_do_not_lower_give_the_same(quantized: Quantized, backend: str):
    xs = inputs(3)
    eager = [quantized.model(x) for x in xs]
    after = [s.clone() for s in quantized.states()]
    quantized.zero()
    model = torch.compile(quantized.model, backend=backend, fullgraph=True)
    assert all(torch.equal(model(x), e) for x, e in zip(xs, eager, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(quantized.states(), after, strict=True))


def test_states_are_created_while_tracing_and_no_clone_of_them_is_left(quantized: Quantized):
    report = Report()
    kept: list[Any] = []

    def backend(gm: Any, example: Any) -> Any:
        return ir.compilation.backend(gm, example, options={"run": "fx", "report": report})

    x = inputs(1)[0]
    assert not ir_state.exists(quantized.state, "0")
    torch.compile(quantized.model, backend=backend, fullgraph=True)(x)
    assert all(ir_state.exists(quantized.state, str(i)) for i in range(LAYERS))
    clones = report.passes[-1]
    assert (len(clones.removed), clones.kept) == (LAYERS, ()), kept  # type: ignore[union-attr]


def test_a_dead_result_still_updates(quantized: Quantized):
    def f(x: Tensor) -> Tensor:
        with ir.scope(layer=0):
            quantized.op(x)
        return x + 1

    x = torch.full((2,), 3.0)
    assert torch.equal(compiled(f)(x), x + 1)
    assert ir_state.get(quantized.state, "0").item() == 3


def test_equal_calls_in_one_graph_are_all_made(fresh: Names):
    count = fresh("count")
    ir_state.register_type(count, lambda: torch.zeros(1), per="layer")

    def native(x: Tensor) -> Tensor:
        return x + ir_state.get(count).add_(1)

    op = register_op(name=fresh("counter"), state=(count,))(native)

    def f(x: Tensor) -> tuple[Tensor, ...]:
        with ir.scope(layer=0):
            a, b = op(x), op(x)
        with ir.scope(layer=1):
            c = op(x)
        return a, b, c, ir_state.get(count, "0") * 1

    with torch.no_grad():
        g = compiled(f)
        found = [[t.item() for t in g(torch.zeros(1))] for _ in range(3)]
    assert found == [[1, 2, 1, 2], [3, 4, 2, 4], [5, 6, 3, 6]]


def test_reset_and_recompilation_leave_state_alone(quantized: Quantized):
    model = compiled(quantized.model)
    xs = inputs(4)
    model(xs[0])
    held = quantized.states()
    model(torch.cat([xs[1], xs[1]]))
    torch._dynamo.reset()
    model(xs[2])
    assert all(a is b for a, b in zip(quantized.states(), held, strict=True))
    got = [s.clone() for s in held]
    quantized.zero()
    for x in (xs[0], torch.cat([xs[1], xs[1]]), xs[2]):
        quantized.model(x)
    assert all(torch.equal(a, b) for a, b in zip(got, quantized.states(), strict=True))


def test_a_write_from_outside_and_a_replaced_tensor_are_seen(quantized: Quantized):
    model, x = compiled(quantized.model), torch.ones(2)
    model(x)
    ir_state.get(quantized.state, "0").fill_(100)
    model(x)
    assert ir_state.get(quantized.state, "0").item() == 100
    mine = torch.full((1,), 7.0)
    ir_state.replace(quantized.state, mine, "0")
    model(x * 9)
    assert mine.item() == 9
    assert ir_state.get(quantized.state, "0") is mine


def test_override_and_discard_reach_compiled_code(quantized: Quantized):
    model, x = compiled(quantized.model), torch.ones(2)
    model(x * 5)
    with ir_state.override(quantized.state, lambda: torch.full((1,), 2.0)):
        model(x)
        assert ir_state.get(quantized.state, "0").item() == 2
    assert ir_state.get(quantized.state, "0").item() == 5
    ir_state.discard(quantized.state)
    model(x * 3)
    assert ir_state.get(quantized.state, "0").item() == 3


def test_a_scope_set_outside_is_part_of_what_was_compiled(quantized: Quantized):
    g = compiled(lambda x: quantized.op(x))
    for layer, value in ((1, 4.0), (2, 5.0), (1, 6.0), (2, 1.0)):
        with ir.scope(layer=layer):
            g(torch.full((1,), value))
    assert ir_state.get(quantized.state, "1").item() == 6
    assert ir_state.get(quantized.state, "2").item() == 5
    assert IrContext.get_scope("layer") is None


def test_threads_with_scopes_of_their_own_share_compiled_code_and_no_state(quantized: Quantized):
    g = compiled(lambda x: quantized.op(x))

    def work(i: int) -> None:
        with torch.no_grad(), quantized.op.set_priority(["running"]), ir.scope(layer=i):
            for _ in range(3):
                g(torch.full((1,), float(i)))

    threads = [threading.Thread(target=work, args=(i,)) for i in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [ir_state.get(quantized.state, str(i)).item() for i in (1, 2)] == [1, 2]


def test_a_graph_that_breaks_inside_a_scope_keeps_it(quantized: Quantized):
    seen: list[Any] = []

    def f(x: Tensor) -> Tensor:
        token = IrContext.set_scope("layer", 1)
        y = quantized.op(x)
        torch._dynamo.graph_break()
        seen.append((IrContext.get_scope("layer"), ir_state.get(quantized.state)))
        with ir.scope(layer=2):
            y = quantized.op(y + 1)
            torch._dynamo.graph_break()
        y = quantized.op(y + 2)
        IrContext.reset(token)
        return y

    x = torch.full((1,), 4.0)
    ir_state.get(quantized.state)
    expected = f(x)
    after = [ir_state.get(quantized.state, str(i)).clone() for i in (1, 2)]
    quantized.zero()
    options: Any = {"run": "fx"}
    got = torch.compile(f, backend=ir.compilation.backend, options=options)(x)
    assert torch.equal(got, expected)
    for i in (1, 2):
        assert torch.equal(ir_state.get(quantized.state, str(i)), after[i - 1])
    assert seen == [("1", ir_state.get(quantized.state, "1"))] * 2
    assert IrContext.get_scope("layer") is None


def test_one_dynamic_graph_serves_every_size(quantized: Quantized):
    options: Any = {"run": "fx", "report": (report := Report())}
    model = torch.compile(
        quantized.model, backend=ir.compilation.backend, fullgraph=True, dynamic=True,
        options=options,
    )  # fmt: skip
    for n in (2, 5, 9):
        model(torch.full((n, 3), float(n)))
    assert ir_state.get(quantized.state, "0").item() == 9
    assert len(report.passes) == 3


def test_a_tree_of_tensors_is_state(fresh: Names):
    name = fresh("tree")
    ir_state.register_type(name, lambda: {"sum": torch.zeros(1), "parts": [torch.ones(2)]})

    def native(x: Tensor) -> Tensor:
        held = ir_state.get(name)
        held["sum"].add_(x.sum())
        held["parts"][0].mul_(2)
        return x + held["sum"]

    op = register_op(name=fresh("tree_op"), state=(name,))(native)
    g = compiled(lambda x: op(x))
    with torch.no_grad():
        assert [g(torch.ones(1)).item() for _ in range(3)] == [2, 3, 4]
    assert ir_state.get(name)["parts"][0].tolist() == [8, 8]


@pytest.mark.parametrize("ranks", [1, 2])
def test_128_mib_for_32_layers_are_allocated_once_for_each_scope_that_keeps_them(
    fresh: Names, ranks: int
):
    name, made = fresh("workspace"), []
    size = 128 * 2**20

    def create() -> Tensor:
        made.append(1)
        return torch.zeros(size, dtype=torch.uint8)

    ir_state.register_type(name, create, per="rank")

    def native(x: Tensor) -> Tensor:
        workspace = ir_state.get(name)
        workspace[:1].add_(1)
        return x + 1

    op = register_op(name=fresh("wide"), state=(name,))(native)

    def model(x: Tensor) -> Tensor:
        for i in range(32):
            with ir.scope(layer=i, rank=i % ranks):
                x = op(x)
        return x

    with torch.no_grad():
        assert model(torch.zeros(1)).item() == 32
        g = compiled(model)
        assert [g(torch.zeros(1)).item() for _ in range(2)] == [32, 32]
    assert made == [1] * ranks
    assert [ir_state.get(name, str(r))[0].item() for r in range(ranks)] == [96 // ranks] * ranks
    kept = [e for e in ir_state.describe().entries if e.name == name]
    assert [e.value.nbytes for e in kept] == [size] * ranks


@pytest.fixture
def rfc(fresh: Names) -> Any:
    """The example of the RFC, with nothing of what goes beyond it."""
    amax = "test_rfc_quant_amax"
    ir_state.register_type(amax, lambda: torch.zeros(1))

    def native(x: Tensor) -> Tensor:
        return x / x.abs().amax()

    ir.ops.quant_op = register_op(name=fresh("quant_op"))(native)  # type: ignore[attr-defined]
    yield ir.ops.quant_op  # type: ignore[attr-defined]
    del ir.ops.quant_op  # type: ignore[attr-defined]


def test_the_example_of_the_rfc_runs_as_written_eager_compiled_and_captured(rfc: IrOp):
    @ir.ops.quant_op.register_impl("dynamic")  # type: ignore[attr-defined]
    def dynamic(x: Tensor) -> Tensor:
        amax = ir_state.get("test_rfc_quant_amax", scope=IrContext.get_scope("layer"))
        amax.copy_(torch.maximum(amax * 0.9, x.abs().amax()))
        return x / amax

    class QuantLayer(nn.Module):
        def __init__(self, idx: int) -> None:
            super().__init__()
            self.idx = idx

        def forward(self, x: Tensor) -> Tensor:
            token = IrContext.set_scope("layer", f"layer_{self.idx}")
            try:
                return ir.ops.quant_op(x) * 2  # type: ignore[attr-defined]
            finally:
                IrContext.reset(token)

    model = nn.Sequential(*[QuantLayer(i) for i in range(3)])
    layers = [f"layer_{i}" for i in range(3)]
    xs = inputs(100)
    with torch.no_grad(), rfc.set_priority(["dynamic"]):
        eager = [model(x) for x in xs]
        held = [ir_state.get("test_rfc_quant_amax", layer) for layer in layers]
        after = [t.clone() for t in held]
        addresses = [t.data_ptr() for t in held]
        for t in held:
            t.zero_()
        g = compiled(model)
        for x, expected in zip(xs, eager, strict=True):
            assert torch.equal(g(x), expected)
        assert [t.data_ptr() for t in held] == addresses
        assert all(torch.equal(a, b) for a, b in zip(held, after, strict=True))
        for t in held:
            t.zero_()
        graph = capture(model, xs[0].clone())
        for x, expected in zip(xs, eager, strict=True):
            assert torch.equal(graph.replay(x), expected)  # type: ignore[arg-type]
        graph.release()
        assert [t.data_ptr() for t in held] == addresses
        assert all(torch.equal(a, b) for a, b in zip(held, after, strict=True))
        now = [ir_state.get("test_rfc_quant_amax", layer) for layer in layers]
        assert all(a is b for a, b in zip(now, held, strict=True))
    assert not ir_state.exists("test_rfc_quant_amax")
