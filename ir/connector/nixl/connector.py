"""A connector that reads KV from another engine with NIXL, whatever either's tensor parallelism.

A producer stages what it computes and offers it; whoever routes requests carries the offer to a
consumer, whose next step with that prompt reads it. Its hooks run in Python, so that graphs are
PIECEWISE: a replay of the whole forward would run none.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from ir.connector.contract import Finished, GraphPolicy, ScheduledRequest, SchedulerOutput
from ir.connector.errors import ConnectorError, LifecycleError
from ir.connector.nixl.handover import NixlMetadata, Prefilled, Pull, Role, Save
from ir.connector.nixl.incoming import Incoming
from ir.connector.nixl.outgoing import Outgoing
from ir.connector.nixl.staging import Staging, geometry_of
from ir.connector.nixl.transport import Transport, nixl
from ir.transfer.nixl import Engine, HandshakeError, Port, SideChannel, StillLandingError

POLL_SECONDS = 0.001


class NixlConnector:
    """Both sides of one engine's connector, to be driven by one thread.

    `blocks` are staged beside the caches, `tp` ranks hold their heads of them, each with an agent
    of its own. A read takes at most `seconds`; while it lasts, its step waits. Staged KV is kept
    for `lease` seconds. Between steps call `progress`: peers are answered, and blocks freed, only
    then and within steps. `model` is what both engines must agree on beside shapes and dtype.

    A request goes its way so::

        decode.meet(prefill.port)                           # once; refuses an unlike engine
        ...                                                 # a step of `prefill` with the prompt
        decode.accept(prefill.offer("r0", consumer="D"))    # the lease goes over
        ...                                                 # the next step of `decode` reads it
    """

    graph_policy: GraphPolicy | None = GraphPolicy.PIECEWISE

    def __init__(
        self,
        engine_id: str,
        *,
        model: str,
        role: Role = Role.BOTH,
        tp: int = 1,
        blocks: int = 64,
        seconds: float = 5.0,
        lease: float = 30.0,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine_id = engine_id
        self.role = role
        self._model = model
        self._tp = tp
        self._blocks = blocks
        self._seconds = seconds
        self._lease = lease
        self._transport = transport or nixl()
        self._clock = clock
        self._channel = SideChannel()
        self._accepted: list[Prefilled] = []
        self._claimed: dict[str, Prefilled] = {}
        self._caches: Mapping[str, Tensor] = {}
        self._metadata: NixlMetadata | None = None
        self._registered: _Registered | None = None

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        """Of the KV that was accepted and that no request has, the longest that fits the prompt."""
        self._drop_expired()
        fitting = [p.tokens for p in self._accepted if p.tokens == prompt[: len(p.tokens)]]
        return max(map(len, fitting), default=0)

    def update_state_after_alloc(self, request: str, prompt: tuple[int, ...], tokens: int) -> None:
        """Keep for a request what it was matched with; another is computed, or has its own."""
        prefilled = self._take(prompt[:tokens])
        if prefilled is not None:
            self._claimed[request] = prefilled

    def build_connector_meta(self, output: SchedulerOutput) -> NixlMetadata:
        pulls = [self._pull(r) for r in output.requests if r.load and self.role.consumes]
        saves = [
            Save(request=r.request, tokens=r.prompt[: r.save], slots=self._slots(r, r.save))
            for r in output.requests
            if r.save and self.role.produces
        ]
        return NixlMetadata(pulls=tuple(pulls), saves=tuple(saves))

    def _pull(self, r: ScheduledRequest) -> Pull:
        self._drop_expired()
        # A scheduler need not claim: then what fits goes to who comes first.
        prefilled = self._claimed.pop(r.request, None) or self._take(r.prompt[: r.load])
        return Pull(request=r.request, prefilled=prefilled, slots=self._slots(r, r.load))

    def _take(self, tokens: tuple[int, ...]) -> Prefilled | None:
        found = next((p for p in self._accepted if p.tokens == tokens), None)
        if found is not None:
            self._accepted.remove(found)
        return found

    def _slots(self, r: ScheduledRequest, tokens: int) -> tuple[int, ...]:
        size = self._engine_parts("build_connector_meta").engine.greeting.geometry.block_tokens
        return tuple(r.blocks[i // size] * size + i % size for i in range(tokens))

    def _drop_expired(self) -> None:
        """What can be read no more is computed instead, where nobody counts on it yet."""
        now = self._clock()
        self._accepted = [p for p in self._accepted if p.readable_until > now]
        self._claimed = {r: p for r, p in self._claimed.items() if p.readable_until > now}

    @property
    def port(self) -> int:
        """Where consumers meet this engine, on the loopback address."""
        return self._channel.port

    @property
    def free_blocks(self) -> int:
        """Staged blocks that hold nothing and that nothing can reach."""
        return self._engine_parts("free_blocks").staging.free

    @property
    def busy(self) -> bool:
        """Whether `progress` is urgent: data moves, or is held for somebody."""
        parts = self._registered
        return parts is not None and (parts.engine.busy or parts.incoming.busy)

    @property
    def news(self) -> bool:
        """Whether the next step has something to report even without a request."""
        return self._registered is not None and self._registered.outgoing.news

    def meet(self, port: int) -> str:
        """Meet the producer at a port; gives its engine id. Once for each of its lives.

        Raises `IncompatibleEnginesError` for one whose cache cannot be exchanged, `HandshakeError`
        for one that does not answer in time or makes no sense, `StillLandingError` where in that
        time data of an earlier life of it does not cease to land.
        """
        engine = self._engine_parts("meet").engine
        deadline = self._clock() + self._seconds
        engine.call(port, seconds=self._seconds)
        while True:
            engine.step()
            try:
                name = engine.answer(port)
            except StillLandingError as error:
                # That ends by itself, as steps see.
                if self._clock() > deadline:
                    raise
                if not engine.awaits(error.producer):
                    engine.call(port, seconds=self._seconds)
                name = None
            if name is not None:
                return name
            if self._clock() > deadline:
                raise HandshakeError(self.engine_id, f"port {port}", "nothing", "an answer in time")
            time.sleep(POLL_SECONDS)

    def offer(self, request: str, *, consumer: str) -> Prefilled:
        """Hold a request's staged KV for one consumer that has met this engine.

        Raises `NotStagedError` where none is staged, `PeerError` for an unknown consumer.
        """
        return self._engine_parts("offer").outgoing.offer(request, consumer)

    def accept(self, prefilled: Prefilled) -> None:
        """Let the next request whose prompt begins with these tokens read them.

        Raises `ConnectorError` on an engine that reads nothing.
        """
        if not self.role.consumes:
            raise ConnectorError(
                f"the role of engine {self.engine_id!r}", self.role.value, "consumer or both"
            )
        self._accepted.append(prefilled)

    def progress(self) -> None:
        """Answer peers, and free the blocks that nothing can reach any more."""
        parts = self._engine_parts("progress")
        parts.engine.step()
        parts.outgoing.progress()
        parts.incoming.progress()

    def close(self) -> None:
        """Hang up: what was offered is gone. Raises `ConnectorError` while data may land here."""
        parts = self._registered
        if parts is not None and parts.incoming.busy:
            raise ConnectorError("close", "called while data may land", "progress until not busy")
        self._channel.close()
        if parts is not None:
            parts.close()
            self._registered = None

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        if self._registered is not None:
            raise LifecycleError("register_kv_caches", "called twice", "once")
        self._caches = dict(caches)
        self._registered = self._opened()

    def bind_connector_metadata(self, metadata: object) -> None:
        if self._metadata is not None:
            raise LifecycleError("bind_connector_metadata", "called twice", "clear in between")
        if not isinstance(metadata, NixlMetadata):
            raise LifecycleError("bind_connector_metadata", repr(metadata), "NixlMetadata")
        self._metadata = metadata

    def start_load_kv(self) -> None:
        metadata, parts = self._bound("start_load_kv")
        parts.incoming.begin(metadata.pulls)
        parts.outgoing.begin(metadata.saves)

    def wait_for_layer_load(self, layer: str) -> None:
        _, parts = self._bound("wait_for_layer_load")
        # A read brings all layers at once; only the first one waits.
        parts.incoming.wait()
        parts.incoming.get(layer, self._caches[layer])

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        self._bound("save_kv_layer")[1].outgoing.put(layer, cache)

    def wait_for_save(self) -> None:
        _, parts = self._bound("wait_for_save")
        parts.outgoing.end(failed=parts.incoming.failed.keys())

    def get_finished(self, finished: frozenset[str]) -> Finished:
        _, parts = self._bound("get_finished")
        self.progress()
        return Finished(
            sent=parts.outgoing.sent(),
            received=frozenset(parts.incoming.received),
            failed=MappingProxyType(dict(parts.incoming.failed)),
        )

    def clear_connector_metadata(self) -> None:
        self._metadata = None
        if self._registered is not None:
            self._registered.outgoing.abandon()
            self._registered.incoming.end()

    def _bound(self, call: str) -> tuple[NixlMetadata, _Registered]:
        if self._metadata is None:
            raise LifecycleError(call, "called with nothing bound", "bound NixlMetadata")
        return self._metadata, self._engine_parts(call)

    def _engine_parts(self, call: str) -> _Registered:
        if self._registered is None:
            raise LifecycleError(call, "called without caches", "register_kv_caches first")
        return self._registered

    def _opened(self) -> _Registered:
        geometry = geometry_of(
            self.engine_id, self._caches, model=self._model, tp=self._tp, blocks=self._blocks
        )
        staging = Staging(geometry, self._caches)
        ports = {
            w: self._transport.open_port(f"{self.engine_id}#{w.rank}") for w in geometry.workers
        }
        regions = {worker: staging.regions(worker) for worker in geometry.workers}
        for worker, port in ports.items():
            port.register(regions[worker])
        engine = Engine(
            geometry,
            agents=ports,
            bases={w: tuple(base for base, _ in of) for w, of in regions.items()},
            life=uuid.uuid4().hex,
            channel=self._channel,
            vetting=self._transport.open_vetting(f"{self.engine_id}/vetting"),
            clock=self._clock,
        )
        return _Registered(
            engine=engine,
            ports=tuple(ports.values()),
            staging=staging,
            outgoing=Outgoing(engine, staging, lease=self._lease, clock=self._clock),
            incoming=Incoming(engine, staging, seconds=self._seconds, clock=self._clock),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Registered:
    """What there is once the caches are known."""

    engine: Engine
    ports: tuple[Port, ...]
    staging: Staging
    outgoing: Outgoing
    incoming: Incoming

    def close(self) -> None:
        for port in self.ports:
            port.register([])
