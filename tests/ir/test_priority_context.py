"""A priority and the torch-wrap flag belong to the thread or asyncio task that set them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported

from ir.op import IrOp, enable_torch_wrap, register_op, set_default_torch_wrap

Run = Callable[[Tensor], Tensor]
PROVIDERS = {"native": 0.0, "one": 1.0, "two": 2.0}


@pytest.fixture
def op(op_name: Callable[[], str]) -> Iterator[IrOp]:
    torch._dynamo.reset()

    @register_op(name=op_name())
    def native(x: Tensor) -> Tensor:
        return x + 0.0

    @native.register_impl("one")
    def one(x: Tensor) -> Tensor:
        return x + 1.0

    @native.register_impl("two")
    def two(x: Tensor) -> Tensor:
        return x + 2.0

    yield native
    torch._dynamo.reset()


def _caller(op: IrOp, how: str) -> Run:
    def run(x: Tensor) -> Tensor:
        # Work around the call, so that a compiled frame has something of its own.
        return op(x * 1.0) * 1.0

    if how == "eager":
        return run
    return torch.compile(run, fullgraph=True, backend=how)


HOWS = pytest.mark.parametrize("how", ["eager", "aot_eager"])
WRAPS = pytest.mark.parametrize("wrap", [True, False])


@HOWS
@WRAPS
def test_interleaved_tasks_each_see_their_own_priority(op: IrOp, how: str, wrap: bool) -> None:
    run = _caller(op, how)
    x = torch.zeros(1)

    async def task(provider: str) -> list[float]:
        got = []
        with op.set_priority([provider]), enable_torch_wrap(wrap):
            for _ in range(4):
                await asyncio.sleep(0)
                got.append(run(x).item())
        await asyncio.sleep(0)
        return [*got, run(x).item()]

    async def main() -> list[list[float]]:
        return await asyncio.gather(*(task(p) for p in ("one", "two", "native", "two")))

    assert asyncio.run(main()) == [
        [PROVIDERS[p]] * 4 + [0.0] for p in ("one", "two", "native", "two")
    ]


@HOWS
def test_interleaved_tasks_each_see_their_own_wrap(op: IrOp, how: str) -> None:
    wrapped: list[bool] = []
    real = op.torch_op

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Run:
        wrapped.append(any(n.target is real for n in graph.graph.nodes))
        return graph.forward

    run = _caller(op, how)
    if how != "eager":
        run = torch.compile(lambda x: op(x * 1.0) * 1.0, fullgraph=True, backend=backend)
    else:

        def recording(x: Tensor) -> Tensor:
            wrapped.append(True)
            return real(x)

        op.torch_op = recording
    x = torch.zeros(1)
    in_force: list[tuple[bool, bool]] = []

    async def task(wrap: bool) -> None:
        with enable_torch_wrap(wrap), op.set_priority(["one"]):
            for _ in range(3):
                await asyncio.sleep(0)
                before = len(wrapped)
                assert run(x).item() == 1.0
                in_force.append((wrap, any(wrapped[before:])))

    async def main() -> None:
        await asyncio.gather(task(True), task(False))

    asyncio.run(main())
    if how == "eager":
        assert in_force == [(True, True), (False, False)] * 3
    else:
        # One graph with the op in it and one without, and no other: each found again.
        assert wrapped == [True, False]


@HOWS
@WRAPS
def test_threads_each_see_their_own_priority(op: IrOp, how: str, wrap: bool) -> None:
    run = _caller(op, how)
    x = torch.zeros(1)
    turn = threading.Barrier(2, timeout=60)
    got: dict[str, list[float]] = {}

    def work(provider: str) -> None:
        with op.set_priority([provider]), enable_torch_wrap(wrap):
            got[provider] = []
            for _ in range(3):
                turn.wait()
                got[provider].append(run(x).item())

    threads = [threading.Thread(target=work, args=(p,)) for p in ("one", "two")]
    with op.set_priority(["two"]):
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert got == {"one": [1.0] * 3, "two": [2.0] * 3}
    assert run(x).item() == 0.0


@HOWS
@WRAPS
def test_a_default_reaches_every_thread(op: IrOp, how: str, wrap: bool) -> None:
    run = _caller(op, how)
    x = torch.zeros(1)
    got: list[float] = []

    def work() -> None:
        with enable_torch_wrap(wrap):
            got.append(run(x).item())

    for default in ("one", "two", "one"):
        op.set_default([default])
        with op.set_priority(["native"]):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert got == [1.0, 2.0, 1.0]


def test_compiled_code_is_kept_for_each_priority(op: IrOp) -> None:
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Run:
        compiled.append(1)
        return graph.forward

    run = torch.compile(lambda x: op(x), fullgraph=True, backend=backend)
    x = torch.zeros(1)
    with enable_torch_wrap(False):
        for provider in ("one", "two"):
            with op.set_priority([provider]):
                run(x)
        assert len(compiled) == 2
        with torch.compiler.set_stance("fail_on_recompile"):
            for provider in ("two", "one", "two"):
                with op.set_priority([provider]):
                    assert run(x).item() == PROVIDERS[provider]
            with op.set_priority(["native"]), pytest.raises(RuntimeError, match="recompile"):
                run(x)


def test_a_trace_takes_no_extra_input(op: IrOp) -> None:
    inputs: list[int] = []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> Run:
        inputs.append(len([n for n in graph.graph.nodes if n.op == "placeholder"]))
        return graph.forward

    for wrap in (True, False):
        torch._dynamo.reset()
        with enable_torch_wrap(wrap):
            torch.compile(lambda x: op(x), fullgraph=True, backend=backend)(torch.zeros(1))
    assert inputs == [1, 1]


def test_a_priority_cannot_be_set_inside_a_full_graph(op: IrOp) -> None:
    def run(x: Tensor) -> Tensor:
        with op.set_priority(["one"]):
            return op(x)

    x = torch.zeros(1)
    with enable_torch_wrap(False):
        with pytest.raises(Unsupported):
            torch.compile(run, fullgraph=True, backend="eager")(x)
        torch._dynamo.reset()
        # With graph breaks allowed it runs, outside the graphs, and is right.
        assert torch.compile(run, backend="eager")(x).item() == 1.0


def test_the_default_wrap_holds_where_nothing_is_set(op: IrOp) -> None:
    calls: list[str] = []
    real = op.torch_op

    def recording(x: Tensor) -> Tensor:
        calls.append("wrapped")
        return real(x)

    op.torch_op = recording
    try:
        set_default_torch_wrap(False)
        op(torch.zeros(1))
        assert calls == []
        with enable_torch_wrap():
            op(torch.zeros(1))
        assert calls == ["wrapped"]
    finally:
        set_default_torch_wrap()
    op(torch.zeros(1))
    assert calls == ["wrapped"] * 2
