"""Single numbers among those that attention reads: a key that wins late, a NaN, an infinity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reference.dtypes import FORMATS, encode
from reference.model import Fill, Storage

from ..chooser import Chooser
from .layouts import Placed
from .plan import Plan

_LONG = 64
"""Rows of a sequence beyond which a late one wins: kernels look at about so many at once."""
_SPECIAL = 0.1
"""Share of the cases with a special number: more would hide what else is wrong."""
_NUMBERS = (*("nan",) * 4, "inf", "-inf", "max", "-max")


def planted(
    plan: Plan,
    tensors: list[Placed],
    contents: Mapping[int, bytes | Fill],
    numbers: Mapping[str, np.ndarray],
    chooser: Chooser,
) -> dict[int, bytes]:
    """By memory the contents that differ from ``contents`` in rows that some sequence has.

    In a long sequence one key of the last quarter is the query itself, so that the largest logit
    is met late. In some cases one number of a live key, of a live value or of the query is special.
    """
    rules = {t.content: t.name for t in plan.declaration.tensors}
    if "cache" not in rules:
        return {}
    placed = {p.name: p for p in tensors}
    cache, query = placed[rules["cache"]], placed[plan.declaration.dtype_parameter]
    tables, lengths = numbers[rules["tables"]], numbers[rules["lengths"]].tolist()
    live = [(i, t) for i, length in enumerate(lengths) for t in range(length)]
    # A case that is illegal on purpose may have no heads.
    if not live or not query.view.numel:
        return {}
    arrays = {p.name: Storage(p.dtype, p.numel, contents[p.memory]).array() for p in (cache, query)}
    keys, values = cache.view.of(arrays[cache.name])
    asked = query.view.of(arrays[query.name])

    def place(i: int, t: int) -> tuple[int, int]:
        return int(tables[i, t // keys.shape[1]]), t % keys.shape[1]

    changed: set[int] = set()
    for i, length in enumerate(lengths):
        if length > _LONG:
            late = chooser.integer(length - length // 4, length - 1)
            keys[place(i, late)][0] = asked[i, 0]
            changed.add(cache.memory)
    if chooser.chance(_SPECIAL):
        i, t = chooser.choose(live)
        where, memory = chooser.choose(
            (
                (keys[place(i, t)], cache.memory),
                (values[place(i, t)], cache.memory),
                (asked[i], query.memory),
            )
        )
        head, lane = (chooser.integer(0, size - 1) for size in where.shape)
        where[head, lane] = _special(cache.dtype, chooser)
        changed.add(memory)
    return {p.memory: arrays[p.name].tobytes() for p in (cache, query) if p.memory in changed}


def _special(dtype: str, chooser: Chooser) -> np.ndarray:
    """A NaN, an infinity, or the largest number, whose products are beyond any other logit."""
    name = chooser.choose(_NUMBERS)
    number = float(name.replace("max", repr(FORMATS[dtype].max)))
    return encode(np.array([number]), dtype)[0]
