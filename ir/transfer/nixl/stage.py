"""One run on a cluster's processes: faults at the right moment, and what was seen of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..errors import RequestError, TransferError
from ..geometry import EngineGeometry, Worker
from ..request import NULL_BLOCK, TransferRequest
from .engine import Snapshot
from .errors import HandshakeError, PeerError, StillLandingError
from .outcome import Attempt, Fault, Outcome, Sent, Status, Tensors
from .process import EngineProcess
from .slab import GUARD, guards_of, offsets_of, tensors_of

STOPPED_SECONDS = 0.4
"""The deadline of a request whose producer stands still."""

PATIENCE_SECONDS = 20.0
FREEING_SECONDS = 2.0
POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The engines of the two producers and of the consumer, and how data moves.

    The consumer has `shift` blocks more than asked for, which the second producer's request takes.
    """

    producer: EngineGeometry
    second: EngineGeometry
    consumer: EngineGeometry
    request: TransferRequest
    push: bool
    shift: int

    def named(self, suffix: str) -> TransferRequest:
        """The request once more, under ids of its own."""
        return replace(
            self.request,
            producer_request=self.request.producer_request + suffix,
            consumer_request=self.request.consumer_request + suffix,
        )

    def elsewhere(self) -> TransferRequest:
        """The request for the second producer, into the upper half of the consumer's blocks."""
        request = self.named("/bystander")
        blocks = tuple(
            tuple(block + self.shift if block != NULL_BLOCK else block for block in of_group)
            for of_group in request.consumer_blocks
        )
        return replace(request, consumer_blocks=blocks)


