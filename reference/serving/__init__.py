"""What a worker with a KV connector must do, step by step and byte by byte."""

from .expected import (
    POLICIES,
    ExpectedRun,
    ExpectedStep,
    bytes_of,
    expect_run,
    new_caches,
    request_of,
)
from .legal import legal
from .model import HEAD_SIZE, MODULUS, VOCABULARY, Weights, computed, initial, weights

__all__ = [
    "HEAD_SIZE",
    "MODULUS",
    "POLICIES",
    "VOCABULARY",
    "ExpectedRun",
    "ExpectedStep",
    "Weights",
    "bytes_of",
    "computed",
    "expect_run",
    "initial",
    "legal",
    "new_caches",
    "request_of",
    "weights",
]
