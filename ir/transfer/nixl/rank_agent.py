"""One rank's NIXL agent: its memory, its peers and the transfers it has posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from ..descriptors import Ids, Rows, expand
from .binding import LOCAL, Agent, open_agent
from .errors import HandshakeError, PeerError
from .port import Handle, Lists
from .runs import runs_of

MAX_INDEX = 1 << 31
"""NIXL takes indices of prepared lists as int32."""


class Vetting:
    """Tries metadata out on an agent that nothing depends on.

    Metadata that breaks off behind its connection leaves NIXL 1.5.1 unable to ever load that name
    again, also when good metadata comes, and whatever is removed in between.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._agent: Agent | None = None

    def check(self, name: str, metadata: bytes) -> None:
        """Raise `HandshakeError` unless these bytes are metadata of the agent `name`."""
        if self._agent is None:
            self._agent = open_agent(self._name)
        try:
            _load(self._agent, self._name, name, metadata)
            self._agent.remove_remote_agent(name)
        except HandshakeError:
            self._agent = None
            raise


def _load(agent: Agent, own: str, name: str, metadata: bytes) -> str:
    try:
        got = agent.add_remote_agent(metadata)
    except Exception as error:  # the binding's errors have no base of their own
        raise HandshakeError(
            own, f"agent {name!r}", repr(error), "metadata that NIXL can load"
        ) from error
    loaded = got.decode("utf-8", "replace") if isinstance(got, bytes) else got
    if loaded != name:
        raise HandshakeError(
            own, f"agent {name!r}", f"metadata of agent {loaded!r}", "its own metadata"
        )
    return loaded


class RankAgent:
    """A port over NIXL, whose errors become `PeerError`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._agent: Agent = open_agent(name)
        self._registered: object | None = None
        self._peers: set[str] = set()
        self._lists: list[Lists] = []

    def register(self, tensors: Sequence[tuple[int, int]]) -> None:
        """Register (address, bytes) of each tensor, and forget those registered before."""
        self.deregister()
        if tensors:
            regions = np.array([(base, size, 0) for base, size in tensors], dtype=np.uint64)
            self._registered = self._agent.register_memory(regions, "DRAM")

    def deregister(self) -> None:
        """Forget all peers and memory. Nothing may be under way."""
        for name in tuple(self._peers):
            self.remove_peer(name)
        if self._registered is not None:
            self._agent.deregister_memory(self._registered)
            self._registered = None

    def metadata(self) -> bytes:
        return self._agent.get_agent_metadata()

    def add_peer(self, name: str, metadata: bytes) -> None:
        """Take a peer's metadata, which must have been vetted. Raises `HandshakeError`."""
        self._peers.add(_load(self._agent, self.name, name, metadata))

    def knows(self, name: str) -> bool:
        return name in self._peers

    def remove_peer(self, name: str) -> None:
        """Disconnect. Does not keep data that is under way from landing."""
        for lists in [lists for lists in self._lists if lists.name == name]:
            lists.local.release()
            lists.remote.release()
            self._lists.remove(lists)
        self._peers.discard(name)
        try:
            self._agent.remove_remote_agent(name)
        except Exception as error:
            raise PeerError(self.name, name, repr(error), "a peer to disconnect from") from error

    def prepare(self, name: str, *, local: Rows, remote: Rows) -> Lists:
        """Prepare both sides of a channel with agent `name`. Raises `HandshakeError` for memory
        that one side has not registered.
        """
        sides: list[Handle] = []
        for owner, rows in ((LOCAL, local), (name, remote)):
            try:
                handle = self._agent.prep_xfer_dlist(owner, rows, "DRAM")
            except Exception as error:
                raise HandshakeError(
                    self.name, f"agent {name!r}", repr(error), "descriptors in registered memory"
                ) from error
            sides.append(handle)
        lists = Lists(name, local, remote, sides[0], sides[1])
        self._lists.append(lists)
        return lists

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

        Blocks go in the order of their target's addresses, and runs that abut on both sides as
        one. Raises `DescriptorError`, or `PeerError` where the peer is gone.
        """
        local, lengths = expand(lists.local_rows, local_ids)
        remote, _ = expand(lists.remote_rows, remote_ids)
        target, source = (local, remote) if operation == "READ" else (remote, local)
        runs = runs_of(target, source, lengths)
        try:
            if 2 * len(runs.first) <= len(runs.order) or _too_many(lists):
                at = runs.order[runs.first]
                local_descs, remote_descs = (
                    self._agent.get_xfer_descs(_triples(side[at], runs.lengths), "DRAM")
                    for side in (local, remote)
                )
                handle = self._agent.initialize_xfer(
                    operation, local_descs, remote_descs, lists.name, message
                )
            else:
                handle = self._agent.make_prepped_xfer(
                    operation,
                    lists.local,
                    local_ids[runs.order].astype(np.int32),
                    lists.remote,
                    remote_ids[runs.order].astype(np.int32),
                    message,
                )
            self._agent.transfer(handle)
        except Exception as error:
            raise PeerError(self.name, lists.name, repr(error), "a peer that answers") from error
        return handle

    def ended(self, handle: Handle) -> bool:
        """Whether a transfer is done. Raises `PeerError` where its peer is gone."""
        try:
            state = self._agent.check_xfer_state(handle)
        except Exception as error:
            raise PeerError(self.name, "?", repr(error), "a peer that answers") from error
        if state == "ERR":
            raise PeerError(self.name, "?", state, "a peer that answers")
        return state == "DONE"

    def notify(self, name: str, message: bytes) -> None:
        """Send a notification. Raises `PeerError` where the peer is gone."""
        try:
            self._agent.send_notif(name, message)
        except Exception as error:
            raise PeerError(self.name, name, repr(error), "a peer that answers") from error

    def notifications(self) -> Mapping[str, Sequence[bytes]]:
        """What has come in, by the sender's name; makes progress on everything that moves."""
        return self._agent.get_new_notifs()


def _triples(addresses: np.ndarray, lengths: Ids) -> Rows:
    rows = np.zeros((len(addresses), 3), dtype=np.uint64)
    rows[:, 0], rows[:, 1] = addresses, lengths
    return rows


def _too_many(lists: Lists) -> bool:
    return max(int(rows[:, 4].sum()) for rows in (lists.local_rows, lists.remote_rows)) > MAX_INDEX
