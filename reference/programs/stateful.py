"""Ops of the IR that keep state: as steps, with what they find in the registry as an operand."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from .answers import NotKnown, Refused
from .arguments import Arguments, parameters
from .memory import Tensor, new_tensor, write
from .strides import is_contiguous
from .vocabulary import Target


def reshape_and_cache(a: Arguments) -> tuple[Tensor, ...]:
    """Rows of ``key`` and ``value`` go to their slots in ``cache``; how many have one.

    cache: (2, blocks, block size, heads, size); slot s is token s % block size of block
    s // block size. A negative slot is nowhere.
    """
    cache, slots = a.tensor("cache"), a.tensor("slot_mapping")
    rows = a.tensor("key"), a.tensor("value")
    if len(cache.shape) != 5 or cache.shape[0] != 2 or slots.dtype != "int64":
        raise NotKnown("operand-not-modelled")
    if not is_contiguous(cache.shape, cache.strides):
        raise NotKnown("operand-not-modelled")
    wanted = (*slots.shape, *cache.shape[3:])
    if len(slots.shape) != 1 or any(r.shape != wanted or r.dtype != cache.dtype for r in rows):
        raise Refused("rows as the cache holds them, one for each slot")
    found = [int(s) for s in slots.read() if s >= 0]
    if len(set(found)) < len(found) or any(s >= cache.shape[1] * cache.shape[2] for s in found):
        raise NotKnown("slot-not-promised")
    if any(r.memory is cache.memory for r in rows):
        raise NotKnown("reads-what-it-writes")
    after = cache.read().copy()
    units = [r.unit for r in rows] + [cache.unit]
    for kept, row in zip(after.reshape(2, -1, *cache.shape[3:]), rows, strict=True):
        for token, slot in enumerate(slots.read()):
            if slot >= 0:
                kept[slot] = row.read()[token]
    write(cache, after, None if None in units else min(u for u in units if u is not None))
    return (new_tensor("int64", np.array(len(found)), 0, (), ()),)


STATEFUL: Mapping[str, Target] = MappingProxyType(
    {
        "ir.reshape_and_cache.default": Target(
            parameters("cache", "key", "value", "slot_mapping"), reshape_and_cache, "cache"
        )
    }
)
"""By target. ``writes`` names the operand that is the state."""
