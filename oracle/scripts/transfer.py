"""The script of a transfer finding: ``ir`` and NumPy, both engines in one process.

Memory before and after is embedded as 64-bit codes, one for every byte, as the reference works
them out; the script plans, pulls in memory and compares.
"""

from __future__ import annotations

import base64
import textwrap
import zlib
from collections.abc import Sequence

import numpy as np

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.model import CachedModel, Engine, TransferCase
from reference.transfer import ExpectedTransfer, Refused

from . import piece

LARGEST = 4_000_000
"""Bytes of memory, on all ranks together, up to which a script embeds it."""

_KINDS = {
    "full": "FULL",
    "sliding": "SLIDING",
    "mla": "MLA",
    "mamba1": "MAMBA1",
    "mamba2": "MAMBA2",
    "gdn": "GDN",
}
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
    """The script. Raises `ScriptError` where a fault or too much memory would have to be in it."""
    case: TransferCase = finding.case
    if case.fault:
        raise ScriptError(f"no script for fault {case.fault!r}; accepted: a case without one")
    size = 0
    if expected.refused is None:
        arrays = [t for stage in expected.producers for t in stage]
        arrays += [t.codes for stage in expected.consumers for t in stage]
        size = sum(array.size for array in arrays)
    if size > LARGEST:
        raise ScriptError(f"{size:,} bytes of memory; accepted: up to {LARGEST:,}")
    return "\n".join([_docstring(finding), _HEAD, _constants(case, expected), "", "", _body(), ""])


def _body() -> str:
    return piece("transfer_run")


def _docstring(finding: Finding) -> str:
    place = " ".join(str(finding.place).split())
    versions = ", ".join(f"{name} {version}" for name, version in finding.versions.items())
    text = (
        f"Judged by {finding.judge!r} ({finding.kind}), route {finding.route!r}, {versions}. "
        f"Found by irverify, seed {finding.seed}; again: irverify replay {finding.fingerprint}. "
        "Exits 1 while the fault is there, 0 once it is gone, 2 where it cannot run."
    )
    lines = [f"{finding.op}, provider {finding.provider!r}: {place}", "", text]
    filled = "\n".join(
        textwrap.fill(line, width=98, break_long_words=False) if line else "" for line in lines
    )
    escaped = filled.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}\n"""'


def _constants(case: TransferCase, expected: ExpectedTransfer) -> str:
    other = None if case.consumer_model is None else _model(case.consumer_model)
    lines = [
        f"MODEL = {_model(case.model)}",
        f"OTHER_MODEL = {other}",
        f"PRODUCER = {_engine(case.producer, case.producer_id)}",
        f"CONSUMER = {_engine(case.consumer, case.consumer_id)}",
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
        f"BEFORE = {_packed(expected.producers)}",
        f"AFTER = {_packed([[t.codes for t in stage] for stage in expected.consumers])}",
        f"FREE = {_packed([[t.free for t in stage] for stage in expected.consumers])}",
    ]
    return "\n".join(lines)


def _model(model: CachedModel) -> str:
    groups = [
        f"CacheGroup('group {g}', Kind.{_KINDS[group.kind]}, {group.layers!r}, ("
        + "".join(
            f"Part({p.name!r}, {p.units}, {p.unit_bytes}, {p.always_sharded}), "
            for p in group.parts
        )
        + f"), {group.window})"
        for g, group in enumerate(model.groups)
    ]
    return f"({model.query_heads}, ({', '.join(groups)},))"


def _engine(engine: Engine, name: str) -> str:
    fields = {
        "engine_id": repr(name),
        "tp": engine.tp,
        "num_blocks": engine.num_blocks,
        "block_tokens": engine.block_tokens,
        "kernel_tokens": engine.kernel_tokens,
        "layout": f"Layout.{engine.layout}",
        "placement": f"Placement.{'BLOCKS_FIRST' if engine.blocks_first else 'APART'}",
        "stage_layers": engine.stage_layers,
        "shares_tensors": engine.shares_tensors,
        "page_padding": engine.page_padding,
    }
    return f"dict({', '.join(f'{field}={value}' for field, value in fields.items())})"


def _refused(refused: Refused | None) -> str:
    if refused is None:
        return "None"
    return repr((refused.rule, _ERRORS[refused.scope], refused.names))


def _packed(stages: Sequence[Sequence[np.ndarray]]) -> str:
    """Arrays as (shape, base64 of their zlib-compressed bytes)."""
    return repr(
        [
            [
                (array.shape, base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii"))
                for array in stage
            ]
            for stage in stages
        ]
    )
