"""A decoder of 32 layers built of the ops: what providers that write in place copied, goes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx

import ir
from ir.compilation import ReplacementCache, eliminate_clones, functionalize, lower

LAYERS, TOKENS, HEADS, HEAD = 32, 5, 4, 8
HIDDEN = HEADS * HEAD
EPSILON = 1e-6


def fused_inplace(
    x: Tensor,
    x_residual: Tensor,
    weight: Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The native steps, so that bits agree; both activations are written."""
    y, total = ir.ops.fused_add_rms_norm.impls["native"].impl_fn(
        x, x_residual, weight, epsilon, variance_size
    )
    return x.copy_(y), x_residual.copy_(total)


def rotary_inplace(
    positions: Tensor,
    x_query: Tensor,
    x_key: Tensor | None,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool,
    rotary_dim: int | None = None,
) -> tuple[Tensor, Tensor]:
    q, k = ir.ops.rotary_embedding.impls["native"].impl_fn(
        positions, x_query, x_key, head_size, cos_sin_cache, is_neox, rotary_dim
    )
    x_query.copy_(q)
    if x_key is None:
        return x_query, k
    return x_query, x_key.copy_(k)


@pytest.fixture
def in_place() -> Iterator[None]:
    """Providers that write what they are given come first, and leave no trace."""
    norm, rotary = ir.ops.fused_add_rms_norm, ir.ops.rotary_embedding
    providers = {norm: fused_inplace, rotary: rotary_inplace}
    for op, provider in providers.items():
        op.register_impl("in_place_here", inplace=True)(provider)
    try:
        with norm.set_priority(["in_place_here"]), rotary.set_priority(["in_place_here"]):
            yield
    finally:
        for op in providers:
            op.unregister_impl("in_place_here")


def decoder(x: Tensor, norm: Tensor, qkv: Tensor, o: Tensor, up: Tensor, down: Tensor,
            positions: Tensor, cos_sin: Tensor) -> Any:  # fmt: skip
    fused, rotary = ir.ops.fused_add_rms_norm, ir.ops.rotary_embedding
    residual = x * 1
    x = ir.ops.rms_norm(x, norm, EPSILON)
    for _ in range(LAYERS):
        q, k, v = (x @ qkv).split(HIDDEN, dim=-1)
        q, k = rotary.maybe_inplace(positions, q.contiguous(), k.contiguous(), HEAD, cos_sin, True)
        q, k, v = (t.reshape(TOKENS, HEADS, HEAD).transpose(0, 1) for t in (q, k, v))
        attended = torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v
        x = attended.transpose(0, 1).reshape(TOKENS, HIDDEN) @ o
        x, residual = fused.maybe_inplace(x, residual, norm, EPSILON)
        x = ir.ops.silu_and_mul(x @ up) @ down
        x, residual = fused.maybe_inplace(x, residual, norm, EPSILON)
    return x, residual


def inputs() -> tuple[Tensor, ...]:
    made = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made) / shape[0] ** 0.5

    return (
        weight(TOKENS, HIDDEN), weight(HIDDEN) + 1, weight(HIDDEN, 3 * HIDDEN),
        weight(HIDDEN, HIDDEN), weight(HIDDEN, 4 * HIDDEN), weight(2 * HIDDEN, HIDDEN),
        torch.arange(TOKENS), weight(64, HEAD),
    )  # fmt: skip


def test_every_clone_of_in_place_providers_goes_and_nobody_can_tell(traced, run, in_place):
    wanted = decoder(*inputs())
    graph: fx.GraphModule = traced(decoder, *inputs())
    made = sum(n.target is torch.ops.aten.clone.default for n in graph.graph.nodes)
    functionalize(graph.graph)
    lowered = lower(graph.graph, cache=ReplacementCache())
    assert sum(n.provider == "in_place_here" for n in lowered.nodes) == 3 * LAYERS
    done = eliminate_clones(graph.graph)
    # Of each norm and each rotation two, and what `contiguous` and `reshape` had copied anew.
    assert [k for k in done.kept if k.reason != "layout"] == []
    assert len(done.removed) == 6 * LAYERS
    assert len(done.kept) == made
    given = inputs()
    found = run(graph, *given)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()
    assert all(map(torch.equal, given, inputs()))
    storages = {t.untyped_storage().data_ptr() for t in (*given, *found)}
    assert len(storages) == len(given) + len(found)
