"""The registry of implementation state: what a provider keeps between calls.

Such state may be made anew at any time without changing what a model means: histories, workspaces,
handles of communicators. What must be saved with a model does not belong here and is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling

from ir.state.context import Place, at, decoded, here, leaks, place, read_place, traced_text
from ir.state.creation import Once, plain_torch
from ir.state.description import Description, Entry, described
from ir.state.errors import SealedError, StateError, UndeclaredStateError, UnknownStateError
from ir.state.kinds import Cells, Layer, StateType
from ir.state.lifting import Key, check_scope, refuse_frozen, scope_of, slot_of
from ir.state.plan import Planned, planned
from ir.state.seal import Seal, seal_of
from ir.state.values import check_value, tensors_of

_MISSING: Any = object()


class IrState:
    """State by name and scope. Safe under threads."""

    def __init__(self) -> None:
        from ir.state.tracing import Tracer

        self.types: dict[str, StateType] = {}
        # The last layer of a name is in force; the first is that of its registration.
        self._layers: dict[str, list[Layer]] = {}
        self._seals: dict[str, Seal] = {}
        self._once = Once()
        self._lock = threading.RLock()
        # Answers by place, only while nothing is sealed and no scope can be pending.
        self._found: dict[tuple[Place, str], Any] = {}
        self._explicit: dict[tuple[Place, str, Hashable], Any] = {}
        self._changes = 0
        self.epoch = 0
        """Changes where code traced with a state that is no tensor must be traced again."""
        self.cells = Cells()
        self._tracer = Tracer(self)
        leaks.listeners.add(self)

    def register_type(
        self,
        name: str,
        create_fn: Callable[[], Any],
        *,
        per: str | Sequence[str] | None = None,
        replace: bool = False,
    ) -> None:
        """Register a kind of state. Nothing is created until the first `get`.

        create_fn: makes one, in the scope of the `get` that asks: a tensor, dicts, lists or
        tuples of tensors, or an object.
        per: the scope keys by which it is kept apart: "layer" gives each layer one, () gives
        one to all. Where it is None, as in the RFC, one for all and one for each `scope` given
        to `get`.
        replace: take the place of a type of this name, whose values are dropped.
        Raises StateError, SealedError.
        """
        if not isinstance(name, str) or not name or "@" in name:
            raise StateError(f"state name is {name!r}; accepted: a string without '@'")
        check_value(f"state {name!r}", create_fn)
        if not callable(create_fn):
            raise StateError(
                f"state {name!r}: create_fn is {type(create_fn).__name__}; accepted: a function "
                "without parameters"
            )
        keys = (per,) if isinstance(per, str) else None if per is None else tuple(per)
        with self._lock:
            if name in self.types and not replace:
                raise StateError(
                    f"state {name!r} is already registered; accepted: another name, replace=True, "
                    "or override for a test"
                )
            self._refuse_sealed(name, "is registered anew")
            self.types[name] = StateType(name, create_fn, keys)
            self._layers[name] = [Layer(create_fn, {})]
            self._changed(name)

    def unregister_type(self, name: str) -> None:
        """Forget a kind of state and its values. Raises UnknownStateError, SealedError."""
        with self._lock:
            self.type(name)
            self._refuse_sealed(name, "is unregistered")
            del self.types[name], self._layers[name]
            self._changed(name)

    def get(self, name: str, scope: Hashable = None) -> Any:
        """The state of a scope, created if this is the first use.

        scope: None for that of the caller; else the value of the key by which the state is
        kept, or a tuple with a value or None for each of its keys, neither more nor fewer.
        Raises UnknownStateError (a KeyError), UndeclaredStateError, SealedError, StateError.
        """
        if is_dynamo_compiling():
            return getattr(self.cells, self._tracer.slot(name, scope, traced_text()))
        try:
            if scope is None:
                return self._found[read_place(), name]
            return self._explicit[read_place(), name, scope]
        except (KeyError, TypeError):
            return self._get(name, scope)

    def _get(self, name: str, scope: Hashable) -> Any:
        where, changes = here(), self._changes
        key = self.key(name, scope, where)
        lifted = where.lifted
        if lifted is not None:
            if key in lifted.values:
                return lifted.values[key]
            value = self.value(key)
            if tensors_of(value):
                who = "the call" if where.user is None else where.user.who
                raise StateError(
                    f"state {slot_of(key)} was not given to {who} in its graph; accepted: "
                    f"{[slot_of(k) for k in lifted.values]}. Declare it with state=, and say by "
                    "which scope keys it is kept with register_type(per=...)"
                )
            refuse_frozen(key, value)
            return value
        value = self.value(key)
        with self._lock:
            if changes == self._changes and not self._seals and not leaks.possible:
                if scope is None:
                    self._found[where, name] = value
                else:
                    self._explicit[where, name, scope] = value
        return value

    def key(self, name: str, scope: Hashable, where: Place) -> Key:
        """Which state a `get` at a place means."""
        kind = self.type(name)
        user = where.user
        if user is not None and not user.allows(name):
            declared = list(user.declared if user.declared is not None else user.names(self))
            raise UndeclaredStateError(
                f"{user.who} uses state {name!r}, which it does not declare; accepted: one of "
                f"{declared}, or state=[..., {name!r}] in its registration"
            )
        if scope is None:
            return name, scope_of(kind.per, decoded(where.text))
        return name, check_scope(name, scope, kind.per)

    def held(self, key: Key) -> Any:
        """A state that exists. Raises StateError where it does not."""
        layers = self._layers.get(key[0])
        value = _MISSING if layers is None else layers[-1].values.get(key, _MISSING)
        if value is _MISSING:
            raise StateError(f"state {slot_of(key)} does not exist; accepted: one that does")
        return value

    def exists(self, name: str, scope: Hashable = None) -> bool:
        """Whether a state was created; `scope` as in `get`."""
        key = self.key(name, scope, place(here().text))
        return key in self._layers[name][-1].values

    def value(self, key: Key) -> Any:
        """The state of a key, created if need be."""
        self.type(key[0])
        layer = self._layers[key[0]][-1]
        value = layer.values.get(key, _MISSING)
        if value is _MISSING:
            value = self._once.get(layer.values, key, lambda: self._create(key, layer))
            # It may have been overridden, dropped or replaced while it was made.
            if layer is self._layers[key[0]][-1] and layer.values.get(key) is value:
                setattr(self.cells, slot_of(key), value)
        for seal in self._seals.values():
            seal.check(key, value)
        return value

    def _create(self, key: Key, layer: Layer) -> Any:
        if self._seals and not layer.only_others:
            raise self._refusal(key, "would be created")
        with at(place(here().text)), plain_torch():
            value = layer.create()
        check_value(f"state {slot_of(key)}", value)
        self._refuse_shared(key, value)
        layer.saw(value)
        if self._seals and tensors_of(value):
            raise self._refusal(key, "would be created")
        return value

    def replace(self, name: str, value: Any, scope: Hashable = None) -> None:
        """Put another value in the place of a state; `scope` as in `get`.

        Raises SealedError, StateError, UnknownStateError.
        """
        key = self.key(name, scope, here())
        self._refuse_in_graph(key)
        check_value(f"state {slot_of(key)}", value)
        with self._lock:
            self._refuse_sealed(name, "would be replaced")
            self._refuse_shared(key, value)
            self._layers[name][-1].saw(value)
            self._layers[name][-1].values[key] = value
            setattr(self.cells, slot_of(key), value)
            self._changed(name)

    def grow(self, name: str, numel: int, scope: Hashable = None) -> torch.Tensor:
        """A state of one dimension with at least `numel` elements: itself, or a larger one.

        Elements keep their values; those added are 0. Raises SealedError where it would have to
        grow, StateError, UnknownStateError.
        """
        key = self.key(name, scope, here())
        value = self.get(name, scope)
        if not isinstance(value, torch.Tensor) or value.dim() != 1:
            raise StateError(f"state {slot_of(key)} cannot grow; accepted: a tensor of 1 dimension")
        if value.numel() >= numel:
            return value
        self._refuse_in_graph(key)
        if self._seals:
            raise self._refusal(key, f"would grow from {value.numel()} to {numel} elements")
        with plain_torch():
            larger = torch.zeros(numel, dtype=value.dtype, device=value.device)
            larger[: value.numel()] = value
        self.replace(name, larger, scope)
        return larger

    def discard(self, name: str | None = None) -> None:
        """Drop the values of a name, or of all; the next `get` creates anew. Raises SealedError."""
        with self._lock:
            names = list(self.types) if name is None else [self.type(name).name]
            for n in names:
                self._refuse_sealed(n, "would be dropped")
            for n in names:
                self._layers[n][-1].values = {}
                self._changed(n)

    @contextmanager
    def override(self, name: str, fn: Callable[[], Any]) -> Iterator[None]:
        """Let `fn` create the states of a name, for the whole process, until the block ends.

        Then the states from before are back, the same objects. Raises SealedError,
        UnknownStateError.
        """
        with self._lock:
            self.type(name)
            self._refuse_sealed(name, "would be overridden")
            layers = self._layers[name]
            layer = Layer(fn, {}, layers[-1].seen)
            layers.append(layer)
            self._changed(name)
        try:
            yield
        finally:
            with self._lock:
                # Overrides of several threads may end in any order.
                layers.remove(layer)
                # Traced code may have something of an override without tensors in it.
                self.epoch += not layer.only_tensors
                self._changed(name)

    def in_force(self) -> dict[Key, Any]:
        """The states that a `get` would find now, overridden ones left out."""
        last = [layers[-1] for layers in list(self._layers.values())]
        return {key: value for layer in last for key, value in list(layer.values.items())}

    def only_tensors(self, name: str) -> bool:
        """Whether each value of a name so far held tensors, and there was one."""
        return name in self._layers and self._layers[name][-1].only_tensors

    def describe(self) -> Description:
        """What exists, and the bytes it takes on each device."""
        with self._lock:
            return described(self.entries())

    def entries(self, only: str | None = None) -> list[Entry]:
        """What exists, of one name or of all, overridden values too."""
        # Copies: other threads create states meanwhile.
        return [
            Entry(name=name, scope=key[1], value=value)
            for name, layers in list(self._layers.items())
            if only is None or name == only
            for layer in list(layers)
            for key, value in list(layer.values.items())
        ]

    def plan(
        self,
        scopes: Iterable[Mapping[str, str | int]] = ({},),
        *,
        ops: Collection[str] | None = None,
    ) -> tuple[Planned, ...]:
        """The states that providers in force would use in these scopes, each once.

        ops: names of the ops that count; None for every op there is.
        """
        return planned(self, scopes, ops)

    def preallocate(
        self,
        scopes: Iterable[Mapping[str, str | int]] = ({},),
        *,
        ops: Collection[str] | None = None,
    ) -> tuple[Planned, ...]:
        """Create what `plan` lists; returns the list."""
        found = planned(self, scopes, ops)
        for p in found:
            with at(place(p.text)):
                self.value((p.name, p.scope))
        return found

    def seal(self, graph: str) -> None:
        """From here on refuse what would change a tensor that this captured graph uses.

        Creating, replacing, growing or dropping a tensor state raises SealedError; one resized or
        moved without asking does at its next `get`, or in `verify`. A name counts as one of tensors
        until a value of it was seen and none held any: its first `get` is refused whatever it
        makes. What an override adds goes with it; a name registered anew begins with nothing.
        """
        with self._lock:
            if graph in self._seals:
                raise SealedError(f"graph {graph!r} is already sealed; accepted: another name")
            self._seals[graph] = seal_of(graph, self.in_force())
            self.forget_answers()

    def unseal(self, graph: str) -> None:
        """The graph is not replayed again."""
        with self._lock:
            if graph not in self._seals:
                raise SealedError(f"graph {graph!r} is not sealed; accepted: {list(self._seals)}")
            del self._seals[graph]
            self.forget_answers()

    @property
    def sealed(self) -> tuple[str, ...]:
        """The graphs that rely on the states as they are."""
        return tuple(self._seals)

    def verify(self) -> None:
        """Raises SealedError where a sealed graph's state is not what and where it was."""
        with self._lock:
            for seal in self._seals.values():
                seal.verify(self.in_force())

    def type(self, name: str) -> StateType:
        """A registered kind of state. Raises UnknownStateError."""
        kind = self.types.get(name)
        if kind is None:
            raise UnknownStateError(name, tuple(self.types))
        return kind

    def _refusal(self, key: Key, what: str) -> SealedError:
        return next(iter(self._seals.values())).refusal(key, what)

    def _refuse_sealed(self, name: str, what: str) -> None:
        if self._seals and name in self._layers and not self._layers[name][-1].only_others:
            raise self._refusal((name, None), what)

    def _refuse_in_graph(self, key: Key) -> None:
        if here().lifted is not None:
            raise StateError(
                f"state {slot_of(key)} cannot be replaced or grown inside a graph; accepted: "
                "before the graph is compiled"
            )

    def _refuse_shared(self, key: Key, value: Any) -> None:
        """Compiled code writes a state while it reads another: none may lie in both."""
        tensors = tensors_of(value)
        storages = {t.untyped_storage().data_ptr() for t in tensors if t.numel()}
        if len(storages) < sum(t.numel() > 0 for t in tensors):
            raise StateError(
                f"state {slot_of(key)}: two of its tensors share memory; accepted: memory of "
                "its own for each"
            )
        for entry in self.entries() if storages else ():
            theirs = {t.untyped_storage().data_ptr() for t in tensors_of(entry.value)}
            if (entry.name, entry.scope) != key and not storages.isdisjoint(theirs):
                raise StateError(
                    f"state {slot_of(key)} shares memory with state "
                    f"{slot_of((entry.name, entry.scope))}; accepted: memory of its own, and "
                    "per=() where one is meant for all scopes"
                )

    def forget_answers(self) -> None:
        """Let every `get` look again."""
        self._changes += 1
        self._found.clear()
        self._explicit.clear()

    def _changed(self, name: str) -> None:
        if not self.only_tensors(name):
            self.epoch += 1
        self.forget_answers()
        held = vars(self.cells)
        for slot in [s for s in held if s.startswith(f"{name}@")]:
            delattr(self.cells, slot)
        for key, value in self._layers[name][-1].values.items() if name in self._layers else ():
            setattr(self.cells, slot_of(key), value)
