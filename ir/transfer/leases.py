"""When blocks may be used again: on the producer once all consumers have read them, on the
consumer once nothing can land in them any more.

Neither class knows a transport: it calls them with what it has seen. Both forget a request when
its blocks are free, so that an event that comes too late (a notification after expiry, one sent
twice) changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import RequestError
from .geometry import Worker

Consumer = tuple[str, Worker]
"""A consumer engine's id and one of its ranks."""


@dataclass(slots=True)
class ProducerLeases:
    """The requests whose blocks one producer rank holds for its consumers."""

    _held: dict[str, tuple[int, set[Consumer]]] = field(default_factory=dict)

    def hold(self, request: str, *, awaited: int) -> None:
        """Hold a request until `awaited` consumer ranks have notified.

        Raises `RequestError` if it is held already or nobody would ever free it.
        """
        if request in self._held:
            raise RequestError(request, "its lease", "held already", "a request not yet held")
        if awaited < 1:
            raise RequestError(request, "notifications awaited", awaited, "1 or more")
        self._held[request] = (awaited, set())

    def notify(self, request: str, consumer: Consumer) -> bool:
        """Count a consumer's notification once; True where it frees the request's blocks."""
        if request not in self._held:
            return False
        awaited, seen = self._held[request]
        seen.add(consumer)
        if len(seen) < awaited:
            return False
        del self._held[request]
        return True

    def expire(self, request: str) -> bool:
        """Give up waiting; True where that frees the request's blocks."""
        return self._held.pop(request, None) is not None

    def holds(self, request: str) -> bool:
        return request in self._held


@dataclass(slots=True)
class ConsumerLeases:
    """The requests whose blocks one consumer rank receives into."""

    _landing: dict[str, set[Worker]] = field(default_factory=dict)
    _quarantined: set[str] = field(default_factory=set)

    def start(self, request: str, sources: Iterable[Worker]) -> None:
        """Transfers from `sources` begin. Raises `RequestError` while earlier ones may land."""
        if request in self._landing:
            raise RequestError(request, "its transfer", "under way", "a request without one")
        sources = set(sources)
        if sources:
            self._landing[request] = sources

    def ended(self, request: str, source: Worker) -> bool:
        """A source's data has landed or, its peer being gone, never will; True where it was the
        last: the request is ready or, if it was aborted, its blocks are free.
        """
        sources = self._landing.get(request)
        if sources is None or source not in sources:
            return False
        sources.remove(source)
        if sources:
            return False
        del self._landing[request]
        self._quarantined.discard(request)
        return True

    def abort(self, request: str) -> bool:
        """The request is no longer wanted; True where its blocks are free at once.

        Otherwise they stay quarantined: releasing a transfer does not keep its data from landing.
        """
        if request in self._landing:
            self._quarantined.add(request)
            return False
        return True

    def is_quarantined(self, request: str) -> bool:
        return request in self._quarantined

    def may_reuse(self, request: str) -> bool:
        """Whether nothing can land in the request's blocks any more."""
        return request not in self._landing
