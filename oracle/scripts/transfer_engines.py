"""The script of a finding between processes: ``ir``, NumPy and NIXL, engines and the fault.

Memory before and after is embedded as the bytes that the engines hold; the script starts them,
does to the producer what the case says, and compares what is there afterwards.
"""

from __future__ import annotations

from oracle.finding import Finding
from oracle.judges.engines import ENDS
from oracle.script import ScriptError
from oracle.subjects.transfers.engines import FAULTS, SECONDS, TLS
from reference.model import TransferCase
from reference.transfer import MIXED_SENTINEL, SENTINEL, ExpectedTransfer, mixed

from . import piece
from .transfer_text import check_size, docstring, engine_text, model_text, packed

ROUTES = tuple(TLS)

_HEAD = """
import base64
import signal
import sys
import zlib

try:
    import numpy as np

    from ir.transfer import EngineGeometry, TransferRequest
    from ir.transfer.geometry import Layout, Placement
    from ir.transfer.groups import CacheGroup, Kind, ModelCache, Part
    from ir.transfer.nixl import Cluster, Fault
    from ir.transfer.nixl.binding import installed

    installed()
except Exception as error:
    sys.exit(print(f"cannot run: {error}") or 2)
"""


def render(finding: Finding, expected: ExpectedTransfer) -> str:
    """The script. Raises `ScriptError` for a case that engines are not asked, or too large."""
    case: TransferCase = finding.case
    if expected.refused is not None or len(case.requests) != 1 or any(expected.requests):
        raise ScriptError("a refused case between processes; accepted: one good request")
    check_size(
        [t for stage in expected.producers for t in stage]
        + [t.codes for stage in expected.consumers for t in stage]
    )
    parts = [docstring(finding), _HEAD, _constants(case, expected, finding.route), "", ""]
    return "\n".join([*parts, piece("transfer_engines_run"), ""])


def _constants(case: TransferCase, expected: ExpectedTransfer, route: str) -> str:
    request = case.requests[0]
    fields = {name: getattr(request, name) for name in type(request).__dataclass_fields__}
    told = sorted((p, c) for p, c, _ in expected.notifications)
    consumers = expected.consumers
    lines = [
        f"TLS = {TLS[route]!r}  # what UCX may use; None is its default",
        f"FAULT = Fault({FAULTS[case.fault]!r})",
        f"PUSH = {case.push}",
        f"ENDS = {ENDS[case.fault]!r}  # how the request may end",
        f"SECONDS = {SECONDS}  # the deadline of each request",
        f"MODEL = {model_text(case.model)}",
        f"PRODUCER = {engine_text(case.producer, case.producer_id)}",
        f"CONSUMER = {engine_text(case.consumer, case.consumer_id)}",
        f"REQUEST = {fields!r}",
        f"TOLD = {told!r}  # producer rank, consumer rank",
        f"SENTINEL = {MIXED_SENTINEL}",
        f"BEFORE = {packed([[mixed(t) for t in stage] for stage in expected.producers])}",
        f"AFTER = {packed([[mixed(t.codes) for t in stage] for stage in consumers])}",
        "# Bytes that no request writes, and those that it may write or leave.",
        f"UNTOUCHED = {packed([[t.codes == SENTINEL for t in stage] for stage in consumers])}",
        f"FREE = {packed([[t.free for t in stage] for stage in consumers])}",
    ]
    return "\n".join(lines)
