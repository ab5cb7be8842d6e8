"""Blocks are free when, and only when, the reference's reading of the same history says so."""

from random import Random

import pytest

from ir.transfer import ConsumerLeases, ProducerLeases, RequestError, Worker
from reference.transfer.protocol import Event, consumer_awaits, producer_holds

CONSUMERS = [("D", Worker(0, rank)) for rank in range(3)]
SOURCES = [Worker(stage, rank) for stage in range(2) for rank in range(2)]


def _random_producer_event(rng: Random) -> Event:
    kind = rng.choice(("hold", "notify", "notify", "notify", "expire"))
    match kind:
        case "hold":
            return (kind, rng.randint(1, 3))
        case "notify":
            return (kind, rng.choice(CONSUMERS))
        case _:
            return (kind,)


@pytest.mark.parametrize("seed", range(50))
def test_a_producer_holds_what_its_history_says(seed: int):
    rng, leases, history = Random(seed), ProducerLeases(), []
    for _ in range(40):
        event = _random_producer_event(rng)
        held = producer_holds(history)
        match event:
            case ("hold", awaited) if held:
                with pytest.raises(RequestError, match="held already"):
                    leases.hold("r", awaited=awaited)
                continue
            case ("hold", awaited):
                leases.hold("r", awaited=awaited)
                frees = False
            case ("notify", consumer):
                frees = leases.notify("r", consumer)
            case _:
                frees = leases.expire("r")
        history.append(event)
        assert leases.holds("r") == producer_holds(history)
        assert frees == (held and not producer_holds(history))


def _random_consumer_event(rng: Random) -> Event:
    kind = rng.choice(("start", "ended", "ended", "ended", "abort"))
    match kind:
        case "start":
            return (kind, frozenset(rng.sample(SOURCES, rng.randint(0, 3))))
        case "ended":
            return (kind, rng.choice(SOURCES))
        case _:
            return (kind,)


@pytest.mark.parametrize("seed", range(50))
def test_a_consumer_reuses_blocks_only_when_nothing_can_land(seed: int):
    rng, leases, history, aborted = Random(seed), ConsumerLeases(), [], False
    for _ in range(40):
        event = _random_consumer_event(rng)
        awaits = consumer_awaits(history)
        match event:
            case ("start", sources) if awaits:
                with pytest.raises(RequestError, match="under way"):
                    leases.start("r", sources)
                continue
            case ("start", sources):
                leases.start("r", sources)
                aborted = False
            case ("ended", source):
                last = leases.ended("r", source)
                assert last == (awaits and not consumer_awaits([*history, event]))
            case _:
                aborted = True
                assert leases.abort("r") == (not awaits)
        history.append(event)
        assert leases.may_reuse("r") == (not consumer_awaits(history))
        assert leases.is_quarantined("r") == (aborted and consumer_awaits(history))


def test_requests_do_not_share_their_leases():
    producer, consumer = ProducerLeases(), ConsumerLeases()
    for request in "ab":
        producer.hold(request, awaited=1)
        consumer.start(request, SOURCES[:1])
    assert producer.notify("a", CONSUMERS[0])
    assert consumer.ended("a", SOURCES[0])
    assert (producer.holds("a"), producer.holds("b")) == (False, True)
    assert (consumer.may_reuse("a"), consumer.may_reuse("b")) == (True, False)


def test_a_lease_that_nobody_ends_is_refused():
    with pytest.raises(RequestError, match="notifications awaited is 0; accepted: 1 or more"):
        ProducerLeases().hold("r", awaited=0)
