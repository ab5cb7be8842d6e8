"""What lowering refuses where a graph could not keep a state as eager code does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import ir
import ir.compilation
from ir import IrContext, ir_state
from ir.compilation import LoweringError, LoweringPass, ReplacementCache, lower
from ir.op import IrOp, register_op

Names = Callable[[str], str]
pytestmark = [
    pytest.mark.usefixtures("dynamo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
X = torch.full((2,), 3.0)


def op_of(
    fresh: Names, per: tuple[str, ...] | None = None, **states: Callable[[], Any]
) -> tuple[IrOp, list[str]]:
    names = []
    for stem, create in states.items():
        names.append(fresh(stem))
        ir_state.register_type(names[-1], create, per=per)

    def native(x: Tensor) -> Tensor:
        return x + 1

    return register_op(name=fresh("lowered"))(native), names


def compiled(f: Any, cache: ReplacementCache | None = None) -> Callable[..., Any]:
    options: Any = {"run": "fx", "cache": ReplacementCache() if cache is None else cache}
    return torch.compile(f, backend=ir.compilation.backend, fullgraph=True, options=options)


def refused(op: IrOp, message: str) -> None:
    with torch.no_grad(), op.set_priority(["mine"]), pytest.raises(Exception, match=message):
        compiled(lambda x: op(x))(X)


def test_plain_data_is_refused_and_not_frozen(fresh: Names):
    op, (step,) = op_of(fresh, step=lambda: 3)

    @op.register_impl("mine", state=(step,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(step)

    refused(op, "is int 3, which a graph would freeze at its value now")


def test_plain_data_beside_tensors_may_be_read_but_not_changed(fresh: Names):
    op, (tree,) = op_of(fresh, tree=lambda: {"sum": torch.zeros(1), "step": 0})

    @op.register_impl("mine", state=(tree,))
    def mine(x: Tensor) -> Tensor:
        held = ir_state.get(tree)
        held["step"] += 1
        return x + held["sum"]

    refused(op, "Python data in it changed while it was traced")
    assert ir_state.get(tree)["step"] == 0


def test_a_rebound_entry_is_refused(fresh: Names):
    op, (tree,) = op_of(fresh, tree=lambda: {"max": torch.zeros(1)})

    @op.register_impl("mine", state=(tree,))
    def mine(x: Tensor) -> Tensor:
        held = ir_state.get(tree)
        held["max"] = torch.maximum(held["max"], x.amax())
        return x / held["max"]

    refused(op, "was bound to another tensor, which a graph cannot do")


def test_a_state_of_a_scope_that_nothing_told_of_is_refused(fresh: Names):
    op, (amax,) = op_of(fresh, amax=lambda: torch.zeros(1))

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(amax, "layer" + "_7")

    refused(op, r'state amax_\d+@"layer_7" was not given .* register_type\(per=')


def test_growing_inside_a_graph_is_refused(fresh: Names):
    op, (ws,) = op_of(fresh, ws=lambda: torch.zeros(1))

    @op.register_impl("mine", state=(ws,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.grow(ws, 8)[:1]

    refused(op, "cannot be replaced or grown inside a graph")
    ir_state.grow(ws, 8)
    with torch.no_grad(), op.set_priority(["mine"]):
        assert torch.equal(compiled(lambda x: op(x))(X), X)


def test_a_graph_that_tells_no_scope_is_refused(fresh: Names):
    op, (amax,) = op_of(fresh, amax=lambda: torch.zeros(1))

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(amax)

    with op.set_priority(["mine"]):
        graph = make_fx(lambda x: op.torch_op(x), tracing_mode="fake")(X).graph
        with pytest.raises(LoweringError, match="nothing says of which scope"):
            lower(graph)


def test_a_stateful_op_inside_a_provider_uses_the_states_that_the_outer_one_declares(fresh: Names):
    inner, (count,) = op_of(fresh, count=lambda: torch.zeros(1))

    @inner.register_impl("mine", state=(count,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(count).add_(1)

    outer, _ = op_of(fresh)

    @outer.register_impl("mine", state=(count,))
    def outer_mine(x: Tensor) -> Tensor:
        return inner(x) * 2

    with torch.no_grad(), inner.set_priority(["mine"]), outer.set_priority(["mine"]):
        g = compiled(lambda x: outer(x))
        assert [g(X)[0].item() for _ in range(2)] == [8, 10]
        assert outer(X)[0].item() == 12


def test_the_cache_keeps_scopes_apart_and_serves_each_again(fresh: Names):
    op, (amax,) = op_of(fresh, (), amax=lambda: torch.zeros(1))

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        # What a trace reads of its scope is fixed in it.
        return x * int(IrContext.get_scope("layer") or 0) + ir_state.get(amax)

    def f(x: Tensor) -> list[Tensor]:
        found = []
        for layer in (1, 2, 1):
            with ir.scope(layer=layer):
                found.append(op(x))
        return found

    cache = ReplacementCache()
    with torch.no_grad(), op.set_priority(["mine"]):
        assert [y[0].item() for y in compiled(f, cache)(X)] == [3, 6, 3]
    assert (cache.statistics.misses, cache.statistics.hits) == (2, 1)


class Handle:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def apply(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_a_handle_is_used_while_tracing_and_a_new_one_is_traced_anew(fresh: Names):
    op, (group,) = op_of(fresh, group=lambda: Handle(2))

    @op.register_impl("mine", state=(group,))
    def mine(x: Tensor) -> Tensor:
        return ir_state.get(group).apply(x)

    cache = ReplacementCache()
    with torch.no_grad(), op.set_priority(["mine"]):
        g = compiled(lambda x: op(x), cache)
        assert torch.equal(g(X), X * 2)
        with ir_state.override(group, lambda: Handle(5)):
            assert torch.equal(g(X), X * 5)
        assert torch.equal(g(X), X * 2)
        before = LoweringPass(donated=()).uuid()
        assert before == LoweringPass(donated=()).uuid() is not None
        ir_state.replace(group, Handle(7))
        assert torch.equal(g(X), X * 7)
        # Graphs that Inductor keeps on disk have something of the handle in them.
        assert LoweringPass(donated=()).uuid() != before
    assert cache.statistics.bypasses == {"state-without-tensors": 4}


def test_a_handle_that_stood_in_for_a_tensor_is_not_kept(fresh: Names):
    op, (factor,) = op_of(fresh, factor=lambda: torch.full((1,), 3.0))

    @op.register_impl("mine", state=(factor,))
    def mine(x: Tensor) -> Tensor:
        held = ir_state.get(factor)
        return held.apply(x) if isinstance(held, Handle) else x * held

    with torch.no_grad(), op.set_priority(["mine"]):
        g = compiled(lambda x: op(x))
        assert torch.equal(g(X), X * 3)
        with ir_state.override(factor, lambda: Handle(5)):
            assert torch.equal(g(X), X * 5)
        assert torch.equal(g(X), X * 3)


def test_an_output_never_shares_memory_with_a_state(fresh: Names):
    op, (amax,) = op_of(fresh, amax=lambda: torch.zeros(2))

    @op.register_impl("mine", state=(amax,))
    def mine(x: Tensor) -> Tensor:
        return ir_state.get(amax).add_(x)

    with torch.no_grad(), op.set_priority(["mine"]):
        for backend in (ir.compilation.backend, "aot_eager"):
            torch._dynamo.reset()
            ir_state.get(amax).zero_()
            options: Any = {"options": {"run": "fx"}} if callable(backend) else {}
            g = torch.compile(lambda x: op(x), backend=backend, fullgraph=True, **options)
            first = g(X)
            second = g(X)
            assert first.tolist() == [3, 3]
            assert second.tolist() == [6, 6]
            assert first.data_ptr() != ir_state.get(amax).data_ptr()


def test_a_copy_of_a_state_that_a_graph_returns_stays_a_copy(fresh: Names):
    op, (count,) = op_of(fresh, count=lambda: torch.zeros(1))

    @op.register_impl("mine", state=(count,))
    def mine(x: Tensor) -> Tensor:
        return x + ir_state.get(count).add_(1)

    def f(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        before = ir_state.get(count).clone()
        y = op(x)
        return before, y, ir_state.get(count).clone()

    with torch.no_grad(), op.set_priority(["mine"]):
        g = compiled(f)
        first, second = g(X), g(X)
    assert [first[0].item(), first[2].item()] == [0, 1]
    assert [second[0].item(), second[2].item()] == [1, 2]
