"""`maybe_inplace` becomes the default overload; what was given away is used no more."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ir.compilation.errors import DonationError
from ir.compilation.functionalize import functionalize
from ir.ops.layernorm import fused_add_rms_norm, rms_norm

X = torch.linspace(-1, 1, 32).view(4, 8)
IR = torch.ops.ir


def targets(graph: Any) -> list[Any]:
    return [n.target for n in graph.graph.nodes if "ir." in str(n.target)]


@pytest.mark.parametrize("dynamic", [False, True])
def test_maybe_inplace_becomes_the_default_overload(traced, run, dynamic: bool):
    def f(x: Tensor) -> Any:
        return rms_norm.maybe_inplace(x * 2, None, epsilon=1e-5), rms_norm(x, None, 1e-5)

    graph = traced(f, X, dynamic=dynamic)
    done = functionalize(graph.graph)
    assert targets(graph) == [IR.rms_norm.default] * 2
    assert [(n.op, len(n.donated)) for n in done.nodes] == [("rms_norm", 1)]
    assert done.donated_inputs == ()
    assert all(torch.equal(a, b) for a, b in zip(run(graph, X), f(X), strict=True))


def test_donated_inputs_are_recorded_by_position(traced):
    def f(w: Tensor, x: Tensor, r: Tensor) -> Any:
        return fused_add_rms_norm.maybe_inplace(x, r, w, 1e-5)

    assert functionalize(traced(f, X[0].clone(), X, X.clone()).graph).donated_inputs == (1, 2)


def test_a_view_of_every_element_donates_the_input_and_a_part_does_not(traced):
    def whole(x: Tensor) -> Any:
        return rms_norm.maybe_inplace(x.view(2, 16), None, 1e-5)

    def part(x: Tensor) -> Any:
        return rms_norm.maybe_inplace(x[1:], None, 1e-5)

    assert functionalize(traced(whole, X).graph).donated_inputs == (0,)
    assert functionalize(traced(part, X).graph).donated_inputs == ()


def used_again(x: Tensor) -> Any:
    y = x * 2
    return rms_norm.maybe_inplace(y, None, 1e-5) + y


def view_used_again(x: Tensor) -> Any:
    y = x * 2
    v = y.view(-1)
    return rms_norm.maybe_inplace(y, None, 1e-5).view(-1) * v


def view_taken_afterwards(x: Tensor) -> Any:
    y = x * 2
    z = rms_norm.maybe_inplace(y, None, 1e-5)
    return z, y[0]


def returned(x: Tensor) -> Any:
    y = x * 2
    return rms_norm.maybe_inplace(y, None, 1e-5), y


def base_of_a_view_used_again(x: Tensor) -> Any:
    y = x * 2
    return rms_norm.maybe_inplace(y[1:], None, 1e-5), y + 1


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("f", "use"),
    [
        (used_again, "used by add afterwards"),
        (view_used_again, r"used by mul_1 through view afterwards"),
        (view_taken_afterwards, "used by select afterwards"),
        (returned, "returned afterwards"),
        (base_of_a_view_used_again, r"used by add through mul afterwards"),
    ],
)
def test_a_later_use_is_refused_and_named(traced, f: Any, use: str, dynamic: bool):
    graph = traced(f, X, dynamic=dynamic)
    with pytest.raises(DonationError, match=f"was given to .*maybe_inplace and is {use}"):
        functionalize(graph.graph)


@pytest.mark.parametrize("dynamic", [False, True])
def test_what_shares_no_byte_may_be_used(traced, dynamic: bool):
    def f(x: Tensor) -> Any:
        y = x * 2
        a, b = y.split(4, dim=-1)
        return rms_norm.maybe_inplace(a, None, 1e-5), b + 1

    assert len(functionalize(traced(f, X, dynamic=dynamic).graph).nodes) == 1


def test_an_activation_given_twice_is_refused(traced):
    def f(x: Tensor) -> Any:
        y = x * 2
        z = torch.ops.ir.fused_add_rms_norm.default(y, y, None, 1e-5)
        return z

    graph = traced(f, X)
    node = next(n for n in graph.graph.nodes if "ir." in str(n.target))
    node.target = IR.fused_add_rms_norm.maybe_inplace
    with pytest.raises(DonationError, match="x_residual"):
        functionalize(graph.graph)


def test_maybe_inplace_in_a_held_graph_is_functionalized(traced):
    def branch(x: Tensor) -> Tensor:
        return rms_norm(x * 2, None, 1e-5)

    graph = traced(lambda x: torch.cond(x.sum() > 0, branch, lambda x: x + 1, (x,)), X)
    inner = graph.true_graph_0.graph
    node = next(n for n in inner.nodes if "ir." in str(n.target))
    node.target = IR.rms_norm.maybe_inplace
    assert len(functionalize(graph.graph).nodes) == 1
    assert node.target is IR.rms_norm.default
