"""Single numbers among those that attention reads: a key that wins late."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reference.model import Fill, Storage

from ..chooser import Chooser
from .layouts import Placed
from .plan import Plan

_LONG = 64
"""Rows of a sequence beyond which a late one wins: kernels look at about so many at once."""


def planted(
    plan: Plan,
    tensors: list[Placed],
    contents: Mapping[int, bytes | Fill],
    numbers: Mapping[str, np.ndarray],
    chooser: Chooser,
) -> dict[int, bytes]:
    """By memory the contents that differ from ``contents`` in rows that some sequence has.

    In a long sequence one key of the last quarter is the query itself, so that the largest logit
    is met late.
    """
    rules = {t.content: t.name for t in plan.declaration.tensors}
    if "cache" not in rules:
        return {}
    placed = {p.name: p for p in tensors}
    cache, query = placed[rules["cache"]], placed[plan.declaration.dtype_parameter]
    tables, lengths = numbers[rules["tables"]], numbers[rules["lengths"]].tolist()
    # A case that is illegal on purpose may have no heads.
    if not any(lengths) or not query.view.numel:
        return {}
    arrays = {p.name: Storage(p.dtype, p.numel, contents[p.memory]).array() for p in (cache, query)}
    keys, _ = cache.view.of(arrays[cache.name])
    asked = query.view.of(arrays[query.name])

    def place(i: int, t: int) -> tuple[int, int]:
        return int(tables[i, t // keys.shape[1]]), t % keys.shape[1]

    changed: set[int] = set()
    for i, length in enumerate(lengths):
        if length > _LONG:
            late = chooser.integer(length - length // 4, length - 1)
            keys[place(i, late)][0] = asked[i, 0]
            changed.add(cache.memory)
    return {p.memory: arrays[p.name].tobytes() for p in (cache, query) if p.memory in changed}