class Stage:
    """The processes of one run. Without a bystander there is no fault."""

    def __init__(
        self,
        scene: Scene,
        *,
        consumer: EngineProcess,
        producer: EngineProcess,
        bystander: EngineProcess | None,
        seconds: float,
    ) -> None:
        self._scene = scene
        self._consumer = consumer
        self._producer = producer
        self._bystander = bystander
        self._seconds = seconds
        self._reuse_refused = False
        self._ports: dict[str, int] = {}
        self._offsets = offsets_of(scene.consumer, consumer.slab.size)

    def prepare(
        self, memory: Mapping[Worker, Tensors], *, sentinel: int, corrupt: str = ""
    ) -> None:
        """Fill all memory and make the processes the scene's engines."""
        scene, slab = self._scene, self._consumer.slab
        for guard in guards_of(slab, scene.consumer, self._offsets):
            guard[:] = GUARD
        for tensors in tensors_of(slab, scene.consumer, self._offsets).values():
            for tensor in tensors:
                tensor[:] = sentinel
        self._consumer.ask("configure", geometry=scene.consumer)
        for process, geometry in (
            (self._producer, scene.producer),
            (self._bystander, scene.second),
        ):
            if process is None:
                continue
            offsets = offsets_of(geometry, process.slab.size)
            for worker, tensors in tensors_of(process.slab, geometry, offsets).items():
                for tensor, given in zip(tensors, memory[worker], strict=True):
                    tensor[:] = given.reshape(tensor.shape)
            garble = {"corrupt": corrupt} if process is self._producer else {}
            port = process.ask("configure", geometry=geometry, **garble)
            self._ports[geometry.engine_id] = port

    def plain(self) -> Outcome:
        """One request. Raises the `TransferError` of a refused handshake."""
        self._meet(self._scene.producer)
        first = self._transfer(self._producer, self._scene.producer, self._scene.request)
        return self._outcome(first)

    def suffer(self, fault: Fault) -> Outcome:
        """The request under a fault, the bystander's meanwhile, and the request once more."""
        scene = self._scene
        if self._bystander is None:
            raise ValueError(f"fault {fault.value} has no bystander; accepted: a second producer")
        self._meet(scene.second)
        if fault is Fault.CORRUPT:
            first = self._meet_garbled()
        else:
            self._meet(scene.producer)
            first = self._restarted() if fault is Fault.RESTART else self._mid_flight(fault)
        bystander = self._transfer(self._bystander, scene.second, scene.elsewhere())
        if fault in (Fault.STOP, Fault.ABORT):
            self._producer.resume()
        else:
            if fault is Fault.KILL:
                self._producer.restart()
            if fault is not Fault.RESTART:
                self._configure_producer()
            self._meet(scene.producer)
        self._until(self._consumer, lambda s: not any(r[2] for r in s.receipts.values()))
        again = self._transfer(self._producer, scene.producer, scene.named("/again"))
        return self._outcome(first, again=again, bystander=bystander)

    def _configure_producer(self) -> None:
        geometry = self._scene.producer
        self._ports[geometry.engine_id] = self._producer.ask("configure", geometry=geometry)

    def _meet(self, geometry: EngineGeometry) -> None:
        """Let the consumer greet a producer. Raises the `TransferError` of a refusal.

        Greets once more when an earlier life's data, which the consumer waits for, has ended.
        """
        name, port = geometry.engine_id, self._ports[geometry.engine_id]
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = self._see(self._consumer).producers.get(name)
        while True:
            self._consumer.ask("call", port=port, seconds=self._seconds)
            seen = self._until(
                self._consumer,
                lambda s: port in s.refused or s.producers.get(name) not in (None, before),
            )
            error = seen.refused.get(port)
            if error is None:
                return
            if not isinstance(error, StillLandingError):
                raise error
            while self._consumer.ask("awaits", producer=name):
                if time.monotonic() > deadline:
                    raise error
                time.sleep(POLL_SECONDS)

    def _meet_garbled(self) -> Attempt:
        try:
            self._meet(self._scene.producer)
        except HandshakeError as error:
            return Attempt(self._scene.request.consumer_request, Status.FAILED, str(error))
        return self._transfer(self._producer, self._scene.producer, self._scene.request)

    def _begin(
        self,
        process: EngineProcess,
        geometry: EngineGeometry,
        request: TransferRequest,
        *,
        seconds: float,
        stopping: bool = False,
    ) -> Attempt | None:
        """Start a request; an attempt where it is refused. With `stopping` the producer stands
        still when it returns, and whatever had to be answered by the other side is under way.
        """
        theirs = {"producer": geometry.engine_id, "request": request, "seconds": seconds}
        ours = {"consumer": self._scene.consumer.engine_id, "seconds": 4 * self._seconds}
        try:
            if self._scene.push:
                self._consumer.ask("expect", **theirs)
                if stopping:
                    self._consumer.stop()
                try:
                    process.ask("push", request=request, **ours)
                finally:
                    if stopping:
                        process.stop()
                        self._consumer.resume()
            else:
                process.ask("hold", request=request.producer_request, **ours)
                if stopping:
                    process.stop()
                self._consumer.ask("pull", **theirs)
        except PeerError as error:
            return Attempt(request.consumer_request, Status.FAILED, str(error))
        except TransferError as error:
            return Attempt(request.consumer_request, Status.REFUSED, str(error))
        return None

    def _transfer(
        self, process: EngineProcess, geometry: EngineGeometry, request: TransferRequest
    ) -> Attempt:
        """One request from start to end."""
        refused = self._begin(process, geometry, request, seconds=self._seconds)
        return refused or self._ended(request)

    def _mid_flight(self, fault: Fault) -> Attempt:
        """The request, whose producer is stopped or killed while it is under way, or aborted."""
        request = self._scene.request
        seconds = STOPPED_SECONDS if fault is Fault.STOP else self._seconds
        refused = self._begin(
            self._producer, self._scene.producer, request, seconds=seconds, stopping=True
        )
        if fault is Fault.KILL:
            self._producer.kill()
        if refused is not None:
            return refused
        if fault is Fault.ABORT:
            self._consumer.ask("abort", request=request.consumer_request)
        attempt = self._ended(request)
        if attempt.quarantined and fault is not Fault.KILL:
            try:
                self._consumer.ask(
                    "pull",
                    producer=self._scene.second.engine_id,
                    request=self._scene.named("/reuse"),
                    seconds=self._seconds,
                )
            except RequestError:
                self._reuse_refused = True
        return attempt

    def _restarted(self) -> Attempt:
        """The request, sent to a process that has taken the place of the one that was met."""
        request = self._scene.request
        self._producer.restart()
        self._configure_producer()
        command = "expect" if self._scene.push else "pull"
        try:
            self._consumer.ask(
                command,
                producer=self._scene.producer.engine_id,
                request=request,
                seconds=self._seconds,
            )
        except PeerError as error:
            return Attempt(request.consumer_request, Status.FAILED, str(error))
        return self._ended(request)

    def _see(self, process: EngineProcess) -> Snapshot:
        return process.ask("snapshot")

    def _until(
        self,
        process: EngineProcess,
        holds: Callable[[Snapshot], bool],
        *,
        seconds: float = PATIENCE_SECONDS,
    ) -> Snapshot:
        """The first snapshot of which `holds` says so, or the last within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self._see(process)
            if holds(seen) or time.monotonic() > deadline:
                return seen
            time.sleep(POLL_SECONDS)

    def _ended(self, request: TransferRequest) -> Attempt:
        name = request.consumer_request
        seen = self._until(self._consumer, lambda s: s.receipts[name][0] is not Status.LANDING)
        status, error, landing = seen.receipts[name]
        return Attempt(name, status, error, landing)

    def _outcome(
        self, first: Attempt, *, again: Attempt | None = None, bystander: Attempt | None = None
    ) -> Outcome:
        notified: Counter[Sent] = Counter()
        freed: dict[str, bool] = {}
        theirs = self._scene.request.producer_request
        names = {self._producer: [theirs] if again is None else [theirs, f"{theirs}/again"]}
        if self._bystander is not None:
            names[self._bystander] = [f"{theirs}/bystander"]
        for process, requests in names.items():
            if first.status is Status.REFUSED:
                # A consumer that refuses tells nobody; whoever routes the request does.
                for request in requests:
                    process.ask("release", request=request)
            seen = self._until(process, lambda s: not s.held, seconds=FREEING_SECONDS)
            notified.update(seen.read)
            freed.update({request: request not in seen.held for request in requests})
        notified.update(self._see(self._consumer).written)
        scene, slab = self._scene, self._consumer.slab
        tensors = tensors_of(slab, scene.consumer, self._offsets)
        own = scene.consumer.num_blocks - scene.shift
        guards = guards_of(slab, scene.consumer, self._offsets)
        return Outcome(
            first=first,
            again=again,
            bystander=bystander,
            memory={w: tuple(t[:own].copy() for t in of) for w, of in tensors.items()},
            bystander_memory={w: tuple(t[own:].copy() for t in of) for w, of in tensors.items()},
            notified=dict(notified),
            freed=freed,
            outside=sum(int((guard != GUARD).sum()) for guard in guards),
            reuse_refused=self._reuse_refused,
        )
