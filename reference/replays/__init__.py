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
from .legal import is_legal, owner_kinds, ways_to_move
from .traps import TRAPS

__all__ = [
    "TRAPS",
    "CaptureExpectation",
    "ExpectedCapture",
    "ExpectedEvent",
    "Refused",
    "expect_capture",
    "for_rows",
    "is_legal",
    "owner_kinds",
    "rows_of",
    "used_owners",
    "ways_to_move",
]
