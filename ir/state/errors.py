"""What implementation state raises."""

from __future__ import annotations

from ir.errors import IrError


class StateError(IrError, RuntimeError):
    """A use of state that would be lost, shared by accident, or frozen into a graph."""


class UnknownStateError(StateError, KeyError):
    """A name that no `register_type` gave."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    # KeyError shows the repr of its arguments.
    def __str__(self) -> str:
        known = ", ".join(map(repr, self.known)) or "none, register_type was never called"
        return f"state {self.name!r} is not registered; accepted: {known}"


class UndeclaredStateError(StateError):
    """A provider that uses what it does not declare."""


class ScopeError(StateError, ValueError):
    """A scope that cannot be set or reset as asked."""


class SealedError(StateError):
    """A change that would leave captured graphs with stale addresses."""
