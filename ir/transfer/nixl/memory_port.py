"""Ports of engines that share one process: the protocol without NIXL, races included.

Data lands late on purpose: a transfer copies its blocks, from the last one on, only when its
owner has asked for it `lag` times, and a notification that goes with it comes after. `lag` may be
changed while data is under way.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..descriptors import Ids, Rows, expand
from .errors import HandshakeError, PeerError
from .port import Handle, Lists
from .runs import runs_of


@dataclass(eq=False, slots=True)
class Network:
    """The ports of a process by name. One that is taken out is gone for its peers."""

    ports: dict[str, MemoryPort] = field(default_factory=dict)

    def check(self, name: str, metadata: bytes) -> None:
        """Raise `HandshakeError` unless these bytes are metadata of the port `name`."""
        port = self.ports.get(name)
        if port is None or port.metadata() != metadata:
            raise HandshakeError("network", f"port {name!r}", repr(metadata), "its own metadata")


@dataclass(eq=False, slots=True)
class _Prepared:
    """Rows need no preparation here."""

    def release(self) -> None:
        return


@dataclass(eq=False, slots=True)
class _Move:
    peer: str
    copies: list[tuple[int, int, int]]
    message: bytes
    asked: int = 0
    landed: bool = False

    def release(self) -> None:
        return


@dataclass(eq=False, slots=True)
class MemoryPort:
    """A port within one process."""

    name: str
    network: Network
    lag: int = 2
    regions: list[tuple[int, int]] = field(default_factory=list)
    _peers: set[str] = field(default_factory=set)
    _inbox: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.network.ports[self.name] = self

    def register(self, tensors: Sequence[tuple[int, int]]) -> None:
        self.regions = list(tensors)
        self._peers.clear()

    def metadata(self) -> bytes:
        return f"{self.name} at {id(self)}".encode()

    def add_peer(self, name: str, metadata: bytes) -> None:
        self.network.check(name, metadata)
        self._peers.add(name)

    def knows(self, name: str) -> bool:
        return name in self._peers

    def remove_peer(self, name: str) -> None:
        self._peers.discard(name)

    def prepare(self, name: str, *, local: Rows, remote: Rows) -> Lists:
        """Raises `HandshakeError` for rows outside of the memory that a side has registered."""
        for port, rows in ((self, local), (self._peer(name), remote)):
            starts = rows[:, 0]
            ends = starts + rows[:, 3] * (rows[:, 4] - np.uint64(1)) + rows[:, 1]
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                if not any(base <= start and end <= base + size for base, size in port.regions):
                    raise HandshakeError(
                        self.name,
                        f"port {port.name!r}",
                        f"a row from {start} to {end}",
                        "descriptors in registered memory",
                    )
        return Lists(name, local, remote, _Prepared(), _Prepared())

    def start(
        self,
        operation: Literal["READ", "WRITE"],
        lists: Lists,
        *,
        local_ids: Ids,
        remote_ids: Ids,
        message: bytes = b"",
    ) -> Handle:
        local, lengths = expand(lists.local_rows, local_ids)
        remote, _ = expand(lists.remote_rows, remote_ids)
        target, source = (local, remote) if operation == "READ" else (remote, local)
        runs = runs_of(target, source, lengths)
        self._peer(lists.name)
        at = runs.order[runs.first]
        copies = zip(target[at].tolist(), source[at].tolist(), runs.lengths.tolist(), strict=True)
        return _Move(lists.name, list(copies), message)

    def ended(self, handle: Handle) -> bool:
        if not isinstance(handle, _Move):
            raise TypeError(f"{handle!r} is no transfer of this port")
        if handle.landed:
            return True
        peer = self._peer(handle.peer)
        handle.asked += 1
        if handle.asked < self.lag:
            return False
        handle.landed = True
        for to, come, length in reversed(handle.copies):
            ctypes.memmove(to, come, length)
        if handle.message:
            peer._inbox[self.name].append(handle.message)
        return True

    def notify(self, name: str, message: bytes) -> None:
        self._peer(name)._inbox[self.name].append(message)

    def notifications(self) -> Mapping[str, Sequence[bytes]]:
        found = dict(self._inbox)
        self._inbox.clear()
        return found

    def _peer(self, name: str) -> MemoryPort:
        port = self.network.ports.get(name)
        if port is None or name not in self._peers:
            raise PeerError(self.name, name, "gone", "a port that lives and was added")
        return port
