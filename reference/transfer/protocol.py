"""The protocol as a judgement on histories: what must be true after these events, in this order.

Events of one request are tuples, told to a producer rank: ``("hold", awaited)``,
``("notify", consumer)``, ``("expire",)``; or to a consumer rank: ``("start", sources)``,
``("ended", source)``, ``("abort",)``. Nothing is kept between calls: each looks at all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Event = tuple[Any, ...]


def _since_last(history: Sequence[Event], kind: str) -> Sequence[Event] | None:
    """The events from the last one of a kind on, or None where there was none."""
    at = [i for i, event in enumerate(history) if event[0] == kind]
    return history[at[-1] :] if at else None


def producer_holds(history: Sequence[Event]) -> bool:
    """Whether a producer rank must keep the blocks: held since, not expired, and some of the
    awaited consumers have not notified. One consumer counts once, however often it notifies.
    """
    recent = _since_last(history, "hold")
    if recent is None or ("expire",) in recent:
        return False
    awaited = recent[0][1]
    told = {event[1] for event in recent if event[0] == "notify"}
    return len(told) < awaited


def consumer_awaits(history: Sequence[Event]) -> bool:
    """Whether data may still land on a consumer rank: a source of the last start has not ended.

    An abort does not change that.
    """
    recent = _since_last(history, "start")
    if recent is None:
        return False
    ended = {event[1] for event in recent if event[0] == "ended"}
    return any(source not in ended for source in recent[0][1])
