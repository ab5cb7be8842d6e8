"""A NIXL agent whose other side is a file: the POSIX backend has no peer and no handshake."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..descriptors import Ids
from .binding import Agent, open_file_agent
from .errors import FileError
from .port import Handle
from .runs import runs_of

MOST_BLOCKS = 1 << 14
"""Descriptors of one transfer: each is an I/O of its own, and the backend's pool has 65,536."""
POLL_SECONDS = 0.0001

Addresses = NDArray[np.uint64]


@dataclass(eq=False, slots=True, kw_only=True)
class _Held:
    """What a move keeps until no data of it moves: a descriptor of our own, whose number NIXL has
    and the caller cannot close; registrations; and the transfer that has not ended, if any.
    """

    file: int
    kept: list[object] = field(default_factory=list)
    handle: Handle | None = None
    failed: bool = False

    def free(self, agent: Agent) -> None:
        try:
            self.release()
            while self.kept:
                agent.deregister_memory(self.kept.pop())
        finally:
            os.close(self.file)

    def release(self) -> None:
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.release()


@dataclass(eq=False, slots=True, kw_only=True)
class _Open:
    """A NIXL agent, and the moves on it that were given up.

    A transfer that fails leaves what it had posted in a queue that the next one would carry out,
    on descriptors of its number. So its agent is used no more, and goes with its queue.
    """

    agent: Agent
    late: list[_Held] = field(default_factory=list)
    broken: bool = False

    def state(self, call: Callable[[Handle], str], held: _Held) -> str:
        """What NIXL says of a transfer: anything but "DONE" and "PROC" is a failure."""
        if held.handle is None:
            return "DONE"
        state = ""
        try:
            state = call(held.handle)
        finally:
            held.failed = state not in ("DONE", "PROC")
            self.broken |= held.failed
        return state

    def sweep(self) -> bool:
        """Free the moves that have ended; whether nothing moves on an agent that failed."""
        moving = [held for held in self.late if self._moves(held)]
        if self.broken:
            return not moving
        ended = [held for held in self.late if held not in moving]
        self.late = moving
        for held in ended:
            held.free(self.agent)
        return False

    def _moves(self, held: _Held) -> bool:
        # A failed one is not asked again: what is left of it would say that it moves, for ever.
        if held.failed:
            return False
        try:
            return self.state(self.agent.check_xfer_state, held) == "PROC"
        except Exception:  # the binding's errors have no base of their own
            return False

    def close(self) -> None:
        """End a broken agent. Its end waits for what the kernel has; then nothing needs a file."""
        for held in self.late:
            with contextlib.suppress(Exception):  # as above; the agent that minds is to go
                held.release()
        del self.agent
        for held in self.late:
            os.close(held.file)
        self.late.clear()


class FileAgent:
    """Copies between memory and files. Not thread-safe. Raises `NixlMissingError`."""

    def __init__(self, name: str, *, seconds: float = 60.0) -> None:
        self.name = name
        self._seconds = seconds
        self._open = [_Open(agent=open_file_agent(name))]

    @property
    def busy(self) -> bool:
        """Whether a transfer that was given up may still move data."""
        self._sweep()
        return any(each.late for each in self._open)

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
        until then the memory may be used for nothing else; the file may be closed. Raises
        `DescriptorError` for blocks that overlap at their target.
        """
        target, source = (addresses, offsets) if operation == "READ" else (offsets, addresses)
        runs = runs_of(target, source, lengths)
        at = runs.order[runs.first]
        size = int((offsets + lengths.astype(np.uint64)).max()) if len(offsets) else 0
        current = self._current()
        agent = current.agent
        held = _Held(file=_duplicate(file, path))
        try:
            triples = _triples(*np.array(memory, dtype=np.uint64).T)
            held.kept.append(agent.register_memory(triples, "DRAM"))
            held.kept.append(agent.register_memory([(0, size, held.file, "")], "FILE"))
            for first in range(0, len(at), MOST_BLOCKS):
                some = at[first : first + MOST_BLOCKS]
                bytes_each = runs.lengths[first : first + MOST_BLOCKS]
                local = _triples(addresses[some], bytes_each)
                remote = _triples(offsets[some], bytes_each, held.file)
                held.handle = agent.initialize_xfer(
                    operation,
                    agent.get_xfer_descs(local, "DRAM"),
                    agent.get_xfer_descs(remote, "FILE"),
                    self.name,
                )
                self._wait(current, held, path)
                held.release()
        except FileError:
            raise
        except Exception as error:  # the binding's errors have no base of their own
            # Frames of the binding would keep an agent that is to go.
            raise FileError(
                path, f"not moved: {error!r}", "a file that NIXL can move"
            ) from error.with_traceback(None)
        finally:
            # So would this frame, which the error keeps.
            del agent
            if held.handle is None:
                held.free(current.agent)
            else:
                current.late.append(held)
            self._sweep()

    def _wait(self, current: _Open, held: _Held, path: object) -> None:
        deadline = time.monotonic() + self._seconds
        state = current.state(current.agent.transfer, held)
        while state == "PROC":
            if time.monotonic() > deadline:
                raise FileError(path, f"still moving after {self._seconds} seconds", "a quick disk")
            time.sleep(POLL_SECONDS)
            state = current.state(current.agent.check_xfer_state, held)
        if state != "DONE":
            raise FileError(path, f"not moved: NIXL says {state!r}", "a file that NIXL can move")

    def _current(self) -> _Open:
        """The agent for a move: another one where the last is broken."""
        self._sweep()
        if not self._open or self._open[-1].broken:
            self._open.append(_Open(agent=open_file_agent(self.name)))
        return self._open[-1]

    def _sweep(self) -> None:
        for each in tuple(self._open):
            if each.sweep():
                self._open.remove(each)
                each.close()


def _duplicate(file: int, path: object) -> int:
    try:
        return os.dup(file)
    except OSError as error:
        raise FileError(path, f"not opened once more: {error}", "a free descriptor") from error


def _triples(starts: Addresses, lengths: NDArray[np.generic], device: int = 0) -> Addresses:
    rows = np.empty((len(starts), 3), dtype=np.uint64)
    rows[:, 0], rows[:, 1], rows[:, 2] = starts, lengths, device
    return rows
