"""What implementation state means: a model in plain Python, one call at a time.

Contexts stand for threads and tasks. A state is a number for which object it is, and its content.
Whatever a call may not do is answered by a slug of `REFUSALS` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

REFUSALS = ("unknown", "registered", "sealed", "out-of-order", "not-sealed")

Scope = tuple[str | None, ...]
"""The values of the keys by which a type is kept, None for a key that is not set."""


@dataclass(slots=True, kw_only=True)
class Held:
    """One state. `identity`: which object it is, counted from 0 in the order of creation."""

    identity: int
    content: int = 0


@dataclass(slots=True, kw_only=True)
class _Values:
    """States made by one creation function, and how many it has made."""

    number: int
    states: dict[Scope, Held] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Kind:
    per: tuple[str, ...]
    layers: list[_Values]


class StateModel:
    """The registry, the scopes of every context, and the seals."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        # Of each context, innermost last: the token, and the keys that were set before it.
        self._tokens: dict[int, list[tuple[int, dict[str, str]]]] = {0: []}
        self._keys: dict[int, dict[str, str]] = {0: {}}
        self._sealed: list[str] = []
        self._count = 0
        self._token_count = 0
        self._layer_count = 0
        self.created: dict[str, int] = {}
        """How often states of a name were created."""

    # Contexts and scopes.

    def start_thread(self) -> int:
        """A context in which nothing is set."""
        new = len(self._keys)
        self._keys[new], self._tokens[new] = {}, []
        return new

    def start_task(self, parent: int) -> int:
        """A context that begins as a copy of another."""
        new = len(self._keys)
        self._keys[new] = dict(self._keys[parent])
        self._tokens[new] = list(self._tokens[parent])
        return new

    def set_scope(self, context: int, key: str, value: str) -> int:
        """Returns a token."""
        token, self._token_count = self._token_count, self._token_count + 1
        before = self._keys[context]
        self._tokens[context].append((token, before))
        self._keys[context] = {**before, key: value}
        return token

    def reset(self, context: int, token: int) -> str | None:
        """None, or why not: a token is good once, innermost first, where it is known."""
        tokens = self._tokens[context]
        if not tokens or tokens[-1][0] != token:
            return "out-of-order"
        self._keys[context] = tokens.pop()[1]
        return None

    def scope(self, context: int) -> Mapping[str, str]:
        return dict(self._keys[context])

    # Types and states.

    def register(self, name: str, per: tuple[str, ...]) -> str | None:
        if name in self._kinds:
            return "registered"
        self._kinds[name] = _Kind(per=per, layers=[self._layer()])
        return None

    def get(self, context: int, name: str) -> Held | str:
        """The state that a call in a context means; created where it does not exist."""
        kind = self._kinds.get(name)
        if kind is None:
            return "unknown"
        values = kind.layers[-1]
        scope = tuple(self._keys[context].get(k) for k in kind.per)
        if scope not in values.states:
            if self._sealed:
                return "sealed"
            values.states[scope] = Held(identity=self._count)
            self._count += 1
            self.created[name] = self.created.get(name, 0) + 1
        return values.states[scope]

    def add(self, context: int, name: str, amount: int) -> int | str:
        """Add to a state in place; returns its content then."""
        held = self.get(context, name)
        if isinstance(held, str):
            return held
        held.content += amount
        return held.content

    def discard(self, name: str) -> str | None:
        if name not in self._kinds:
            return "unknown"
        if self._sealed:
            return "sealed"
        self._kinds[name].layers[-1].states.clear()
        return None

    # Overrides and seals.

    def override(self, name: str) -> int | str:
        """Returns the number of the override, to end it by."""
        if name not in self._kinds:
            return "unknown"
        if self._sealed:
            return "sealed"
        layer = self._layer()
        self._kinds[name].layers.append(layer)
        return layer.number

    def end_override(self, name: str, number: int) -> None:
        """Overrides may end in any order; what was there before is back when the last has."""
        kind = self._kinds[name]
        kind.layers = [v for v in kind.layers if v.number != number]

    def seal(self, graph: str) -> str | None:
        if graph in self._sealed:
            return "sealed"
        self._sealed.append(graph)
        return None

    def unseal(self, graph: str) -> str | None:
        if graph not in self._sealed:
            return "not-sealed"
        self._sealed.remove(graph)
        return None

    def _layer(self) -> _Values:
        number, self._layer_count = self._layer_count, self._layer_count + 1
        return _Values(number=number)
