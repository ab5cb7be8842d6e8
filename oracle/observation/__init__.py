"""What a subject reports, as data: of a call here, of the other kinds of case in a module each."""

from .call import (
    Declined,
    Died,
    FakeTensorInfo,
    Observation,
    ObservedTensor,
    Raised,
    Returned,
    Unavailable,
)

__all__ = [
    "Declined",
    "Died",
    "FakeTensorInfo",
    "Observation",
    "ObservedTensor",
    "Raised",
    "Returned",
    "Unavailable",
]
