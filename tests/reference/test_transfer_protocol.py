"""The protocol's reading of histories, worked out by hand."""

import pytest

from reference.transfer.protocol import Event, consumer_awaits, producer_holds


@pytest.mark.parametrize(
    ("history", "holds"),
    [
        ([], False),
        ([("hold", 2)], True),
        ([("hold", 2), ("notify", "a")], True),
        ([("hold", 2), ("notify", "a"), ("notify", "a")], True),
        ([("hold", 2), ("notify", "a"), ("notify", "b")], False),
        ([("notify", "a"), ("hold", 1)], True),
        ([("hold", 1), ("notify", "a"), ("notify", "b")], False),
        ([("hold", 1), ("expire",), ("notify", "a")], False),
        ([("hold", 1), ("expire",), ("hold", 1)], True),
    ],
)
def test_a_producer_holds_until_every_consumer_has_told_it(history: list[Event], holds: bool):
    assert producer_holds(history) == holds


@pytest.mark.parametrize(
    ("history", "awaits"),
    [
        ([], False),
        ([("start", frozenset("pq"))], True),
        ([("start", frozenset("pq")), ("ended", "p")], True),
        ([("start", frozenset("pq")), ("abort",)], True),
        ([("start", frozenset("pq")), ("abort",), ("ended", "p"), ("ended", "q")], False),
        ([("start", frozenset())], False),
        ([("ended", "p"), ("start", frozenset("p"))], True),
    ],
)
def test_a_consumer_awaits_every_source_aborted_or_not(history: list[Event], awaits: bool):
    assert consumer_awaits(history) == awaits
