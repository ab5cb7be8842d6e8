"""The script of a transfer finding: ``ir`` and NumPy, both engines in one process.

Findings between processes have one of their own, `oracle.scripts.transfer_engines`.

Memory before and after is embedded as 64-bit codes, one for every byte, as the reference works
them out; the script plans, pulls in memory and compares.
"""

from __future__ import annotations

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.model import TransferCase
from reference.transfer import ExpectedTransfer, Refused

from . import piece, transfer_engines
from .transfer_text import check_size, docstring, engine_text, model_text, packed

_ERRORS = {
    "engine": ("GeometryError",),
    "pair": ("IncompatibleEnginesError",),
    "request": ("RequestError",),
}
_HEAD = """
import base64
import sys
import zlib
from collections import Counter

try:
    import numpy as np

    from ir.transfer import Arena, EngineGeometry, MemoryTransport, TransferRequest
    from ir.transfer import plan as planning
    from ir.transfer.geometry import Layout, Placement
    from ir.transfer.groups import CacheGroup, Kind, ModelCache, Part
except ImportError as error:
    sys.exit(print(f"cannot run: {error}") or 2)
"""


def render(finding: Finding, expected: ExpectedTransfer) -> str:
    """The script. Raises `ScriptError` where a fault of processes or too much memory would have to
    be in it.
    """
    case: TransferCase = finding.case
    if finding.route in transfer_engines.ROUTES:
        return transfer_engines.render(finding, expected)
    if case.fault:
        raise ScriptError(
            f"no script for fault {case.fault!r} on route {finding.route!r}; accepted: "
            f"{', '.join(transfer_engines.ROUTES)}"
        )
    if expected.refused is None:
        check_size(
            [t for stage in expected.producers for t in stage]
            + [t.codes for stage in expected.consumers for t in stage]
        )
    return "\n".join([docstring(finding), _HEAD, _constants(case, expected), "", "", _body(), ""])


def _body() -> str:
    return piece("transfer_run")


def _constants(case: TransferCase, expected: ExpectedTransfer) -> str:
    other = None if case.consumer_model is None else model_text(case.consumer_model)
    lines = [
        f"MODEL = {model_text(case.model)}",
        f"OTHER_MODEL = {other}",
        f"PRODUCER = {engine_text(case.producer, case.producer_id)}",
        f"CONSUMER = {engine_text(case.consumer, case.consumer_id)}",
        f"REFUSED = {_refused(expected.refused)}  # rule, accepted errors, names they show",
    ]
    if expected.refused is not None:
        return "\n".join(lines)
    requests = [
        {name: getattr(request, name) for name in type(request).__dataclass_fields__}
        for request in case.requests
    ]
    told = sorted(expected.notifications)
    lines += [
        f"REQUESTS = {requests!r}",
        f"REFUSED_REQUESTS = [{', '.join(_refused(each) for each in expected.requests)}]",
        f"TOLD = {told!r}  # producer rank, consumer rank, request",
        f"BEFORE = {packed(expected.producers)}",
        f"AFTER = {packed([[t.codes for t in stage] for stage in expected.consumers])}",
        f"FREE = {packed([[t.free for t in stage] for stage in expected.consumers])}",
    ]
    return "\n".join(lines)


def _refused(refused: Refused | None) -> str:
    if refused is None:
        return "None"
    return repr((refused.rule, _ERRORS[refused.scope], refused.names))
