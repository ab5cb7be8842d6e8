"""The registry of states: what a call of it does, one call at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from reference.model.state import Explicit, Keys

from .held import Call, Held, Kind, Layer, Scope
from .refusals import StateRefused
from .scopes import Scopes

_Place = tuple[str, Scope]

PAIRS = ("tree", "nested")
"""What holds two tensors."""


class StateModel:
    """The registry, the scopes of every context, and the seals."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        """What is registered, by name."""
        self.scopes = Scopes()
        self._seals: dict[str, dict[_Place, tuple[Held, int]]] = {}
        self._layer_count = 0
        self._making: list[tuple[_Place, int]] = []
        self.objects: list[Held] = []
        """Everything that was ever made, by identity."""
        # What was made or put in place as a state, with the layer whose it was, in order.
        self._kept: list[tuple[Layer, Held]] = []
        self.calls: list[Call] = []
        """Which creation functions ran, in order of their ends."""

    @property
    def created(self) -> dict[str, int]:
        """How often creation functions of a name made something."""
        found: dict[str, int] = {}
        for call in self.calls:
            if call.identity is not None:
                found[call.name] = found.get(call.name, 0) + 1
        return found

    # Kinds of state.

    def register(
        self,
        name: str,
        per: tuple[str, ...] | None,
        *,
        holds: str = "tensor",
        needs: str = "",
        again: bool = False,
    ) -> None:
        if not name or "@" in name:
            raise StateRefused("bad-name")
        if name in self.kinds:
            if not again:
                raise StateRefused("registered", (name,))
            self._refuse_sealed(name)
        self.kinds[name] = Kind(per=per, layers=[self._layer(holds, needs)])

    def unregister(self, name: str) -> None:
        self._kind(name)
        self._refuse_sealed(name)
        del self.kinds[name]

    def override(self, name: str, holds: str = "tensor") -> int:
        """Returns the number of the override, to end it by."""
        kind = self._kind(name)
        self._refuse_sealed(name)
        kind.layers.append(self._layer(holds, "", below=kind.layers[-1]))
        return kind.layers[-1].number

    def end_override(self, name: str, number: int) -> None:
        """Overrides may end in any order; what was there before is back when the last has."""
        kind = self.kinds.get(name)
        if kind is not None:
            kind.layers = [layer for layer in kind.layers if layer.number != number]

    def plan(self, names: Sequence[str], scopes: Sequence[Keys]) -> list[tuple[_Place, bool]]:
        """The states that ops of these names would use in these scopes, and which exist."""
        return [
            (place, place[1] in self.kinds[place[0]].layers[-1].states)
            for place, _ in self._planned(names, scopes)
        ]

    def preallocate(self, names: Sequence[str], scopes: Sequence[Keys]) -> None:
        for (name, scope), keys in self._planned(names, scopes):
            self._value(name, scope, keys)

    def _planned(
        self, names: Sequence[str], scopes: Sequence[Keys]
    ) -> list[tuple[_Place, dict[str, str]]]:
        found: dict[_Place, dict[str, str]] = {}
        for name in names:
            for keys in scopes:
                wanted = {key: str(value) for key, value in keys}
                found.setdefault((name, self._own(self._kind(name), wanted)), wanted)
        return list(found.items())

    def entries(self) -> list[tuple[_Place, Held]]:
        """What exists, overridden states too."""
        return [
            ((name, scope), held)
            for name, kind in self.kinds.items()
            for layer in kind.layers
            for scope, held in layer.states.items()
        ]

    # States.

    def get(
        self, context: int, name: str, scope: Explicit = None, declared: str | None = None
    ) -> Held:
        """The state that a call in a context means; created where it does not exist.

        declared: where a provider asks, the one kind that it declares.
        """
        place = self._meant(context, name, scope, declared)
        return self._value(*place, self.scopes.keys(context))

    def exists(self, context: int, name: str, scope: Explicit = None) -> bool:
        _, found = self._meant(context, name, scope, None)
        return found in self.kinds[name].layers[-1].states

    def add(self, context: int, name: str, amount: int) -> Held:
        """Add to a state in place; what holds no tensor is left as it is."""
        held = self.get(context, name)
        if held.tensors:
            held.content[0] += amount
        return held

    def update(self, context: int, name: str, amount: int, size: int) -> tuple[Held, list[int]]:
        """A call of the op of a name with `size` times `amount`: the state, and the output.

        A state with tensors adds the sum of its input, one with two counts calls in the other; the
        output is the input plus the state then, or times what a handle holds.
        """
        held = self.get(context, name)
        if not held.tensors:
            return held, [amount * held.content[0]] * size
        held.content[0] += amount * size
        if held.kind in PAIRS:
            held.content[1] += 1
        return held, [amount + held.content[0]] * size

    def replace(self, context: int, name: str, holds: str, amount: int) -> None:
        """Put a new object in the place of a state."""
        content = [amount, 0] if holds in PAIRS else [amount]
        held = self._object(holds if holds in (*PAIRS, "handle") else "tensor", content)
        place = self._meant(context, name, None, None)
        if holds == "parameter":
            raise StateRefused("model-state")
        self._refuse_sealed(name)
        layer = self.kinds[name].layers[-1]
        self._kept.append((layer, held))
        layer.states[place[1]] = held

    def grow(self, context: int, name: str, size: int) -> Held:
        """A state of one dimension with at least so many elements."""
        held = self.get(context, name)
        if held.kind != "tensor":
            raise StateRefused("not-one-dimension")
        if len(held.content) >= size:
            return held
        if self._seals:
            raise StateRefused("sealed", self.sealed)
        larger = self._object("tensor", held.content + [0] * (size - len(held.content)))
        _, scope = self._meant(context, name, None, None)
        layer = self.kinds[name].layers[-1]
        self._kept.append((layer, larger))
        layer.states[scope] = larger
        return larger

    def discard(self, name: str) -> None:
        """Drop the states of a name."""
        layer = self._kind(name).layers[-1]
        self._refuse_sealed(name)
        layer.states.clear()

    # Seals.

    @property
    def sealed(self) -> tuple[str, ...]:
        """The graphs that rely on the states as they are."""
        return tuple(self._seals)

    def seal(self, graph: str) -> None:
        if graph in self._seals:
            raise StateRefused("sealed", (graph,))
        self._seals[graph] = {
            (name, scope): (held, held.disturbed)
            for name, kind in self.kinds.items()
            for scope, held in kind.layers[-1].states.items()
            if held.tensors
        }

    def unseal(self, graph: str) -> None:
        if graph not in self._seals:
            raise StateRefused("not-sealed", (graph,))
        del self._seals[graph]

    def verify(self) -> None:
        """Refused where a state is not what and where it was when a graph was sealed."""
        broken: list[str] = []
        for graph, seen in self._seals.items():
            for (name, scope), (held, disturbed) in seen.items():
                kind = self.kinds.get(name)
                now = None if kind is None else kind.layers[-1].states.get(scope)
                if now is not held or held.disturbed != disturbed:
                    broken.append(graph)
        if broken:
            raise StateRefused("broken-seal", tuple(broken))

    # What these are made of.

    def _kind(self, name: str) -> Kind:
        kind = self.kinds.get(name)
        if kind is None:
            raise StateRefused("unknown", (name,), *((known,) for known in self.kinds))
        return kind

    def _own(self, kind: Kind, keys: Mapping[str, str]) -> Scope:
        found = tuple(keys.get(key) for key in kind.per or ())
        return () if all(value is None for value in found) else found

    def _meant(self, context: int, name: str, scope: Explicit, declared: str | None) -> _Place:
        kind = self._kind(name)
        if declared is not None and declared != name:
            raise StateRefused("undeclared", (name,))
        if scope is None:
            return name, self._own(kind, self.scopes.keys(context))
        if isinstance(scope, int):
            raise StateRefused("bad-explicit")
        values = (scope,) if isinstance(scope, str) else scope
        # A kind that names no keys takes whatever it is given for one scope.
        if kind.per is not None and len(values) != len(kind.per):
            given = ((value,) for value in values if value is not None)
            raise StateRefused("wrong-number", (name,), *given, *((key,) for key in kind.per))
        return name, () if all(value is None for value in values) else values

    def _value(self, name: str, scope: Scope, keys: Mapping[str, str]) -> Held:
        layer = self._kind(name).layers[-1]
        held = layer.states.get(scope)
        if held is None:
            held = self._created(name, scope, layer, keys)
        broken = []
        for graph, seen in self._seals.items():
            was = seen.get((name, scope))
            if was is not None and was != (held, held.disturbed):
                broken.append(graph)
        if broken:
            raise StateRefused("broken-seal", tuple(broken))
        return held

    def _created(self, name: str, scope: Scope, layer: Layer, keys: Mapping[str, str]) -> Held:
        if ((name, scope), layer.number) in self._making:
            raise StateRefused("cycle", (name,))
        if self._seals and not self._harmless(layer):
            raise StateRefused("sealed", self.sealed)
        with self._being_made((name, scope), layer.number):
            held = self._made(name, layer, keys)
        if layer.holds == "parameter":
            raise StateRefused("model-state")
        if layer.holds == "shared" and any(
            other.content is held.content and place != (name, scope)
            for place, other in self.entries()
        ):
            raise StateRefused("shares-memory")
        self._kept.append((layer, held))
        if self._seals and held.tensors:
            raise StateRefused("sealed", self.sealed)
        layer.states[scope] = held
        return held

    def _made(self, name: str, layer: Layer, keys: Mapping[str, str]) -> Held:
        """What a creation function returns; it runs in the scope of whoever asks."""
        layer.calls += 1
        try:
            if layer.holds == "fails-once" and layer.calls == 1:
                raise StateRefused("creation-failed")
            if layer.needs:
                needed = self._kind(layer.needs)
                self._value(layer.needs, self._own(needed, keys), keys)
        except StateRefused:
            self.calls.append(Call(name=name, keys=dict(keys), identity=None))
            raise
        match layer.holds:
            case "tree" | "nested":
                held = self._object(layer.holds, [0, 0])
            case "handle":
                # Each handle is told from the others by a number of its own.
                held = self._object("handle", [2 + len(self.objects)])
            case "shared":
                held = self._object("tensor", layer.memory)
                held.shared = True
            case _:
                held = self._object("tensor", [0])
        self.calls.append(Call(name=name, keys=dict(keys), identity=held.identity))
        return held

    def _object(self, kind: str, content: list[int]) -> Held:
        held = Held(identity=len(self.objects), kind=kind, content=content)
        self.objects.append(held)
        return held

    @contextmanager
    def _being_made(self, place: _Place, layer: int) -> Iterator[None]:
        self._making.append((place, layer))
        try:
            yield
        finally:
            self._making.pop()

    def _refuse_sealed(self, name: str) -> None:
        if self._seals and not self._harmless(self.kinds[name].layers[-1]):
            raise StateRefused("sealed", self.sealed)

    def _harmless(self, layer: Layer) -> bool:
        """Whether what a captured graph reads cannot be among its states, as far as was seen.

        Something must have been seen, and nothing with a tensor in it: of its own, and of what it
        hides from the time before it did.
        """
        found: list[Held] = []
        seen = self._kept
        at: Layer | None = layer
        while at is not None:
            found += [held for each, held in seen if each is at]
            at, seen = at.below, seen[: at.opened]
        return bool(found) and not any(held.tensors for held in found)

    def _layer(self, holds: str, needs: str, below: Layer | None = None) -> Layer:
        number, self._layer_count = self._layer_count, self._layer_count + 1
        return Layer(number=number, holds=holds, needs=needs, below=below, opened=len(self._kept))
