"""What captured functions mean: a body run again on one memory, what must be refused, and why."""

from .expected import (
    CaptureExpectation,
    ExpectedCapture,
    ExpectedEvent,
    Refused,
    expect_capture,
    for_rows,
    rows_of,
    used_owners,
)
from .traps import TRAPS

__all__ = [
    "TRAPS",
    "CaptureExpectation",
    "ExpectedCapture",
    "ExpectedEvent",
    "Refused",
    "expect_capture",
    "for_rows",
    "rows_of",
    "used_owners",
]
