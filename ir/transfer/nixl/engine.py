"""One engine: its ranks' agents, its peers, and the one loop that drives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import TransferError
from ..geometry import EngineGeometry, Worker
from ..request import TransferRequest
from .errors import HandshakeError, PeerError, StillLandingError
from .greeting import Endpoint, Greeting, decode, encode
from .link import Link, link_to_consumer, link_to_producer
from .notice import Notice
from .notice import decode as decode_notice
from .outcome import Sent, Status
from .port import Port, Vets
from .receiving import Receiving
from .sending import Sending
from .side_channel import Arrived, Gone, SideChannel


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What an engine knows. `receipts` has status, reason and whether data may still land;
    `refused` the refusals of the ports that were called; `strays` counts notifications of nobody.
    """

    producers: Mapping[str, str]
    consumers: Mapping[str, str]
    refused: Mapping[int, TransferError]
    receipts: Mapping[str, tuple[Status, str, bool]]
    held: tuple[str, ...]
    read: Mapping[Sent, int]
    written: Mapping[Sent, int]
    strays: int


class Engine:
    """Call `step` as often as possible: data moves, and peers are answered, only meanwhile.

    `agents` have the tensors at `bases` registered. Nothing of a peer raises out of `step`.
    """

    def __init__(
        self,
        geometry: EngineGeometry,
        *,
        agents: Mapping[Worker, Port],
        bases: Mapping[Worker, tuple[int, ...]],
        life: str,
        channel: SideChannel,
        vetting: Vets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agents = agents
        self._channel = channel
        self._clock = clock
        self.greeting = Greeting(
            geometry,
            life,
            MappingProxyType(
                {
                    worker: Endpoint(agents[worker].name, agents[worker].metadata(), bases[worker])
                    for worker in geometry.workers
                }
            ),
        )
        channel.greeting = encode(self.greeting)
        self._receiving = Receiving(geometry, agents, clock)
        self._sending = Sending(self.greeting, agents, clock)
        self._producers: dict[str, Link] = {}
        self._consumers: dict[str, Link] = {}
        self._refused: dict[int, TransferError] = {}
        self._met: dict[int, str] = {}
        self._strays = 0
        self._vetting = vetting

    @property
    def engine_id(self) -> str:
        return self.greeting.geometry.engine_id

    @property
    def busy(self) -> bool:
        return self._receiving.busy or self._sending.busy

    @property
    def writing(self) -> bool:
        """Whether this engine still writes to others: until it does not, it must not hang up."""
        return self._sending.writing

    def call(self, port: int, *, seconds: float) -> None:
        """Meet the producer that listens on a port; `answer` and `snapshot` tell how that ended."""
        self._refused.pop(port, None)
        self._met.pop(port, None)
        self._channel.call(port, seconds=seconds)

    def answer(self, port: int) -> str | None:
        """The producer that was met at a port, or None as long as nothing came of the call.

        Raises the `TransferError` of a refusal, `StillLandingError` for one that ends by itself.
        """
        if port in self._refused:
            raise self._refused[port]
        return self._met.get(port)

    def awaits(self, producer: str) -> bool:
        """Whether data of a producer may still land, so that no new life of it can be met."""
        link = self._producers.get(producer)
        return link is not None and self._receiving.awaits(link)

    def life_of(self, producer: str) -> str:
        """The life in which a producer was met. Raises `PeerError` where it is unknown or gone."""
        return self._peer(self._producers, producer).greeting.life

    def pull(self, producer: str, request: TransferRequest, *, seconds: float) -> None:
        """Read a request's blocks. Raises `PeerError`, `RequestError` or `DescriptorError`."""
        self._receiving.pull(self._peer(self._producers, producer), request, seconds=seconds)

    def expect(self, producer: str, request: TransferRequest, *, seconds: float) -> None:
        """Wait for a request that the producer pushes. Raises `PeerError` or `RequestError`."""
        self._receiving.expect(self._peer(self._producers, producer), request, seconds=seconds)

    def abort(self, request: str) -> bool:
        """Give a received request up; True where its blocks are free at once."""
        return self._receiving.abort(request)

    def forget(self, request: str) -> None:
        """Drop a received request, whose id may come again. Raises `RequestError` while its data
        may land.
        """
        self._receiving.forget(request)

    def hold(self, consumer: str, request: str, *, seconds: float) -> None:
        """Keep a request's blocks for a consumer. Raises `PeerError` or `RequestError`."""
        self._sending.hold(self._peer(self._consumers, consumer), request, seconds=seconds)

    def release(self, request: str) -> None:
        """Free a held request that no consumer will read, since one has refused it."""
        self._sending.release(request)

    def push(self, consumer: str, request: TransferRequest, *, seconds: float) -> None:
        """Write a request's blocks. Raises `PeerError`, `RequestError`, `DescriptorError` or
        `HandshakeError`.
        """
        self._sending.push(self._peer(self._consumers, consumer), request, seconds=seconds)

    def status(self, request: str) -> Status:
        """How a received request stands; its blocks may still be landing."""
        return self._receiving.receipts[request].status

    def landing(self, request: str) -> bool:
        """Whether data may still land for a received request, however it ended."""
        return self._receiving.receipts[request].landing

    def reason(self, request: str) -> str:
        """Why a received request did not end ``done``."""
        return self._receiving.receipts[request].error

    def let_go(self) -> Mapping[str, bool]:
        """The holds that ended since this was last asked: True where all ranks have read them."""
        return self._sending.let_go()

    def snapshot(self) -> Snapshot:
        receipts = self._receiving.receipts
        return Snapshot(
            producers={name: link.greeting.life for name, link in self._producers.items()},
            consumers={name: link.greeting.life for name, link in self._consumers.items()},
            refused=dict(self._refused),
            receipts={name: (r.status, r.error, r.landing) for name, r in receipts.items()},
            held=tuple(self._sending.held),
            read=dict(self._sending.notified),
            written=dict(self._receiving.notified),
            strays=self._strays,
        )

    def step(self) -> None:
        """Look once at everything that may have happened."""
        self._greet()
        for worker, agent in self._agents.items():
            for sender, messages in agent.notifications().items():
                for message in messages:
                    self._take(worker, sender, message)
        self._receiving.step()
        self._sending.step()

    def _peer(self, peers: Mapping[str, Link], name: str) -> Link:
        self._greet()
        link = peers.get(name)
        if link is None:
            raise PeerError(self.engine_id, name, "unknown", f"one of {sorted(peers)}")
        if link.gone_at is not None:
            raise PeerError(self.engine_id, name, "gone", "a peer that lives; meet it again")
        return link

    def _greet(self) -> None:
        while not self._channel.events.empty():
            event = self._channel.events.get()
            if isinstance(event, Arrived):
                try:
                    self._meet(event)
                except TransferError as error:
                    self._channel.hang_up(event.line)
                    if event.called:
                        self._refused[event.port] = error
            elif isinstance(event, Gone):
                self._lost(event.line)
            else:
                self._refused[event.port] = HandshakeError(
                    self.engine_id, f"port {event.port}", event.reason, "a greeting in time"
                )

    def _meet(self, event: Arrived) -> None:
        theirs = decode(event.payload, engine=self.engine_id)
        name = theirs.geometry.engine_id
        if not event.called:
            link = link_to_consumer(self.greeting, theirs, event.line, vetting=self._vetting)
            before = self._consumers.get(name)
            same = before is not None and before.greeting.life == theirs.life
            if before is not None and same and before.gone_at is None:
                # The same process on one more line: its requests and our lists stay.
                before.lines.add(event.line)
                return
            if before is not None:
                before.gone_at = self._clock()
                before.disconnect()
            self._consumers[name] = link
            return
        before = self._producers.get(name)
        if before is not None:
            if before.gone_at is None and before.greeting.life == theirs.life:
                self._move_to(before, event.line)
                self._met[event.port] = name
                return
            if self._receiving.awaits(before):
                raise StillLandingError(self.engine_id, name)
            self._move_to(before)
            before.disconnect()
            del self._producers[name]
        self._producers[name] = link_to_producer(
            self.greeting, theirs, event.line, agents=self._agents, vetting=self._vetting
        )
        self._met[event.port] = name

    def _move_to(self, link: Link, *lines: int) -> None:
        """Speak to a producer over these lines alone."""
        before, link.lines = link.lines, set(lines)
        for line in before:
            self._channel.hang_up(line)

    def _lost(self, line: int) -> None:
        for link in (*self._producers.values(), *self._consumers.values()):
            if line in link.lines:
                link.lines.discard(line)
                if not link.lines:
                    link.gone_at = self._clock()

    def _take(self, worker: Worker, sender: str, message: bytes) -> None:
        notice = decode_notice(message)
        if notice is None:
            self._strays += 1
            return
        # The greeting that explains a sender is on the queue before the sender can know of us.
        self._greet()
        link = self._sender(notice, sender)
        if link is None:
            self._strays += 1
        elif notice.kind == "read":
            self._sending.read(notice, worker)
        else:
            self._receiving.wrote(notice, link, worker)

    def _sender(self, notice: Notice, sender: str) -> Link | None:
        """The peer that a notice is from, if it is for this life and from the agent it says."""
        peers = self._consumers if notice.kind == "read" else self._producers
        link = peers.get(notice.engine)
        if link is None or notice.life != self.greeting.life:
            return None
        endpoint = link.greeting.endpoints.get(notice.worker)
        return link if endpoint is not None and endpoint.agent == sender else None
