"""What `ir.connector` raises."""

from __future__ import annotations

from ir.errors import IrError


class ConnectorError(IrError, RuntimeError):
    """Base of every refusal of `ir.connector`: says what was done, and what would be accepted."""

    def __init__(self, what: str, got: str, accepted: str) -> None:
        super().__init__(what, got, accepted)
        self.what = what
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"{self.what} is {self.got}; accepted: {self.accepted}"


class LifecycleError(ConnectorError):
    """A call of a connector at a time when its contract does not allow it."""


class PolicyError(ConnectorError):
    """A connector that cannot run under the kind of graph that is asked for."""


class NotStagedError(ConnectorError):
    """KV that cannot be offered since none of the request is staged; it can be computed again."""


class LoadError(ConnectorError):
    """An entry that cannot be loaded; it concerns the request that wanted it, and no other."""
