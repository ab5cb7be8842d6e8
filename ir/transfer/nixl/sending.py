"""The requests whose blocks an engine holds for its consumers, until they have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import RequestError
from ..geometry import EngineGeometry, Worker
from ..leases import ProducerLeases
from ..mapping import notifications_per_producer
from ..request import TransferRequest
from .errors import PeerError
from .greeting import Greeting
from .link import Link, prepare_push
from .notice import Notice
from .outcome import Sent
from .port import Handle, Port


@dataclass(eq=False, slots=True)
class Hold:
    """A request held for a consumer; `moves` are the writes of a push, by our rank and its.

    `given_up`: not every rank that was waited for has the data.
    """

    link: Link
    expires: float
    given_up: bool = False
    moves: dict[tuple[Worker, Worker], Handle] = field(default_factory=dict)


class Sending:
    """Owns the producer's leases of every rank. All times are of `clock`, in seconds.

    A consumer must not read after the lease has expired, so that a lease has to last longer than
    the deadlines of its readers.
    """

    def __init__(
        self,
        greeting: Greeting,
        agents: Mapping[Worker, Port],
        clock: Callable[[], float],
    ) -> None:
        self._greeting = greeting
        self._agents = agents
        self._clock = clock
        self._leases = {worker: ProducerLeases() for worker in self._geometry.workers}
        self.held: dict[str, Hold] = {}
        self.notified: Counter[Sent] = Counter()
        self._over: dict[str, bool] = {}

    @property
    def _geometry(self) -> EngineGeometry:
        return self._greeting.geometry

    def hold(self, link: Link, request: str, *, seconds: float) -> None:
        """Keep a request's blocks until every rank of the consumer that faces one has notified.

        Raises `RequestError` while the request is held already.
        """
        if request in self.held:
            raise RequestError(request, "its lease", "held already", "a request not yet held")
        awaited = notifications_per_producer(self._geometry, link.greeting.geometry)
        for worker, leases in self._leases.items():
            count = awaited[worker.stage, worker.rank]
            if count:
                leases.hold(request, awaited=count)
        self.held[request] = Hold(link, self._clock() + seconds)

    def release(self, request: str) -> None:
        """Nobody will ask for a request's blocks: they are free, once none is being written."""
        self._give_up(request)
        self._sweep()

    def let_go(self) -> Mapping[str, bool]:
        """The holds that ended since this was last asked: True where all ranks have the data."""
        over, self._over = self._over, {}
        return over

    def push(self, link: Link, request: TransferRequest, *, seconds: float) -> None:
        """Write a request into the consumer's blocks, and tell its ranks.

        Raises `RequestError`, `DescriptorError` or `HandshakeError`, and then nothing moves. A
        consumer that goes away meanwhile ends the hold.
        """
        prepare_push(link, self._greeting, self._agents)
        bound = {worker: plan.bind(request) for worker, plan in link.plans.items()}
        name = request.producer_request
        self.hold(link, name, seconds=seconds)
        for target, channels in bound.items():
            ids = {of.source: of for of in channels}
            for source in link.plans[target].facing:
                message = Notice(
                    kind="wrote",
                    engine=self._geometry.engine_id,
                    worker=source,
                    life=link.greeting.life,
                    request=name,
                    consumer_request=request.consumer_request,
                ).encode()
                try:
                    if source in ids:
                        self.held[name].moves[source, target] = self._agents[source].start(
                            "WRITE",
                            link.lists[source, target],
                            local_ids=ids[source].producer_ids,
                            remote_ids=ids[source].consumer_ids,
                            message=message,
                        )
                    else:
                        self._agents[source].notify(link.agent_name(target), message)
                        self._leases[source].notify(name, (link.engine_id, target))
                except PeerError:
                    link.gone_at = self._clock()
        self._sweep()

    def read(self, notice: Notice, worker: Worker) -> None:
        """A consumer's rank has read all that it wanted of one of ours."""
        self.notified[worker, notice.worker, notice.request] += 1
        self._leases[worker].notify(notice.request, (notice.engine, notice.worker))
        self._sweep()

    def step(self) -> None:
        """Free what a dead consumer will never ask for, and what was held for too long."""
        now = self._clock()
        for name, hold in tuple(self.held.items()):
            link = hold.link
            for (source, target), handle in tuple(hold.moves.items()):
                try:
                    ended = self._agents[source].ended(handle)
                except PeerError:
                    link.gone_at = now if link.gone_at is None else link.gone_at
                    ended = hold.given_up = True
                if ended:
                    del hold.moves[source, target]
                    handle.release()
                    self._leases[source].notify(name, (link.engine_id, target))
            over = now > hold.expires or link.gone_at is not None
            if over and not hold.moves:
                self._give_up(name)
        self._sweep()

    @property
    def writing(self) -> bool:
        return any(hold.moves for hold in self.held.values())

    @property
    def busy(self) -> bool:
        return bool(self.held)

    def _give_up(self, request: str) -> None:
        lost = [leases.expire(request) for leases in self._leases.values()]
        if request in self.held and any(lost):
            self.held[request].given_up = True

    def _sweep(self) -> None:
        for name, hold in tuple(self.held.items()):
            if not hold.moves and not any(of.holds(name) for of in self._leases.values()):
                self._over[name] = not hold.given_up
                del self.held[name]
