"""Faults of code that keeps state, planted one by one into ``ir``.

Loaded by tests, and by a run's ``--import``: then ``STATE_FAULT`` names the fault to plant for
good, where ``MUTANT_FAULTS`` is 1.
"""

import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ir.provider import IrOpImpl
from ir.state import IrContext, StateError, context, ir_state
from ir.state import description as description_module
from ir.state import plan as plan_module
from ir.state import registry as registry_module
from ir.state import values as values_module
from ir.state.creation import Once
from ir.state.declared import Uses
from ir.state.registry import IrState
from ir.state.seal import Seal
from ir.state.tracing import Tracer
from ir.state.values import tensors_of

Patch = pytest.MonkeyPatch

# The package has a function of the same name.
backend_module = importlib.import_module("ir.compilation.backend")

_grow, _value, _create, _exists = IrState.grow, IrState.value, IrState._create, IrState.exists
_register_type, _changed, _refusal = IrState.register_type, IrState._changed, Seal.refusal
_with_key, _in_place = context.with_key, IrOpImpl._in_place
_created, _replace = Tracer._created, IrState.replace
_check_scope, _collect = registry_module.check_scope, values_module._collect
_eliminate_clones = backend_module.eliminate_clones


def _grows_after_the_capture(patch: Patch) -> None:
    """A workspace grows though graphs were captured over it."""

    def grow(self: IrState, name: str, numel: int, scope: Any = None) -> torch.Tensor:
        seals, self._seals = self._seals, {}
        try:
            return _grow(self, name, numel, scope)
        finally:
            self._seals = seals

    patch.setattr(IrState, "grow", grow)


def _replaced_after_the_capture(patch: Patch) -> None:
    patch.setattr(IrState, "_refuse_sealed", lambda self, name, what: None)


def _refused_values_are_written(patch: Patch) -> None:
    """A refused replacement leaves its mark on the value that it was given."""

    def replace(self: IrState, name: str, value: Any, scope: Any = None) -> None:
        try:
            _replace(self, name, value, scope)
        except StateError:
            for tensor in tensors_of(value):
                tensor.detach().add_(50)
            raise

    patch.setattr(IrState, "replace", replace)


def _sealed_states_are_not_looked_at(patch: Patch) -> None:
    """Nobody sees that a state was resized, replaced or given other memory behind its back."""
    patch.setattr(Seal, "check", lambda self, key, value: None)


def _created_after_the_capture(patch: Patch) -> None:
    def create(self: IrState, key: Any, layer: Any) -> Any:
        seals, self._seals = self._seals, {}
        try:
            return _create(self, key, layer)
        finally:
            self._seals = seals

    patch.setattr(IrState, "_create", create)


def _hidden_states_are_sealed(patch: Patch) -> None:
    """A seal holds on to states that an override hides, and then misses them."""

    def seal(self: IrState, graph: str) -> None:
        if graph in self._seals:
            raise registry_module.SealedError(f"graph {graph!r} is already sealed")
        values = {(e.name, e.scope): e.value for e in self.entries()}
        self._seals[graph] = registry_module.seal_of(graph, values)
        self.forget_answers()

    patch.setattr(IrState, "seal", seal)


def _sealed_is_any_state_error(patch: Patch) -> None:
    patch.setattr(Seal, "refusal", lambda *args: StateError(str(_refusal(*args))))


def _no_graph_is_named(patch: Patch) -> None:
    def refusal(self: Seal, key: Any, what: str) -> Any:
        return registry_module.SealedError(f"state {key[0]} {what}, which breaks a graph")

    patch.setattr(Seal, "refusal", refusal)


def _anything_may_be_used(patch: Patch) -> None:
    """What a provider declares is read by plans alone."""
    patch.setattr(Uses, "allows", lambda self, name: True)


def _ints_are_no_scopes(patch: Patch) -> None:
    def with_key(text: str, key: str, value: Any) -> str:
        return _with_key(text, key, value.strip())

    patch.setattr(context, "with_key", with_key)


def _racing_threads_both_create(patch: Patch) -> None:
    making: set[Any] = set()

    def get(self: Once, values: Any, key: Any, make: Callable[[], Any]) -> Any:
        mine = threading.get_ident(), key
        if mine in making:
            raise StateError(f"creating state {key} needs state {key}")
        if key not in values:
            making.add(mine)
            try:
                time.sleep(0.03)
                values[key] = make()
            finally:
                making.remove(mine)
        return values[key]

    patch.setattr(Once, "get", get)


def _compiling_creates_anew(patch: Patch) -> None:
    def created(self: Tracer, key: Any) -> str:
        self.registry._layers[key[0]][-1].values.pop(key, None)
        return _created(self, key)

    patch.setattr(Tracer, "_created", created)


def _created_when_registered(patch: Patch) -> None:
    def register_type(self: IrState, name: str, create_fn: Any, **given: Any) -> None:
        _register_type(self, name, create_fn, **given)
        self._layers[name][-1].values[name, None] = create_fn()

    patch.setattr(IrState, "register_type", register_type)


def _looking_creates(patch: Patch) -> None:
    def exists(self: IrState, name: str, scope: Any = None) -> bool:
        self.get(name, scope)
        return _exists(self, name, scope)

    patch.setattr(IrState, "exists", exists)


