"""Lowered graphs mean what they meant, hold nothing of the IR, and tell where nodes come from."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ir import enable_torch_wrap
from ir.compilation.cache import ReplacementCache
from ir.compilation.errors import LoweringError
from ir.compilation.lower import lower
from ir.op import IrOp, register_op
from ir.ops.layernorm import fused_add_rms_norm, rms_norm
from ir.ops.quantization import dynamic_per_token_quant_fp8

X = torch.linspace(-3, 3, 32, dtype=torch.bfloat16).view(4, 8)
W = torch.linspace(0.5, 1.5, 8, dtype=torch.bfloat16)
aten = torch.ops.aten


def chain(x: Tensor, w: Tensor) -> Any:
    y = rms_norm(x, w, epsilon=1e-5)
    y, r = fused_add_rms_norm(y, x * 2, w, 1e-6)
    q, scale = dynamic_per_token_quant_fp8(y.view(2, 16))
    return rms_norm(r, None, 1e-5, variance_size=4), q.to(torch.float32), scale


def sizes_alone(x: Tensor, w: Tensor) -> Any:
    """Without constants that a symbolic size would have to be compared with."""
    y = rms_norm(x, w, epsilon=1e-5)
    y, r = fused_add_rms_norm(y, x * 2, w, 1e-6)
    q, scale = dynamic_per_token_quant_fp8(y)
    return rms_norm(r, None, 1e-5), q.to(torch.float32), scale


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def toy(op_name: Callable[[], str]) -> IrOp:
    """x * scale + 1, with a provider that writes its activation."""

    def native(x: Tensor, scale: float = 2.0) -> Tensor:
        return x * scale + 1

    op = register_op(name=op_name(), allow_inplace=True)(native)

    @op.register_impl("inplace", inplace=True)
    def inplace(x: Tensor, scale: float = 2.0) -> Tensor:
        x.mul_(scale)
        x.view(-1).add_(1)
        return x

    return op


@pytest.mark.parametrize("dynamic", [False, True])
def test_lowered_graphs_are_bit_equal_cold_warm_and_disabled(traced, run, dynamic: bool):
    cache = ReplacementCache()
    f = sizes_alone if dynamic else chain
    want = f(X, W)
    with enable_torch_wrap(False):
        assert equal(f(X, W), want)
    for kept in (cache, cache, None):
        graph = traced(f, X, W, dynamic=dynamic)
        assert equal(graph(X, W), want)
        lower(graph.graph, cache=kept)
        assert equal(run(graph, X, W), want)
    assert cache.statistics.misses == 4
    assert cache.statistics.hits == 4


def test_a_dynamic_graph_serves_other_sizes(traced, run):
    graph = traced(lambda x, w: rms_norm(x, w, 1e-5), X, W, dynamic=True)
    lower(graph.graph, cache=None)
    x, w = torch.randn(7, 16).bfloat16(), torch.randn(16).bfloat16()
    assert torch.equal(run(graph, x, w), rms_norm(x, w, 1e-5))


def test_one_trace_serves_equal_nodes_and_later_graphs(traced):
    def twice(x: Tensor, w: Tensor) -> Tensor:
        return rms_norm(rms_norm(x, w, 1e-5), w, 1e-5)

    cache = ReplacementCache()
    assert [n.source for n in lower(traced(twice, X, W).graph, cache=cache).nodes] == [
        "miss",
        "hit",
    ]
    assert [n.source for n in lower(traced(twice, X, W).graph, cache=cache).nodes] == ["hit", "hit"]
    assert [n.source for n in lower(traced(twice, X, W).graph, cache=None).nodes] == [
        "disabled"
    ] * 2


def perturbations() -> list[Any]:
    def strided(x: Tensor) -> Tensor:
        return x.t().contiguous().t()

    def offset(x: Tensor) -> Tensor:
        return torch.cat([x[:1], x])[1:]

    return [
        pytest.param(lambda x, w: rms_norm(x, w, 1e-5), X[:3], id="shape"),
        pytest.param(lambda x, w: rms_norm(x, w, 1e-5), X.float(), id="dtype"),
        pytest.param(lambda x, w: rms_norm(x, w, 1e-5), strided(X), id="strides"),
        pytest.param(lambda x, w: rms_norm(x, w, 1e-5), offset(X), id="offset"),
        pytest.param(lambda x, w: rms_norm(x, w, 1e-4), X, id="value"),
        pytest.param(lambda x, w: rms_norm(x, None, 1e-5), X, id="none"),
        pytest.param(lambda x, w: rms_norm(x, x[0], 1e-5), X, id="shared-storage"),
        pytest.param(lambda x, w: rms_norm(x, w, 1e-5, 4), X, id="default"),
    ]


@pytest.mark.parametrize(("f", "x"), perturbations())
@pytest.mark.parametrize("first", ["plain", "other"])
def test_one_factor_perturbed_on_a_warm_cache_in_both_orders(traced, run, f, x, first: str):
    def plain(x: Tensor, w: Tensor) -> Tensor:
        return rms_norm(x, w, 1e-5)

    cache = ReplacementCache()
    calls = [(plain, X), (f, x)]
    for function, tensor in calls if first == "plain" else reversed(calls):
        graph = traced(function, tensor, W)
        lower(graph.graph, cache=cache)
        assert torch.equal(run(graph, tensor, W), function(tensor, W))
    assert cache.statistics.misses == 2


def test_a_replaced_provider_is_traced_anew(traced, run, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)
    cache = ReplacementCache()

    def two(x: Tensor) -> Tensor:
        return x + 2

    def three(x: Tensor) -> Tensor:
        return x + 3

    for add, provider in ((2, two), (3, three)):
        op.register_impl("toy", replace=True)(provider)
        with op.set_priority(["toy"]):
            graph = traced(lambda x: op(x), X)
            lower(graph.graph, cache=cache)
            assert torch.equal(run(graph, X), X + add)
    assert cache.statistics.misses == 2


def test_selected_impls_tells_the_provider_of_each_node(traced, toy: IrOp):
    with toy.set_priority(["inplace"]):
        graph = traced(lambda x: toy(x) + rms_norm(x, None, 1e-5), X)
        names = {n.target._opname: n.name for n in graph.graph.nodes if "ir." in str(n.target)}
        done = lower(graph.graph, cache=None)
    assert done.selected_impls == {
        toy.name: {names[toy.name]: "inplace"},
        "rms_norm": {names["rms_norm"]: "native"},
    }


def test_arguments_by_position_keyword_and_default_lower_alike(traced, toy: IrOp):
    def targets(f: Callable[..., Any]) -> list[Any]:
        graph = traced(f, X)
        cache = ReplacementCache()
        lower(graph.graph, cache=cache)
        return [(n.target, n.args[1:]) for n in graph.graph.nodes]

    want = targets(lambda x: toy(x, 2.0))
    assert targets(lambda x: toy(x)) == want
    assert targets(lambda x: toy(x, scale=2.0)) == want
    assert targets(lambda x: toy(x=x)) == want


def test_an_inplace_provider_writes_a_copy(traced, run, toy: IrOp):
    with toy.set_priority(["inplace"]):
        graph = traced(lambda x: (toy(x), x * 1), X)
        lower(graph.graph, cache=None)
    x = X.clone()
    got = run(graph, x)
    assert equal(got, (X * 2 + 1, X))
    assert torch.equal(x, X)
    assert aten.add_.Tensor in {n.target for n in graph.graph.nodes}


def test_maybe_inplace_left_in_a_graph_runs_the_provider_as_it_is(traced, run, toy: IrOp):
    with toy.set_priority(["inplace"]):
        graph = traced(lambda x: toy.maybe_inplace(x), X)
        lower(graph.graph, cache=None)
    x = X.clone()
    assert torch.equal(run(graph, x), X * 2 + 1)
    assert torch.equal(x, X * 2 + 1)


def storages(graph: fx.GraphModule) -> dict[str, int]:
    found = {}
    for n in graph.graph.nodes:
        value = n.meta.get("val")
        if isinstance(value, Tensor):
            found[n.name] = value.untyped_storage()._cdata
    return found


@pytest.mark.parametrize("dynamic", [False, True])
def test_every_node_has_a_value_of_its_own_that_can_be_derived_again(traced, toy, dynamic: bool):
    def f(x: Tensor, w: Tensor) -> Any:
        y = toy(x)
        return rms_norm(y.view(-1, 8), w, 1e-5), y[1:] * 2

    with toy.set_priority(["inplace"]):
        cache = ReplacementCache()
        lower(traced(f, X, W, dynamic=dynamic).graph, cache=cache)
        graph = traced(f, X, W, dynamic=dynamic)
        lower(graph.graph, cache=cache)
    assert cache.statistics.hits == 2
    seen: set[int] = set()
    for node in graph.graph.nodes:
        if node.op == "output":
            continue
        value = node.meta["val"]
        assert id(value) not in seen
        seen.add(id(value))
        if node.op != "call_function" or not isinstance(value, FakeTensor):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        with value.fake_mode:
            again = node.target(*args, **kwargs)
        assert (again.shape, again.stride(), again.dtype) == (
            value.shape, value.stride(), value.dtype,
        )  # fmt: skip
        given = {a.untyped_storage()._cdata for a in args if isinstance(a, Tensor)}
        shared = value.untyped_storage()._cdata in given
        assert shared == (again.untyped_storage()._cdata in given), node.name


def test_new_nodes_tell_their_origin(traced):
    graph = traced(lambda x, w: rms_norm(x, w, 1e-5), X, W)
    node = next(n for n in graph.graph.nodes if n.op == "call_function")
    node.meta["stack_trace"] = "here"
    lower(graph.graph, cache=None)
    new = [n for n in graph.graph.nodes if n.op == "call_function"]
    assert len(new) == 8
    assert {n.meta["stack_trace"] for n in new} == {"here"}
    assert {(o := n.meta["ir_origin"]).node + o.provider for n in new} == {node.name + "native"}


def test_an_op_of_the_ir_that_is_not_registered_is_an_error_that_names_it(traced, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)
    graph = traced(lambda x: op(x), X)
    node = next(n for n in graph.graph.nodes if n.op == "call_function")
    del IrOp.registry[op.name]
    with pytest.raises(LoweringError, match=rf"not lowered: {node.name} \(ir\.{op.name}"):
        lower(graph.graph, cache=None)


def test_an_argument_without_a_value_is_an_error_that_names_it(traced):
    graph = traced(lambda x: rms_norm(x + 1, None, 1e-5), X)
    node = next(n for n in graph.graph.nodes if n.op == "call_function")
    del node.meta["val"]
    with pytest.raises(LoweringError, match=f"{node.name} has no value in its metadata"):
        lower(graph.graph, cache=None)


def test_a_provider_of_another_shape_is_refused(traced, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)

    @op.register_impl("toy")
    def toy(x: Tensor) -> Tensor:
        return x[1:] + 1

    with op.set_priority(["toy"]):
        graph = traced(lambda x: op(x), X)
        with pytest.raises(LoweringError, match=r"'toy' returns .* the op declares"):
            lower(graph.graph, cache=None)


def test_an_output_that_is_an_argument_becomes_a_copy(traced, run, op_name):
    def native(x: Tensor) -> Tensor:
        return x

    op = register_op(name=op_name())(native)

    @op.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    graph = traced(lambda x: op(x), X)
    lower(graph.graph, cache=None)
    got = run(graph, X)
    assert torch.equal(got, X)
    assert got.data_ptr() != X.data_ptr()


def test_an_output_is_laid_out_as_declared(traced, run, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)

    @op.register_impl("toy")
    def toy(x: Tensor) -> Tensor:
        return (x.t() + 1).contiguous().t()

    with op.set_priority(["toy"]):
        graph = traced(lambda x: op(x).view(-1), X)
        lower(graph.graph, cache=None)
    assert torch.equal(run(graph, X), (X + 1).view(-1))


def test_a_launch_without_a_result_survives(traced, run, op_name):
    name = op_name()
    library = torch.library.Library("ir_test", "FRAGMENT")
    library.define(f"{name}(Tensor(a!) x) -> ()")

    def write(x: Tensor) -> None:
        x.add_(5)

    library.impl(name, write, "CompositeExplicitAutograd")
    library._register_fake(name, lambda x: None)
    launch = getattr(torch.ops.ir_test, name).default

    def native(x: Tensor) -> Tensor:
        return x + 5

    op = register_op(name=op_name(), allow_inplace=True)(native)

    @op.register_impl("kernel", inplace=True)
    def kernel(x: Tensor) -> Tensor:
        launch(x)
        return x

    with op.set_priority(["kernel"]):
        graph = traced(lambda x: op(x), X)
        lower(graph.graph, cache=None)
    assert launch in {n.target for n in graph.graph.nodes}
    assert torch.equal(run(graph, X), X + 5)


def test_a_constant_of_a_provider_survives(traced, run, op_name):
    def native(x: Tensor) -> Tensor:
        return x * torch.tensor([2.0, 3.0])

    op = register_op(name=op_name())(native)
    cache = ReplacementCache()
    x = torch.tensor([[1.0, 1.0], [4.0, 5.0]])
    for _ in range(2):
        graph = traced(lambda x: op(op(x)), x)
        lower(graph.graph, cache=cache)
        assert torch.equal(run(graph, x), x * torch.tensor([4.0, 9.0]))


def test_an_op_called_by_a_provider_is_lowered_with_its_own(traced, run, toy: IrOp, op_name):
    def native(x: Tensor) -> Tensor:
        return toy(x) * 2

    op = register_op(name=op_name())(native)
    with enable_torch_wrap(True):
        graph = traced(lambda x: op(x), X)
    with toy.set_priority(["inplace"]), enable_torch_wrap(False):
        done = lower(graph.graph, cache=None)
    assert [(n.op, n.provider) for n in done.nodes] == [(op.name, "native"), (toy.name, "inplace")]
    assert torch.equal(run(graph, X), (X * 2 + 1) * 2)


def test_a_provider_that_calls_its_own_op_is_refused(traced, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)

    @op.register_impl("loop", depends_on=[op])
    def loop(x: Tensor) -> Tensor:
        return op(x)

    with op.set_priority(["loop"]):
        graph = traced(lambda x: op(x), X)
        with pytest.raises(LoweringError, match="'loop' calls its own op"):
            lower(graph.graph, cache=None)


def env_of(graph: fx.GraphModule) -> ShapeEnv:
    value = next(iter(graph.graph.nodes)).meta["val"]
    return value.fake_mode.shape_env


@pytest.mark.parametrize(
    ("accepts", "provider", "declined"),
    [
        pytest.param(lambda x: x.shape[0] == 4, "native", ("toy",), id="hint"),
        pytest.param(lambda x: x.shape[0] % 2 == 0, "native", ("toy",), id="divisible"),
        pytest.param(lambda x: x.dim() == 2, "toy", (), id="rank"),
        pytest.param(lambda x: x.shape[0] >= 2, "toy", (), id="range"),
    ],
)
def test_supports_args_neither_guards_nor_sees_a_hint(
    traced, op_name, accepts, provider: str, declined: tuple[str, ...]
):
    def native(x: Tensor) -> Tensor:
        return x + 1

    op = register_op(name=op_name())(native)

    @op.register_impl("toy", supports_args=lambda x: accepts(x))
    def toy(x: Tensor) -> Tensor:
        return x + 1

    with op.set_priority(["toy"]):
        graph = traced(lambda x: op(x), X, dynamic=True)
        env = env_of(graph)
        before = len(env.guards)
        done = lower(graph.graph, cache=None)
    assert (done.nodes[0].provider, done.nodes[0].declined) == (provider, declined)
    assert len(env.guards) == before


def test_a_trace_that_assumes_sizes_is_not_kept(traced, op_name):
    def native(x: Tensor) -> Tensor:
        return x + 1 if x.shape[0] > 3 else x + 2

    op = register_op(name=op_name())(native)
    cache = ReplacementCache()

    @op.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    for rows in (4, 3):
        graph = traced(lambda x: op(x), torch.ones(rows, 8), dynamic=True)
        (node,) = lower(graph.graph, cache=cache).nodes
        assert node.source == "bypass: guards-on-sizes"
        added = next(n for n in graph.graph.nodes if n.target is aten.add.Tensor)
        assert added.args[1] == (1 if rows == 4 else 2)
    assert len(cache) == 0
    assert dict(cache.statistics.bypasses) == {"guards-on-sizes": 2}


def test_lowering_leaves_garbage_collection_as_it_was(traced):
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        lower(traced(lambda x: rms_norm(x, None, 1e-5), X).graph, cache=None)
        assert gc.isenabled() == enabled


def test_ops_in_held_graphs_are_lowered(run, traced):
    def f(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: rms_norm(x, None, 1e-5), lambda x: x + 1, (x,))

    graph = traced(f, X)
    done = lower(graph.graph, cache=None)
    assert [n.op for n in done.nodes] == ["rms_norm"]
    x = X.abs()
    assert torch.equal(run(graph, x), rms_norm(x, None, 1e-5))
