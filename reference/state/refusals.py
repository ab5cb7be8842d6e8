"""Why a use of state is refused, and what the error must be and show."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "unknown": ("UnknownStateError", "StateError", "KeyError"),
        "undeclared": ("UndeclaredStateError", "StateError"),
        "sealed": ("SealedError", "StateError"),
        "broken-seal": ("SealedError", "StateError"),
        "not-sealed": ("SealedError", "StateError"),
        "out-of-order": ("ScopeError", "StateError"),
        "bad-scope": ("ScopeError", "StateError"),
        "bad-explicit": ("StateError",),
        "wrong-number": ("StateError",),
        "registered": ("StateError",),
        "bad-name": ("StateError",),
        "model-state": ("StateError",),
        "shares-memory": ("StateError",),
        "cycle": ("StateError",),
        "not-one-dimension": ("StateError",),
        "creation-failed": ("CreationFailed",),
    }
)
"""Why a call is refused: the class that it raises, and bases that users catch it by."""


class StateRefused(Exception):
    """rule: of `RULES`. shown: of each group of words, one must be in the message."""

    def __init__(self, rule: str, *shown: tuple[str, ...]) -> None:
        super().__init__(rule)
        self.rule = rule
        self.shown = shown