def _created_in_no_scope(patch: Patch) -> None:
    def create(self: IrState, key: Any, layer: Any) -> Any:
        with context.at(context.place("")):
            return _create(self, key, layer)

    patch.setattr(IrState, "_create", create)


def _copies_are_handed_out(patch: Patch) -> None:
    """The buffer that somebody holds is not the buffer that is kept."""

    def value(self: IrState, key: Any) -> Any:
        found = _value(self, key)
        return found.clone() if isinstance(found, torch.Tensor) else found

    patch.setattr(IrState, "value", value)


def _any_number_of_values_is_a_scope(patch: Patch) -> None:
    """A scope of too few values is one of its own, which no scope that is set ever meets."""

    def check_scope(name: str, scope: Any, per: Any) -> Any:
        return _check_scope(name, scope, None)

    patch.setattr(registry_module, "check_scope", check_scope)


def _ranks_share(patch: Patch) -> None:
    """Of several keys by which a state is kept only the first counts."""

    def scope_of(per: Any, keys: Any) -> Any:
        return keys.get(per[0]) if per else None

    patch.setattr(registry_module, "scope_of", scope_of)
    patch.setattr(plan_module, "scope_of", scope_of)


def _answers_outlive_overrides(patch: Patch) -> None:
    def changed(self: IrState, name: str) -> None:
        kept = {key: value for key, value in self._found.items() if key[1] == name}
        _changed(self, name)
        if len(self._layers.get(name, ())) > 1:
            self._found.update(kept)

    patch.setattr(IrState, "_changed", changed)


def _handles_are_frozen(patch: Patch) -> None:
    """A compiled graph keeps the handle that it was traced with."""

    def changed(self: IrState, name: str) -> None:
        epoch = self.epoch
        _changed(self, name)
        self.epoch = epoch

    patch.setattr(IrState, "_changed", changed)


def _providers_write_copies(patch: Patch) -> None:
    def value(self: IrState, key: Any) -> Any:
        found = _value(self, key)
        used = context.here().user is not None
        return found.clone() if used and isinstance(found, torch.Tensor) else found

    patch.setattr(IrState, "value", value)


def _updates_are_lost_in_graphs(patch: Patch) -> None:
    """Functionalization's write to a state at the end of a graph is dropped."""

    def eliminate(graph: Any, **given: Any) -> Any:
        for node in graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
            if node.args[0].op == "placeholder":
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
        return _eliminate_clones(graph, **{**given, "states": ()})

    patch.setattr(backend_module, "eliminate_clones", eliminate)


def _reset_restores_nothing(patch: Patch) -> None:
    def reset(token: Any) -> None:
        if context._innermost.get() is not token:
            raise context.ScopeError("reset out of order")
        context._innermost.set(token.outer)

    patch.setattr(IrContext, "reset", staticmethod(reset))


def _half_entered_scopes_stay(patch: Patch) -> None:
    def enter(self: Any) -> None:
        for key, value in self.keys.items():
            self.tokens.append(IrContext.set_scope(key, value))

    patch.setattr(context.scope, "__enter__", enter)


def _hidden_states_exist(patch: Patch) -> None:
    def exists(self: IrState, name: str, scope: Any = None) -> bool:
        key = self.key(name, scope, context.place(context.here().text))
        return key in self._layers[name][0].values

    patch.setattr(IrState, "exists", exists)


def _hidden_states_are_planned(patch: Patch) -> None:
    def in_force(self: IrState) -> dict[Any, Any]:
        return {(e.name, e.scope): e.value for e in self.entries()}

    patch.setattr(IrState, "in_force", in_force)


def _elements_are_called_bytes(patch: Patch) -> None:
    def counted(tensors: list[torch.Tensor]) -> dict[str, int]:
        return {"cpu": sum(t.numel() for t in tensors)}

    patch.setattr(description_module, "bytes_by_device", counted)


def _only_dicts_are_looked_into(patch: Patch) -> None:
    """What lies in a tuple or a list counts as no tensor."""

    def collect(value: Any, found: list[torch.Tensor]) -> None:
        if not isinstance(value, list | tuple):
            _collect(value, found)

    patch.setattr(values_module, "_collect", collect)


def _calls_move_their_states(patch: Patch) -> None:
    """Each call leaves its state in new memory, as `buffer = buffer.to(device)` does."""

    def in_place(self: IrOpImpl, args: tuple[Any, ...]) -> Any:
        result = _in_place(self, args)
        for name in self.uses.names(ir_state):
            for entry in ir_state.entries(name):
                for tensor in tensors_of(entry.value):
                    tensor.set_(tensor.clone())  # type: ignore[call-overload]
        return result

    patch.setattr(IrOpImpl, "_in_place", in_place)


def _states_are_ordinary_inputs(patch: Patch) -> None:
    """Clone elimination does not know that a state may be written."""

    def eliminate(graph: Any, **given: Any) -> Any:
        return _eliminate_clones(graph, **{**given, "states": ()})

    patch.setattr(backend_module, "eliminate_clones", eliminate)


FAULTS: dict[str, Callable[[Patch], None]] = {
    name[1:]: plant
    for name, plant in dict(globals()).items()
    if name[0] == "_" and getattr(plant, "__annotations__", {}).get("patch") is Patch
}

if os.environ.get("MUTANT_FAULTS") == "1" and os.environ.get("STATE_FAULT"):
    FAULTS[os.environ["STATE_FAULT"]](pytest.MonkeyPatch())
