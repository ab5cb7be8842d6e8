"""What an engine needs of a transport: one interface, whichever moves the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..descriptors import Ids, Rows


class Handle(Protocol):
    """A prepared list or a transfer."""

    def release(self) -> None:
        """Forget it; what is under way may still land."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Lists:
    """Both sides of a channel, prepared once. `name` is the remote port's."""

    name: str
    local_rows: Rows
    remote_rows: Rows
    local: Handle
    remote: Handle


class Port(Protocol):
    """One rank's access to its peers. Not thread-safe, and polled by its owner.

    A peer that is gone raises `PeerError`, one that cannot be taken `HandshakeError`.
    """

    name: str

    def register(self, tensors: Sequence[tuple[int, int]]) -> None:
        """Register (address, bytes) of each tensor, and forget those registered before."""
        ...

    def metadata(self) -> bytes:
        """What a peer must load before it can reach the registered memory."""
        ...

    def add_peer(self, name: str, metadata: bytes) -> None:
        """Take a peer's metadata, which must have been vetted."""
        ...

    def knows(self, name: str) -> bool: ...

    def remove_peer(self, name: str) -> None:
        """Disconnect. Does not keep data that is under way from landing."""
        ...

    def prepare(self, name: str, *, local: Rows, remote: Rows) -> Lists:
        """Prepare both sides of a channel with a peer."""
        ...

    def start(
        self,
        operation: Literal["READ", "WRITE"],
        lists: Lists,
        *,
        local_ids: Ids,
        remote_ids: Ids,
        message: bytes = b"",
    ) -> Handle:
        """Post a transfer of paired blocks; `message` reaches the peer after the data.

        Raises `DescriptorError` for blocks that overlap at their target.
        """
        ...

    def ended(self, handle: Handle) -> bool:
        """Whether a transfer is done."""
        ...

    def notify(self, name: str, message: bytes) -> None:
        """Send a notification."""
        ...

    def notifications(self) -> Mapping[str, Sequence[bytes]]:
        """What has come in, by the sender's name; makes progress on everything that moves."""
        ...


class Vets(Protocol):
    """Tries a peer's metadata before a port depends on it."""

    def check(self, name: str, metadata: bytes) -> None:
        """Raise `HandshakeError` unless these bytes are metadata of the port `name`."""
        ...
