"""Paired blocks in the order of their addresses, joined where they abut on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..descriptors import Ids
from ..errors import DescriptorError

Addresses = NDArray[np.uint64]


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """`order` sorts the blocks by their target; run i begins with block ``order[first[i]]`` and is
    `lengths[i]` bytes long.
    """

    order: Ids
    first: Ids
    lengths: Ids


def runs_of(target: Addresses, source: Addresses, lengths: Ids) -> Runs:
    """The runs of paired blocks that are contiguous at the target and at the source.

    Raises `DescriptorError` if two blocks overlap at the target, where the last writer would win,
    or a block is empty: NIXL reports both as done.
    """
    if not len(target):
        empty = np.empty(0, dtype=np.int64)
        return Runs(empty, empty, empty)
    if int(lengths.min()) < 1:
        raise DescriptorError("the length of a block", int(lengths.min()), "1 or more")
    order = np.argsort(target, kind="stable")
    to, come, size = target[order], source[order], lengths[order].astype(np.uint64)
    ends = to + size
    if (ends[:-1] > to[1:]).any():
        at = int(np.flatnonzero(ends[:-1] > to[1:])[0])
        raise DescriptorError(
            "the end of a block", int(ends[at]), f"at most {int(to[at + 1])}, where the next begins"
        )
    joined = (to[1:] == ends[:-1]) & (come[1:] == come[:-1] + size[:-1])
    first = np.flatnonzero(np.concatenate(([True], ~joined)))
    return Runs(order, first, np.add.reduceat(size, first).astype(np.int64))
