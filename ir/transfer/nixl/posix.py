"""A NIXL agent whose other side is a file: the POSIX backend has no peer and no handshake."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..descriptors import Ids
from .binding import Descriptors, open_file_agent
from .errors import FileError
from .port import Handle
from .runs import runs_of

MOST_BLOCKS = 1 << 14
"""Descriptors of one transfer: each is an I/O of its own, and the backend's pool has 65,536."""
POLL_SECONDS = 0.0001

Addresses = NDArray[np.uint64]


class FileAgent:
    """Copies between memory and files. Not thread-safe. Raises `NixlMissingError`."""

    def __init__(self, name: str, *, seconds: float = 60.0) -> None:
        self.name = name
        self._seconds = seconds
        self._agent = open_file_agent(name)
        self._late: list[Handle] = []

    @property
    def busy(self) -> bool:
        """Whether a transfer that was given up may still move data."""
        self._late = [handle for handle in self._late if self._under_way(handle)]
        return bool(self._late)

    def move(
        self,
        operation: Literal["READ", "WRITE"],
        file: int,
        *,
        path: object,
        memory: Sequence[tuple[int, int]],
        addresses: Addresses,
        offsets: Addresses,
        lengths: Ids,
    ) -> None:
        """Copy blocks to (``WRITE``) or from (``READ``) an open file, and wait.

        Block i is `lengths[i]` bytes at `addresses[i]` and at `offsets[i]` of the file, whose
        `path` is for messages. `memory` are the (address, bytes) that hold the blocks. Raises
        `FileError`, also where the deadline passes: then data may move until `busy` is false, and
        neither memory nor file may be used for anything else. Raises `DescriptorError` for blocks
        that overlap at their target.
        """
        target, source = (addresses, offsets) if operation == "READ" else (offsets, addresses)
        runs = runs_of(target, source, lengths)
        at = runs.order[runs.first]
        size = int((offsets + lengths.astype(np.uint64)).max()) if len(offsets) else 0
        kept = self._agent.register_memory(_triples(*np.array(memory, dtype=np.uint64).T), "DRAM")
        try:
            opened = self._agent.register_memory([(0, size, file, "")], "FILE")
            try:
                for first in range(0, len(at), MOST_BLOCKS):
                    some = at[first : first + MOST_BLOCKS]
                    bytes_each = runs.lengths[first : first + MOST_BLOCKS]
                    self._transfer(
                        operation,
                        self._agent.get_xfer_descs(_triples(addresses[some], bytes_each), "DRAM"),
                        self._agent.get_xfer_descs(
                            _triples(offsets[some], bytes_each, file), "FILE"
                        ),
                        path,
                    )
            finally:
                if not self._late:
                    self._agent.deregister_memory(opened)
        except FileError:
            raise
        except Exception as error:  # the binding's errors have no base of their own
            raise FileError(path, f"not moved: {error!r}", "a file that NIXL can move") from error
        finally:
            if not self._late:
                self._agent.deregister_memory(kept)

    def _transfer(
        self, operation: str, local: Descriptors, remote: Descriptors, path: object
    ) -> None:
        handle = self._agent.initialize_xfer(operation, local, remote, self.name)
        deadline = time.monotonic() + self._seconds
        state = self._agent.transfer(handle)
        while state != "DONE":
            if time.monotonic() > deadline:
                self._late.append(handle)
                raise FileError(path, f"still moving after {self._seconds} seconds", "a quick disk")
            time.sleep(POLL_SECONDS)
            state = self._agent.check_xfer_state(handle)
        handle.release()

    def _under_way(self, handle: Handle) -> bool:
        try:
            return self._agent.check_xfer_state(handle) == "PROC"
        except Exception:  # as above: it has ended, badly
            return False


def _triples(starts: Addresses, lengths: NDArray[np.generic], device: int = 0) -> Addresses:
    rows = np.empty((len(starts), 3), dtype=np.uint64)
    rows[:, 0], rows[:, 1], rows[:, 2] = starts, lengths, device
    return rows
