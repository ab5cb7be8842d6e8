"""What storages hold: mostly fills rich in values, sometimes literal bytes of special values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reference.declaration import TensorSpec
from reference.dtypes import FORMATS, decode, encode, numpy_dtype, round_to
from reference.model import Fill, OpCase

from ..chooser import Chooser

RICH = frozenset({
    "dyadic", "normal", "uniform", "outlier", "shifted", "unit", "positive", "wide", "scale-edge",
})  # fmt: skip
"""Fills under which outputs are hardly ever constant."""

# Ties and edges of the narrower formats an op may round to: halfway points of bf16 (1 + 2**-8),
# fp16 (1 + 2**-11) and e4m3fn (1.0625, 464 above its maximum), squares that overflow or vanish in
# fp32, and the least numbers of e4m3fn (2**-9) and their halves.
_EDGES = (
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8, 1.0 + 2.0**-11,
    1.0 + 2.0**-7, 1.0 - 2.0**-9, 1.0625, 1.1875, 448.0, 464.0, 480.0, -448.0, -464.0,
    2.0**-9, 2.0**-10, 3 * 2.0**-10, 2.0**64, 1.5 * 2.0**63, 2.0**-75, 88.5, -88.5, -104.0,
    65504.0, -65504.0, 3.0, -3.0, 0.1, 1.0 / 3.0,
)  # fmt: skip
_TRULY_SPECIAL = (float("inf"), float("-inf"), float("nan"))


def draw_content(
    spec: TensorSpec, dtype: str, numel: int, limit: int, chooser: Chooser, *, fixed: bool
) -> bytes | Fill:
    """The content of ``numel`` elements for tensor ``spec``; indices lie below ``limit``."""
    key = chooser.integer(0, 2**31 - 1)
    if spec.index_below is not None:
        return Fill("index", key, limit)
    rich = [name for name in spec.fills if name in RICH]
    if dtype == "float32" and "dyadic" in rich and chooser.chance(0.6):
        # Sums of these are exact in every order. Over other data the order in which fp32 adds up
        # may show in more ulps than a verdict can rest on.
        return Fill("dyadic", key)
    if rich and chooser.chance(0.9 if fixed else 0.7):
        return Fill(chooser.choose(rich), key)
    special = "special" in spec.fills
    if 0 < numel <= 4096 and "special-finite" in spec.fills and chooser.chance(0.3):
        return _literal(dtype, numel, chooser, special=special)
    return Fill(chooser.choose([f for f in spec.fills if f not in RICH] or spec.fills), key)


def _literal(dtype: str, numel: int, chooser: Chooser, *, special: bool) -> bytes:
    """Edge values, or any bit pattern at all (every NaN payload included) where those are legal."""
    picks = np.array([chooser.integer(0, 2**32 - 1) for _ in range(min(numel, 97))], np.uint32)
    picks = np.resize(picks, numel)
    size = FORMATS[dtype].size
    if special and chooser.chance(0.3):
        return picks.astype(f"<u{size}", casting="unsafe").tobytes()
    table = _EDGES + (_TRULY_SPECIAL if special and chooser.chance(0.5) else ())
    values = round_to(np.array(table), dtype)
    # A finite edge that overflows a narrow format is replaced by that format's largest number.
    values = np.where(np.isinf(values) & np.isfinite(table), FORMATS[dtype].max, values)
    chosen = values[picks.astype(np.int64) % len(values)]
    return encode(chosen, dtype).astype(numpy_dtype(dtype)).tobytes()


def with_large_last_column(case: OpCase, name: str) -> OpCase:
    """``case`` with the last column of its tensor ``name``, laid out densely, four times as large.

    What a kernel leaves out behind its last whole vector then shows in sums and in maxima.
    """
    view = case.views()[name]
    storage = case.storages[view.storage]
    values = decode(storage.array(), storage.dtype).reshape(view.shape)
    values[..., -1:] *= 4.0
    content = encode(round_to(values, storage.dtype), storage.dtype).tobytes()
    storages = list(case.storages)
    storages[view.storage] = replace(storage, content=content)
    return replace(case, storages=tuple(storages))
