"""What capture and replay raise. Every class pickles."""

from __future__ import annotations

from ir.errors import IrError


class CaptureError(IrError, RuntimeError):
    """Base of every refusal of `ir.capture`."""


class CaptureRefused(CaptureError):
    """A function that cannot be captured, or that a replay would not repeat.

    `reason` is a fixed kebab-case slug of `ir.capture.rules.REASONS`; `what` shows the refused
    call or tensor.
    """

    def __init__(self, reason: str, what: str, accepted: str) -> None:
        super().__init__(reason, what, accepted)
        self.reason = reason
        self.what = what
        self.accepted = accepted

    def __str__(self) -> str:
        return f"capture refused ({self.reason}): {self.what}; accepted: {self.accepted}"


class StaleAddress(CaptureError):
    """An owner no longer holds the memory that a graph has recorded."""

    def __init__(self, owner: str, was: str, now: str) -> None:
        super().__init__(owner, was, now)
        self.owner = owner
        self.was = was
        self.now = now

    def __str__(self) -> str:
        return (
            f"replay refused: {self.owner} was {self.was} when the graph was captured and is now "
            f"{self.now}; accepted: values copied into the same memory, or a new capture"
        )


class ReplayError(CaptureError, ValueError):
    """A replay that was asked for with inputs, or at a time, that the graph does not admit."""

    def __init__(self, what: str, got: object, accepted: str) -> None:
        super().__init__(what, got, accepted)
        self.what = what
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"replay refused: {self.what} is {self.got}; accepted: {self.accepted}"
