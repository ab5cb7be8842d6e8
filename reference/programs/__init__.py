"""What programs mean: an interpreter over NumPy storages whose windows give the aliasing."""

from .expected import (
    ExpectedProgram,
    ExpectedStorage,
    ExpectedTensor,
    ProgramExpectation,
    expect_program,
    expectation_of,
    known_calls,
)
from .ir_calls import Asked, ExpectedCall
from .machine import METADATA_ONLY, Machine
from .vocabulary import ATEN

__all__ = [
    "ATEN",
    "METADATA_ONLY",
    "Asked",
    "ExpectedCall",
    "ExpectedProgram",
    "ExpectedStorage",
    "ExpectedTensor",
    "Machine",
    "ProgramExpectation",
    "expect_program",
    "expectation_of",
    "known_calls",
]
