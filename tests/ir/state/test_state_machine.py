"""Whatever is done in whatever order, state is what the model in `reference/state` says."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)
from torch import Tensor

import ir
import ir.compilation
from fuzz.profiles import examples
from ir import IrContext, ir_state
from ir.op import IrOp, register_op
from ir.state import ScopeError, SealedError, StateError, UnknownStateError
from reference.state import StateModel, StateRefused

NAMES = ("machine_a", "machine_b", "machine_c")
PER = st.sampled_from([(), ("layer",), ("layer", "rank")])
KEYS = st.sampled_from(["layer", "rank"])
VALUES = st.sampled_from(["x", "y"])
GRAPHS = st.sampled_from(["g", "h"])
AMOUNTS = st.integers(1, 5)


def counter(name: str) -> IrOp:
    """An op whose native adds its argument to the state of a name."""

    def native(x: Tensor) -> Tensor:
        return ir_state.get(name).add_(x) * 1

    op = register_op(name=f"{name}_op", state=(name,))(native)
    op.register_fake(lambda x: torch.empty_like(x))
    # The fixtures of other tests look at what the registry holds.
    del IrOp.registry[op.name]
    return op


class Told:
    """The model, its refusals as slugs."""

    def __init__(self) -> None:
        self.model = StateModel()

    def __getattr__(self, name: str) -> Any:
        where = self.model if hasattr(self.model, name) else self.model.scopes

        def ask(*args: Any) -> Any:
            try:
                return getattr(where, name)(*args)
            except StateRefused as refused:
                return refused.rule

        return ask


OPS = {name: counter(name) for name in NAMES}


def compiled(op: IrOp, inside: tuple[str, str] | None) -> Any:
    def f(x: Tensor) -> Tensor:
        if inside is None:
            return op(x)
        with ir.scope(**{inside[0]: inside[1]}):
            return op(x)

    return torch.compile(
        f, backend=ir.compilation.backend, fullgraph=True,
        options={"run": "fx"},  # type: ignore[dict-item]
        isolate_recompiles=True, recompile_limit=1000,
    )  # fmt: skip


INSIDE = (None, ("layer", "x"), ("rank", "y"))
COMPILED = {(n, i): compiled(op, i) for n, op in OPS.items() for i in INSIDE}


class Machine(RuleBasedStateMachine):
    contexts = Bundle("contexts")
    tokens = Bundle("tokens")
    overrides = Bundle("overrides")

    @initialize(target=contexts, per=PER)
    def main(self, per: tuple[str, ...]) -> int:
        self.model = Told()
        self.objects: dict[int, Any] = {}
        self.made: dict[str, int] = {}
        self.pools: list[ThreadPoolExecutor] = []
        self.where: dict[int, Any] = {0: Context()}
        self.real_tokens: dict[int, Any] = {}
        self.real_overrides: dict[int, Any] = {}
        for name, op in OPS.items():
            IrOp.registry[f"{name}_op"] = op
        # One is always there, so that most steps have something to do.
        self.register(NAMES[0], per)
        return 0

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        for graph in ir_state.sealed:
            ir_state.unseal(graph)
        for running in self.real_overrides.values():
            running.__exit__(None, None, None)
        for name in NAMES:
            IrOp.registry.pop(f"{name}_op", None)
            if name in ir_state.types:
                ir_state.unregister_type(name)
        for pool in self.pools:
            pool.shutdown()

    def run(self, context: int, f: Any, *args: Any) -> Any:
        """The result of a call in a context, or the slug of what it raised."""
        try:
            where = self.where[context]
            if isinstance(where, ThreadPoolExecutor):
                return where.submit(f, *args).result(60)
            return where.run(f, *args)
        except UnknownStateError:
            return "unknown"
        except SealedError:
            return "sealed"
        except ScopeError:
            return "out-of-order"

    def create(self, name: str) -> Any:
        def make() -> Tensor:
            self.made[name] = self.made.get(name, 0) + 1
            return torch.zeros(1, dtype=torch.int64)

        return make

    def check(self, expected: Any, got: Any) -> None:
        """The same object for the same identity, and its content."""
        if isinstance(expected, str):
            assert got == expected
            return
        assert isinstance(got, Tensor)
        assert self.objects.setdefault(expected.identity, got) is got
        assert got.tolist() == expected.content

    def added(self, context: int, name: str, amount: int) -> int | str:
        """What a state holds after an addition, or why there is none."""
        held = self.model.add(context, name, amount)
        return held if isinstance(held, str) else held.content[0]

    @rule(target=contexts)
    @precondition(lambda self: len(self.where) < 6)
    def start_thread(self) -> int:
        pool = ThreadPoolExecutor(1)
        self.pools.append(pool)
        new = self.model.start()
        self.where[new] = pool
        return new

    @rule(target=contexts, parent=contexts)
    @precondition(lambda self: len(self.where) < 6)
    def start_task(self, parent: int) -> int:
        new = self.model.copy(parent)
        self.where[new] = self.run(parent, copy_context)
        return new

    @rule(name=st.sampled_from(NAMES), per=PER)
    def register(self, name: str, per: tuple[str, ...]) -> None:
        expected = self.model.register(name, per)
        if expected is None:
            ir_state.register_type(name, self.create(name), per=per)
        else:
            with pytest.raises(StateError, match="already registered"):
                ir_state.register_type(name, self.create(name), per=per)

    @rule(target=tokens, context=contexts, key=KEYS, value=VALUES)
    def set_scope(self, context: int, key: str, value: str) -> int:
        token = self.model.set(context, key, value)
        self.real_tokens[token] = self.run(context, IrContext.set_scope, key, value)
        return token

    @rule(context=contexts, token=tokens)
    def reset(self, context: int, token: int) -> None:
        expected = self.model.reset(context, token)
        assert self.run(context, IrContext.reset, self.real_tokens[token]) == expected

    @rule(context=contexts, key=KEYS)
    def get_scope(self, context: int, key: str) -> None:
        expected = self.model.keys(context).get(key)
        assert self.run(context, IrContext.get_scope, key) == expected

    @rule(context=contexts, name=st.sampled_from(NAMES))
    def get(self, context: int, name: str) -> None:
        self.check(self.model.get(context, name), self.run(context, ir_state.get, name))

    @rule(context=contexts, name=st.sampled_from(NAMES), amount=AMOUNTS)
    def eager_step(self, context: int, name: str, amount: int) -> None:
        expected = self.added(context, name, amount)
        got = self.run(context, OPS[name], torch.tensor([amount]))
        assert (got if isinstance(got, str) else got.item()) == expected

    @rule(context=contexts, inside=st.sampled_from(INSIDE), count=st.integers(1, 3))
    def compiled_steps(self, context: int, inside: tuple[str, str] | None, count: int) -> None:
        for amount in range(1, count + 1):
            self.compiled_step(context, NAMES[0], amount, inside)

    @rule(
        context=contexts,
        name=st.sampled_from(NAMES),
        amount=AMOUNTS,
        inside=st.sampled_from(INSIDE),
    )
    def compiled_step(
        self, context: int, name: str, amount: int, inside: tuple[str, str] | None
    ) -> None:
        # Tracing code that must raise shows Dynamo's error instead of ours: ask the model first.
        token = None if inside is None else self.model.set(context, *inside)
        held = self.model.get(context, name)
        if not isinstance(held, str):
            expected = self.added(context, name, amount)
            got = self.run(context, COMPILED[name, inside], torch.tensor([amount]))
            assert (got if isinstance(got, str) else got.item()) == expected
        if token is not None:
            self.model.reset(context, token)

    @rule(context=contexts, key=KEYS, values=st.permutations(["x", "y", "x"]))
    def compiled_steps_in_scopes(self, context: int, key: str, values: list[str]) -> None:
        for value in values:
            token = self.set_scope(context, key, value)
            self.compiled_step(context, NAMES[0], 1, None)
            self.compiled_step(context, NAMES[0], 2, ("layer", "x"))
            self.reset(context, token)

    @rule()
    def forget_compiled_code(self) -> None:
        torch._dynamo.reset()

    @rule(name=st.sampled_from(NAMES))
    def discard(self, name: str) -> None:
        assert self.run(0, ir_state.discard, name) == self.model.discard(name)

    @rule(target=overrides, name=st.sampled_from(NAMES))
    def override(self, name: str) -> tuple[str, int] | None:
        number = self.model.override(name)
        running = ir_state.override(name, self.create(name))
        got = self.run(0, running.__enter__)
        if isinstance(number, str):
            assert got == number
            return None
        self.real_overrides[number] = running
        return name, number

    @rule(ended=consumes(overrides))
    def end_override(self, ended: tuple[str, int] | None) -> None:
        if ended is not None:
            self.model.end_override(*ended)
            self.real_overrides.pop(ended[1]).__exit__(None, None, None)

    @rule(graph=GRAPHS)
    def seal(self, graph: str) -> None:
        assert self.run(0, ir_state.seal, graph) == self.model.seal(graph)

    @rule(graph=GRAPHS)
    def unseal(self, graph: str) -> None:
        expected = self.model.unseal(graph)
        got = self.run(0, ir_state.unseal, graph)
        assert (got is None) == (expected is None)

    @invariant()
    def each_was_created_once(self) -> None:
        if hasattr(self, "model"):
            assert self.made == self.model.model.created


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.hypothesis
@pytest.mark.timeout(280 * examples(1))
def test_state_follows_its_model():
    torch._dynamo.reset()
    Machine.TestCase.settings = settings(
        max_examples=examples(20), stateful_step_count=30, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    try:
        with torch.no_grad():
            Machine.TestCase().runTest()
    finally:
        torch._dynamo.reset()
