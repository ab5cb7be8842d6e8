"""The reference's graphs: right while every owner holds the block that was captured."""

import pytest

from reference.capture import (
    Memory,
    Refused,
    Returned,
    Stale,
    bucket,
    cache_after,
    padded,
)


def memory() -> Memory:
    m = Memory()
    m.create("a", 2)
    m.create("b", 10)
    return m


def test_a_capture_changes_nothing_and_a_replay_reads_before_it_writes():
    m = memory()
    m.capture("g", reads=("a",), writes=("a", "b"))
    assert m.blocks == {0: 2, 1: 10}
    assert [m.replay("g", 1), m.replay("g", 1)] == [Returned(value=3), Returned(value=4)]
    assert m.blocks == {0: 4, 1: 12}


def test_an_owner_that_moved_stops_a_replay_until_it_moves_back():
    m = memory()
    m.capture("g", reads=("a",), writes=("b",))
    m.create("a", 5)
    m.drop("b")
    assert m.replay("g", 1) == Stale(owners=("a", "b"))
    m.give_back("a", 0)
    m.give_back("b", 1)
    m.write("a", 7)
    assert m.replay("g", 1) == Returned(value=8)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("host_reads", "host-sync"),
        ("replaces", "state-replaced"),
        ("creates", "state-created"),
    ],
)
def test_a_function_that_cannot_be_repeated_is_refused(fault: str, reason: str):
    m = memory()
    assert m.capture("g", reads=("a",), writes=(), **{fault: True}) == Refused(reason=reason)
    assert m.graphs == {}


def test_padding_fills_a_batch_up_and_writes_nothing():
    rows = padded((4, 5), (2, -1), 3)
    assert rows == ((4, 2), (5, -1), (0, -1))
    assert cache_after({2: 9, 3: 1}, rows) == {2: 4, 3: 1}
    for wrong in (((), ()), ((1, 2), (1,)), ((1, 2), (1, 2))):
        with pytest.raises(ValueError, match="accepted: 1 to 1"):
            padded(*wrong, 1)


def test_the_smallest_size_that_holds_a_batch_serves_it():
    assert [bucket((1, 4, 8), n) for n in (0, 1, 2, 4, 5, 9)] == [None, 1, 4, 4, 8, None]
