"""A script of actions on the state of `ir`, driven for real: plain data in, plain data out.

It needs `ir` and torch alone, so that a finding's script can hold it and its neighbours.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .contexts import Task, Thread
from .ops import (
    ASKED,
    GIVEN,
    OPS,
    CreationFailed,
    called,
    load_ops,
    new_value,
    op_of,
    sneaking_op_of,
    tensors_in,
)

if TYPE_CHECKING:
    import torch

    import ir
    import ir.compilation
    from ir import IrContext, ir_state
    from ir.op import IrOp

KEYS = ("layer", "rank", "stage")
RESIZED = 16


def load() -> None:
    """Import what is driven."""
    load_ops()
    global torch, ir, ir_state, IrContext, IrOp
    import torch

    import ir
    import ir.compilation
    from ir import IrContext, ir_state
    from ir.op import IrOp


class Driver:
    """One script under way. `way`: eager, unwrapped, or backend, which compiles models."""

    def __init__(self, models: list[Any], way: str) -> None:
        load()
        self.models, self.way = models, way
        self.contexts: dict[int, Any] = {0: contextvars.Context()}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.made: dict[int, Any] = {}
        self.objects: list[Any] = []
        self.contents: dict[int, list[int]] = {}
        self.addresses: dict[int, tuple[int, ...]] = {}
        self.calls: list[Any] = []
        self.names: set[str] = set()
        self.graphs: list[Any] = []
        self.compiled: dict[int, Any] = {}
        self.cache = ir.compilation.ReplacementCache()
        self.racing = False
        self.lock = threading.RLock()

    def answer(self, action: dict[str, Any]) -> dict[str, Any]:
        """Do one action: what it gave or raised, and what became of everything made so far."""
        calls, graphs = len(self.calls), len(self.graphs)
        given: dict[str, Any] = {"objects": [], "values": [], "text": "", "raised": None}
        try:
            given |= self._done(**action) or {}
        except Exception as raised:
            error = _cause(raised)
            bases = [base.__name__ for base in type(error).__mro__[1:-1]]
            given["raised"] = [type(error).__name__, bases, str(error)]
        given["calls"] = self.calls[calls:]
        given["graphs"] = self.graphs[graphs:]
        given["changed"], given["moved"] = self._looked()
        return given

    def close(self) -> None:
        """Leave the registries as they were."""
        for graph in ir_state.sealed:
            ir_state.unseal(graph)
        for made in self.made.values():
            if hasattr(made, "gen"):
                made.__exit__(None, None, None)
        for name in self.names & set(ir_state.types):
            ir_state.unregister_type(name)
        for context in self.contexts.values():
            if not isinstance(context, contextvars.Context):
                context.end()
        if self.loop is not None:
            self.loop.close()
        for op in OPS.values():
            IrOp.registry.pop(op.name, None)

    # What is looked at.

    def number(self, value: Any) -> int:
        """Of an object: in which place it was made, or first seen."""
        with self.lock:
            for i, known in enumerate(self.objects):
                if known is value:
                    return i
            self.objects.append(value)
            return len(self.objects) - 1

    def _looked(self) -> tuple[dict[int, list[int]], list[int]]:
        changed, moved = {}, []
        for i, value in enumerate(self.objects):
            tensors = tensors_in(value)
            content = [n for t in tensors for n in t.tolist()] or [value.scale]
            at = tuple(t.data_ptr() for t in tensors)
            if self.contents.get(i) != content:
                changed[i] = self.contents[i] = content
            if self.addresses.setdefault(i, at) != at:
                self.addresses[i] = at
                moved.append(i)
        return changed, moved

    # What is done.

    def _in(self, context: int, f: Callable[..., Any], *args: Any, **keys: Any) -> Any:
        return self.contexts[context].run(lambda: f(*args, **keys))

    def _done(self, verb: str, **a: Any) -> dict[str, Any] | None:
        self.names |= {n for n in (a.get("name"), a.get("needs")) if n}
        return getattr(self, f"do_{verb.replace('-', '_')}")(**a)

    def do_thread(self, made: int) -> None:
        self.contexts[made] = Thread()

    def do_task(self, context: int, made: int) -> None:
        self.loop = self.loop or asyncio.new_event_loop()
        self.contexts[made] = Task(self.loop, self._in(context, contextvars.copy_context))

    def do_copy(self, context: int, made: int) -> None:
        self.contexts[made] = self._in(context, contextvars.copy_context)

    def do_set(self, context: int, keys: list[Any], made: int) -> None:
        self.made[made] = self._in(context, IrContext.set_scope, *keys[0])

    def do_reset(self, context: int, of: int) -> None:
        self._in(context, IrContext.reset, self.made[of])

    def do_enter(self, context: int, keys: list[Any], made: int) -> None:
        self.made[made] = ir.scope(**dict(keys))
        self._in(context, self.made[made].__enter__)

    def do_leave(self, context: int, of: int) -> None:
        self._in(context, self.made[of].__exit__, None, None, None)

    def do_get_scope(self, context: int, key: str) -> dict[str, Any]:
        found = self._in(context, IrContext.get_scope, key)
        return {"text": "not set" if found is None else found}

    def do_register(self, name: str, per: Any, holds: str, needs: str, again: bool) -> None:
        create = self._creator(name, holds, needs)
        ir_state.register_type(name, create, per=per, replace=again)
        op_of(name)

    def do_unregister(self, name: str) -> None:
        ir_state.unregister_type(name)

    def do_override(self, name: str, holds: str, made: int) -> None:
        running = ir_state.override(name, self._creator(name, holds, ""))
        running.__enter__()
        self.made[made] = running

    def do_restore(self, of: int) -> None:
        self.made.pop(of).__exit__(None, None, None)

    def do_plan(self, names: list[str], scopes: list[Any]) -> dict[str, Any]:
        ops = [op_of(name).name for name in names]
        found = ir_state.plan([dict(keys) for keys in scopes], ops=ops)
        shown = [f"{_place(p.name, p.scope)}{' exists' if p.exists else ''}" for p in found]
        return {"text": ", ".join(sorted(shown))}

    def do_preallocate(self, names: list[str], scopes: list[Any]) -> None:
        ops = [op_of(name).name for name in names]
        ir_state.preallocate([dict(keys) for keys in scopes], ops=ops)

    def do_describe(self) -> dict[str, Any]:
        entries = [e for e in ir_state.describe().entries if e.name in self.names]
        size = sum(e.bytes_by_device.get("cpu", 0) for e in entries)
        shown = ", ".join(sorted(_place(e.name, e.scope) for e in entries))
        return {"text": f"{shown or 'nothing'}: {size} bytes"}

    def do_get(self, context: int, name: str, scope: Any) -> dict[str, Any]:
        return self._handed(self._in(context, ir_state.get, name, scope))

    def do_exists(self, context: int, name: str, scope: Any) -> dict[str, Any]:
        return {"text": "yes" if self._in(context, ir_state.exists, name, scope) else "no"}

    def do_add(self, context: int, name: str, amount: int) -> dict[str, Any]:
        held = self._in(context, ir_state.get, name)
        for tensor in tensors_in(held)[:1]:
            tensor[:1].add_(amount)
        return self._handed(held)

    def do_replace(self, context: int, name: str, holds: str, amount: int) -> None:
        value = new_value(holds, amount)
        self.number(value)
        self._in(context, ir_state.replace, name, value)

    def do_grow(self, context: int, name: str, size: int) -> dict[str, Any]:
        return self._handed(self._in(context, ir_state.grow, name, size))

    def do_discard(self, name: str) -> None:
        ir_state.discard(name)

    def do_race(self, name: str, keys: list[Any], size: int) -> dict[str, Any]:
        start = threading.Barrier(size)

        def ask() -> Any:
            with ir.scope(**dict(keys)):
                start.wait(60)
                return ir_state.get(name)

        self.racing = True
        try:
            with ThreadPoolExecutor(size) as pool:
                asked = [pool.submit(ask) for _ in range(size)]
            return self._handed(*(each.result() for each in asked))
        finally:
            self.racing = False

    def do_seal(self, name: str) -> None:
        ir_state.seal(name)

    def do_unseal(self, name: str) -> None:
        ir_state.unseal(name)

    def do_verify(self) -> None:
        ir_state.verify()

    def do_resize(self, context: int, name: str) -> None:
        held = self._in(context, ir_state.get, name)
        size = held.numel()
        held.resize_(size + RESIZED)[size:].zero_()

    def do_move(self, context: int, name: str) -> None:
        held = self._in(context, ir_state.get, name)
        held.set_(held.clone())

    def do_call(self, context: int, name: str, amount: int, size: int) -> dict[str, Any]:
        x = torch.full((size,), amount)
        with ir.enable_torch_wrap(self.way != "unwrapped"):
            return {"values": self._in(context, op_of(name), x).tolist()}

    def do_sneak(self, context: int, name: str, needs: str) -> dict[str, Any]:
        ASKED.append(name)
        with ir.enable_torch_wrap(self.way != "unwrapped"):
            self._in(context, sneaking_op_of(needs), torch.ones(1))
        return self._handed(GIVEN.pop())

    def _model(self, x: Any, model: int) -> Any:
        if self.way != "backend":
            with ir.enable_torch_wrap(self.way != "unwrapped"):
                return called(self.models[model])(x)
        if not self.compiled:
            torch._dynamo.reset()
        if model not in self.compiled:
            self.compiled[model] = torch.compile(
                called(self.models[model]), backend=self._backend, fullgraph=True,
                isolate_recompiles=True, recompile_limit=1000,
            )  # type: ignore[call-overload]  # fmt: skip
        return self.compiled[model](x)

    def do_run(
        self, context: int, model: int, amount: int, size: int, times: int
    ) -> dict[str, Any]:
        values: list[int] = []
        for step in range(times):
            x = torch.full((size,), amount + step)
            for y in self._in(context, self._model, x, model)[1:]:
                values += y.tolist()
        return {"values": values}

    def do_forget(self) -> None:
        if self.way == "backend":
            torch._dynamo.reset()

    # What these are made of.

    def _handed(self, *held: Any) -> dict[str, Any]:
        return {"objects": [self.number(each) for each in held]}

    def _creator(self, name: str, holds: str, needs: str) -> Callable[[], Any]:
        ran = 0
        memory: list[Any] = []

        def create() -> Any:
            nonlocal ran
            ran += 1
            identity = None
            found = {key: IrContext.get_scope(key) for key in KEYS}
            keys = {key: value for key, value in found.items() if value is not None}
            try:
                if self.racing:
                    # The others arrive while this one is at work.
                    time.sleep(0.002)
                if holds == "fails-once" and ran == 1:
                    raise CreationFailed(name)
                if needs:
                    ir_state.get(needs)
                if holds == "shared":
                    memory[:] = memory or [torch.zeros(1, dtype=torch.int64)]
                    value = memory[0][:]
                else:
                    value = new_value(holds, 2 + len(self.objects) if holds == "handle" else 0)
                identity = self.number(value)
                return value
            finally:
                self.calls.append([name, keys, identity])

        return create

    def _backend(self, gm: Any, inputs: list[Any]) -> Any:
        report = ir.compilation.Report()
        options = {"run": "fx", "cache": self.cache, "report": report}
        run = ir.compilation.backend(gm, inputs, options=options)
        clones = report.passes[-1]
        self.graphs.append([len(clones.removed), [clone.reason for clone in clones.kept]])  # type: ignore[union-attr]
        return run


def _cause(error: BaseException) -> BaseException:
    """What Dynamo met while it traced; the error itself where it is none of Dynamo's."""
    dynamo = "TorchDynamoException"
    while any(base.__name__ == dynamo for base in type(error).__mro__):
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    return error


def _place(name: str, scope: Any) -> str:
    values = () if scope is None else (scope,) if isinstance(scope, str) else scope
    return f"{name}({', '.join('not set' if v is None else v for v in values)})"


def drive(actions: list[dict[str, Any]], models: list[Any], way: str) -> list[dict[str, Any]]:
    """An answer for each action. Whatever an action raises is in its answer."""
    driver = Driver(models, way)
    try:
        return [driver.answer(action) for action in actions]
    finally:
        driver.close()
