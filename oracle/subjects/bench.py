"""What ``irverify bench`` times. Contenders of one table take turns, so noise meets them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from oracle.bench import Timing

from .bench_graphs import bare_loop, clones, norms

Contenders = dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]
_NODES = 64
_CALLS = 1000


def timings(rounds: int) -> list[Timing]:
    """Every row, each the best of ``rounds`` rounds."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            *_dispatch(rounds),
            *_states(rounds),
            *_lowering(rounds),
            *_clones(rounds),
            *_transfer(rounds),
        ]
    finally:
        torch.set_num_threads(threads)


def _best(contenders: Contenders, rounds: int) -> dict[str, float]:
    """Processor seconds of each contender's best round, after one that does not count."""
    found = dict.fromkeys(contenders, float("inf"))
    for k in range(rounds + 1):
        for name, (make, run) in contenders.items():
            given = make()
            gc.collect()
            start = time.process_time()
            run(given)
            took = time.process_time() - start
            if k:
                found[name] = min(found[name], took)
    return found


def _dispatch(rounds: int) -> list[Timing]:
    import torch

    import ir
    from ir.dispatch import enable_torch_wrap

    x, weight = torch.ones(4, 64), torch.ones(64)
    op = ir.ops.rms_norm
    native = op.impls["native"].impl_fn

    def times(call: Callable[..., Any], *, wrap: bool | None = None) -> Any:
        def run(_: Any) -> None:
            with torch.inference_mode():
                for _ in range(_CALLS):
                    call(x, weight, 1e-6)

        def run_as(_: Any) -> None:
            with enable_torch_wrap(bool(wrap)):
                run(None)

        return (lambda: None), (run if wrap is None else run_as)

    took = _best(
        {
            "native": times(native),
            "unwrapped": times(op, wrap=False),
            "wrapped": times(op, wrap=True),
        },
        rounds,
    )
    each = {name: seconds / _CALLS for name, seconds in took.items()}
    beside = "native alone"
    return [
        Timing(what="rms_norm native, 4 x 64", seconds=each["native"], per="call"),
        _paired("dispatched, no torch wrap", each["unwrapped"], "call", beside, each["native"]),
        _paired("dispatched, torch wrap", each["wrapped"], "call", beside, each["native"]),
    ]


def _states(rounds: int) -> list[Timing]:
    """A state in its scope, beside what any such look-up costs: a dict by context variable."""
    from contextvars import ContextVar

    import ir
    from ir import ir_state

    name, variable = "irverify_bench", ContextVar("scope", default="3")
    plain = {("3", name): object()}
    ir_state.register_type(name, object, per="layer", replace=True)

    def looked_up(wanted: str) -> object:
        return plain[variable.get(), wanted]

    def times(call: Callable[[str], object]) -> Any:
        def run(_: Any) -> None:
            for _ in range(_CALLS):
                call(name)

        return (lambda: None), run

    with ir.scope(layer=3):
        took = _best({"get": times(ir_state.get), "plain": times(looked_up)}, 4 * rounds)
    ir_state.unregister_type(name)
    beside = "dict[ctxvar, name]"
    each = {what: seconds / _CALLS for what, seconds in took.items()}
    return [_paired("ir_state.get", each["get"], "call", beside, each["plain"])]


def _lowering(rounds: int) -> list[Timing]:
    import ir
    from ir.compilation import ReplacementCache, lower
    from ir.compilation.key import ambient, make_key

    op = ir.ops.rms_norm
    cache = ReplacementCache()

    def graph() -> Any:
        return norms(op.torch_op, _NODES)

    def warm(given: Any) -> None:
        lower(given.graph, cache=cache)

    done = graph()
    given = next(n for n in done.graph.nodes if n.op == "call_function")
    args = (*[n.meta["val"] for n in given.args[:2]], 1e-6, None)
    warm(done)
    around = ambient()

    def hits(_: Any) -> None:
        for _ in range(_CALLS):
            impl = op.impls["native"]
            cache.find(op, make_key(impl, "default", args, ambient=around))

    took = _best(
        {
            "cold": (graph, lambda g: lower(g.graph, cache=ReplacementCache())),
            "warm": (graph, warm),
            "bare": (lambda: None, bare_loop(done)),
            "hit": (lambda: None, hits),
        },
        rounds,
    )
    each = {name: seconds / _NODES for name, seconds in took.items()}
    beside = "a bare loop"
    return [
        _paired(f"lower {_NODES} nodes, cache cold", each["cold"], "node", beside, each["bare"]),
        _paired(f"lower {_NODES} nodes, cache warm", each["warm"], "node", beside, each["bare"]),
        _paired(
            "key made and found", took["hit"] / _CALLS, "hit", "a warm node", each["warm"]
        ),
    ]  # fmt: skip


def _clones(rounds: int) -> list[Timing]:
    from ir.compilation import eliminate_clones

    contenders: Contenders = {
        str(size): (lambda size=size: clones(size), lambda g: eliminate_clones(g.graph))
        for size in (1000, 10000)
    }
    took = _best(contenders, rounds)
    small, large = took["1000"] / 1000, took["10000"] / 10000
    return [
        Timing(what="clones of 1,000 nodes", seconds=small, per="node"),
        _paired("clones of 10,000 nodes", large, "node", "a node of 1,000", small),
    ]


def _transfer(rounds: int) -> list[Timing]:
    from ir.transfer import (
        EngineGeometry,
        ModelCache,
        TransferRequest,
        Worker,
        plan_transfer,
    )
    from ir.transfer import groups as make

    layers, blocks, asked = 80, 20_000, 4096
    group = make.attention(range(layers), kv_heads=8, head_size=128, itemsize=2)
    model = ModelCache("dense", 64, (group,))

    def engine(name: str, tp: int) -> EngineGeometry:
        return EngineGeometry(
            engine_id=name, model=model, tp=tp, num_blocks=blocks, block_tokens=16, kernel_tokens=16
        )

    producer, consumer, worker = engine("producer", 2), engine("consumer", 4), Worker(0, 0)

    def bases(e: EngineGeometry) -> tuple[int, ...]:
        found, start = [], 1 << 20
        for stride in e.page_strides(0):
            found.append(start)
            start += stride * e.num_blocks
        return tuple(found)

    theirs, ours = dict.fromkeys(producer.workers, bases(producer)), bases(consumer)

    def plan(_: Any) -> Any:
        return plan_transfer(
            producer, consumer, worker, producer_bases=theirs, consumer_bases=ours
        )  # fmt: skip

    planned = plan(None)
    numbers = tuple(range(1, asked + 1))
    request = TransferRequest(
        producer_request="p",
        consumer_request="c",
        prompt_tokens=16 * asked,
        producer_blocks=(numbers,),
        consumer_blocks=(numbers,),
    )
    ids = sum(len(bound.consumer_ids) for bound in planned.bind(request))
    took = _best(
        {
            "plan": (lambda: None, plan),
            "bind": (lambda: None, lambda _: planned.bind(request)),
        },
        rounds,
    )
    return [
        Timing(what=f"plan, {layers} layers x {blocks:,} blocks", seconds=took["plan"], per="plan"),
        _paired(f"bind {ids:,} descriptors", took["bind"], "request", "the plan", took["plan"]),
    ]


def _paired(what: str, seconds: float, per: str, beside: str, other: float) -> Timing:
    return Timing(what=what, seconds=seconds, per=per, beside=beside, ratio=seconds / other)
