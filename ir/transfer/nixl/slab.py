"""Memory that two processes see: the tensors of all ranks of an engine, with guards around them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError
from ..geometry import EngineGeometry, Worker

GUARD_BYTES = 64
GUARD = 0xA5


class Slab:
    """A file without a name, mapped. Pages cost nothing until they are touched."""

    def __init__(self, fd: int, size: int) -> None:
        self.size = size
        self._mapped = mmap.mmap(fd, size)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._mapped, dtype=np.uint8)
        self.address = self.bytes.ctypes.data


def new_file(size: int) -> int:
    """The descriptor of an anonymous file of `size` bytes, inherited by children."""
    fd = os.memfd_create("irverify-slab", 0)
    os.ftruncate(fd, size)
    return fd


def offsets_of(geometry: EngineGeometry, size: int) -> dict[Worker, tuple[int, ...]]:
    """Where each rank's tensors begin in a slab. Raises `GeometryError` if they do not fit."""
    at, found = GUARD_BYTES, {}
    for worker in geometry.workers:
        starts = []
        for stride in geometry.page_strides(worker.stage):
            starts.append(at)
            at += stride * geometry.num_blocks + GUARD_BYTES
            at += -at % GUARD_BYTES
        found[worker] = tuple(starts)
    if at > size:
        raise GeometryError(geometry.engine_id, "bytes of all tensors", at, f"at most {size}")
    return found


def tensors_of(
    slab: Slab, geometry: EngineGeometry, offsets: Mapping[Worker, tuple[int, ...]]
) -> dict[Worker, tuple[NDArray[np.uint8], ...]]:
    """Each rank's tensors as views of the slab, (blocks, page bytes)."""
    return {
        worker: tuple(
            slab.bytes[start : start + stride * geometry.num_blocks].reshape(-1, stride)
            for start, stride in zip(
                offsets[worker], geometry.page_strides(worker.stage), strict=True
            )
        )
        for worker in geometry.workers
    }


def guards_of(
    slab: Slab, geometry: EngineGeometry, offsets: Mapping[Worker, tuple[int, ...]]
) -> list[NDArray[np.uint8]]:
    """The gaps between the tensors and around them, as views of the slab."""
    edges = [
        (start, start + stride * geometry.num_blocks)
        for worker in geometry.workers
        for start, stride in zip(offsets[worker], geometry.page_strides(worker.stage), strict=True)
    ]
    starts = [0, *(end for _, end in edges)]
    ends = [*(start for start, _ in edges), edges[-1][1] + GUARD_BYTES]
    return [slab.bytes[start:end] for start, end in zip(starts, ends, strict=True)]
