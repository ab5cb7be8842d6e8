"""The transport of one process shows the races that a network has."""

import numpy as np
import pytest

from ir.transfer import DescriptorError
from ir.transfer.descriptors import pack
from ir.transfer.nixl import HandshakeError, MemoryPort, Network, PeerError
from ir.transfer.nixl.port import Lists

IDS = np.array([2, 0], dtype=np.int64)


class Ends:
    def __init__(self, *, lag: int = 2) -> None:
        self.network = Network()
        self.here, self.there = (MemoryPort(name, self.network, lag=lag) for name in "ab")
        self.ours = np.zeros(12, dtype=np.uint8)
        self.theirs = np.arange(1, 13, dtype=np.uint8)
        self.here.register([(self.ours.ctypes.data, 12)])
        self.there.register([(self.theirs.ctypes.data, 12)])
        self.here.add_peer("b", self.there.metadata())

    def rows(self, memory: np.ndarray, *, count: int = 3):
        return pack([(memory.ctypes.data, 4, 0, 4, count)])

    def lists(self) -> Lists:
        return self.here.prepare("b", local=self.rows(self.ours), remote=self.rows(self.theirs))


@pytest.mark.parametrize("lag", [1, 3])
def test_data_lands_with_the_last_question_and_not_before(lag: int):
    ends = Ends(lag=lag)
    handle = ends.here.start("READ", ends.lists(), local_ids=IDS, remote_ids=np.array([0, 1]))
    for _ in range(lag - 1):
        assert not ends.here.ended(handle)
    handle.release()
    assert not ends.ours.any()
    assert ends.here.ended(handle)
    assert ends.ours.tolist() == [5, 6, 7, 8, 0, 0, 0, 0, 1, 2, 3, 4]
    ends.ours[:] = 0
    assert ends.here.ended(handle)
    assert not ends.ours.any()


def test_a_message_comes_after_what_was_written():
    ends = Ends()
    ends.ours[:] = 9
    handle = ends.here.start(
        "WRITE", ends.lists(), local_ids=IDS, remote_ids=np.array([0, 1]), message=b"written"
    )
    assert ends.there.notifications() == {}
    while not ends.here.ended(handle):
        assert ends.there.notifications() == {}
    assert ends.theirs.tolist() == [9] * 8 + [9, 10, 11, 12]
    assert ends.there.notifications() == {"a": [b"written"]}
    assert ends.there.notifications() == {}


def test_rows_outside_of_registered_memory_are_refused():
    ends = Ends()
    with pytest.raises(HandshakeError, match="accepted: descriptors in registered memory"):
        ends.here.prepare("b", local=ends.rows(ends.ours), remote=ends.rows(ends.theirs, count=4))


def test_blocks_that_overlap_are_refused():
    ends = Ends()
    with pytest.raises(DescriptorError, match="the end of a block"):
        ends.here.start("READ", ends.lists(), local_ids=IDS[[0, 0]], remote_ids=IDS)


def test_metadata_of_another_port_is_refused():
    ends = Ends()
    with pytest.raises(HandshakeError, match="accepted: its own metadata"):
        ends.here.add_peer("b", ends.here.metadata())


def test_a_port_that_is_gone_answers_nobody():
    ends = Ends()
    lists = ends.lists()
    handle = ends.here.start("READ", lists, local_ids=IDS, remote_ids=IDS)
    del ends.network.ports["b"]
    with pytest.raises(PeerError, match="peer 'b' is gone"):
        ends.here.ended(handle)
    with pytest.raises(PeerError, match="peer 'b' is gone"):
        ends.here.start("READ", lists, local_ids=IDS, remote_ids=IDS)
    with pytest.raises(PeerError, match="peer 'b' is gone"):
        ends.here.notify("b", b"x")
    assert not ends.ours.any()
