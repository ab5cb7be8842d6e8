"""Scopes by context: each thread has its own, a task begins with a copy of its parent's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reference.model.state import Keys

from .refusals import StateRefused


class Scopes:
    """What is set in every context. Context 0 is there from the start."""

    def __init__(self) -> None:
        # Of each context, innermost last: the token, and the keys that were set before it.
        self._tokens: dict[int, list[tuple[int, dict[str, str]]]] = {0: []}
        self._keys: dict[int, dict[str, str]] = {0: {}}
        self._count = 0

    def start(self) -> int:
        """A context in which nothing is set."""
        new = len(self._keys)
        self._keys[new], self._tokens[new] = {}, []
        return new

    def copy(self, parent: int) -> int:
        """A context that begins as a copy of another."""
        new = len(self._keys)
        self._keys[new] = dict(self._keys[parent])
        self._tokens[new] = list(self._tokens[parent])
        return new

    def set(self, context: int, key: str, value: str | int | bool) -> int:
        """Returns a token."""
        if not key or isinstance(value, bool):
            raise StateRefused("bad-scope")
        token, self._count = self._count, self._count + 1
        before = self._keys[context]
        self._tokens[context].append((token, before))
        self._keys[context] = {**before, key: str(value)}
        return token

    def enter(self, context: int, keys: Keys) -> tuple[int, ...]:
        """The tokens of several keys: all are set, or none."""
        for key, value in keys:
            if not key or isinstance(value, bool):
                raise StateRefused("bad-scope")
        return tuple(self.set(context, key, value) for key, value in keys)

    def reset(self, context: int, token: int) -> None:
        """A token is good once, innermost first, where it is known."""
        tokens = self._tokens[context]
        if not tokens or tokens[-1][0] != token:
            raise StateRefused("out-of-order")
        self._keys[context] = tokens.pop()[1]

    def leave(self, context: int, tokens: Sequence[int]) -> None:
        for token in reversed(tokens):
            self.reset(context, token)

    def keys(self, context: int) -> Mapping[str, str]:
        return dict(self._keys[context])
