"""A transfer case as the Python text of scripts: models, engines, memory, and what they are for."""

from __future__ import annotations

import base64
import textwrap
import zlib
from collections.abc import Sequence

import numpy as np

from oracle.finding import Finding
from oracle.script import ScriptError
from reference.model import CachedModel, Engine

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


def docstring(finding: Finding) -> str:
    """What was found, where, and how the script ends."""
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


def check_size(arrays: Sequence[np.ndarray]) -> None:
    """Raise `ScriptError` for more memory than a script should hold."""
    size = sum(array.size for array in arrays)
    if size > LARGEST:
        raise ScriptError(f"{size:,} bytes of memory; accepted: up to {LARGEST:,}")


def model_text(model: CachedModel) -> str:
    """Query heads and groups, as `ModelCache` takes them behind a name."""
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


def engine_text(engine: Engine, name: str) -> str:
    """Keywords of `EngineGeometry`, but for the model."""
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


def packed(stages: Sequence[Sequence[np.ndarray]]) -> str:
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
