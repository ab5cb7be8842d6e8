"""Moves data between the workers of one process, and counts how often each byte was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .descriptors import Ids, Rows, expand
from .errors import DescriptorError
from .geometry import Worker
from .plan import EngineTransferPlan, Notification
from .request import TransferRequest


class Arena:
    """The tensors of one worker: cells at addresses, and a counter of writes for each.

    A cell is what one address holds: uint8 in earnest, or any other dtype where a byte is to be
    followed by more than its value. Tensors must not overlap.
    """

    def __init__(self, tensors: Mapping[int, NDArray[Any]]) -> None:
        if not tensors:
            raise DescriptorError("the number of tensors of an arena", 0, "1 or more")
        bases = sorted(tensors)
        sizes = [tensors[base].size for base in bases]
        for i in range(1, len(bases)):
            if bases[i - 1] + sizes[i - 1] > bases[i]:
                raise DescriptorError(
                    "the end of a tensor", bases[i - 1] + sizes[i - 1], f"at most {bases[i]}"
                )
        self.cells = np.concatenate([tensors[base].reshape(-1) for base in bases])
        self.writes = np.zeros(self.cells.size, dtype=np.int32)
        self._bases = np.array(bases, dtype=np.uint64)
        self._sizes = np.array(sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def find(self, addresses: NDArray[np.uint64], lengths: Ids) -> Ids:
        """Where the blocks begin in `cells`. Raises `DescriptorError` for one outside a tensor."""
        region = np.searchsorted(self._bases, addresses, side="right") - 1
        at = (addresses - self._bases[region]).astype(np.int64)
        bad = (region < 0) | (at < 0) | (at + lengths > self._sizes[region])
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise DescriptorError(
                "a block", f"{int(lengths[i])} bytes at {int(addresses[i])}", "one inside a tensor"
            )
        return self._starts[region] + at

    def tensor(self, index: int) -> NDArray[Any]:
        """The cells of the tensor with the index-th lowest base."""
        return self.cells[self._starts[index] :][: self._sizes[index]]

    def written(self, index: int) -> NDArray[np.int32]:
        """How often each cell of that tensor was written."""
        return self.writes[self._starts[index] :][: self._sizes[index]]


def copy_blocks(
    target: Arena,
    source: Arena,
    *,
    target_rows: Rows,
    target_ids: Ids,
    source_rows: Rows,
    source_ids: Ids,
) -> int:
    """Copy paired blocks from `source` to `target`; returns the bytes copied.

    Raises `DescriptorError`, with nothing copied, if the blocks do not pair up or lie outside.
    """
    if len(target_ids) != len(source_ids):
        raise DescriptorError(
            "the number of blocks", f"{len(target_ids)} and {len(source_ids)}", "equally many"
        )
    to_address, lengths = expand(target_rows, target_ids)
    from_address, from_lengths = expand(source_rows, source_ids)
    if not np.array_equal(lengths, from_lengths):
        i = int(np.flatnonzero(lengths != from_lengths)[0])
        raise DescriptorError(
            "the length of a pair", f"{int(lengths[i])} and {int(from_lengths[i])}", "equal lengths"
        )
    to, at = target.find(to_address, lengths), source.find(from_address, lengths)
    for length in np.unique(lengths).tolist():
        alike = lengths == length
        span = np.arange(length, dtype=np.int64)
        cells = (to[alike][:, None] + span).ravel()
        target.cells[cells] = source.cells[(at[alike][:, None] + span).ravel()]
        np.add.at(target.writes, cells, 1)
    return int(lengths.sum())


@dataclass(slots=True)
class MemoryTransport:
    """The transport of one process: producers' arenas by worker, and the notifications sent."""

    producers: Mapping[Worker, Arena]
    notified: list[Notification] = field(default_factory=list)

    def pull(self, plan: EngineTransferPlan, request: TransferRequest, target: Arena) -> int:
        """Read a request's blocks into `target`, then notify; returns the bytes read.

        Raises `RequestError` or `DescriptorError`, and then nobody is notified.
        """
        channels = {channel.source: channel for channel in plan.channels}
        moved = 0
        for bound in plan.bind(request):
            channel = channels[bound.source]
            moved += copy_blocks(
                target,
                self.producers[bound.source],
                target_rows=channel.consumer_rows,
                target_ids=bound.consumer_ids,
                source_rows=channel.producer_rows,
                source_ids=bound.producer_ids,
            )
        self.notified.extend(plan.notifications(request))
        return moved
