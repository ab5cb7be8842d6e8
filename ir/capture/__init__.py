"""Graphs: work recorded once and repeated on the same addresses, on CUDA or on the host.

graph = ir.capture.capture(step, x, positions)
y = graph.replay(new_x, new_positions)
"""

from ir.capture.buckets import BucketedGraphs, capture_buckets
from ir.capture.entry import capture
from ir.capture.errors import CaptureError, CaptureRefused, ReplayError, StaleAddress
from ir.capture.graph import CapturedGraph
from ir.capture.kernels import register_replayable, unregister_replayable
from ir.capture.ledger import AddressLedger
from ir.capture.rules import REASONS
from ir.capture.session import calls_recorded

__all__ = [
    "REASONS",
    "AddressLedger",
    "BucketedGraphs",
    "CaptureError",
    "CaptureRefused",
    "CapturedGraph",
    "ReplayError",
    "StaleAddress",
    "calls_recorded",
    "capture",
    "capture_buckets",
    "register_replayable",
    "unregister_replayable",
]
