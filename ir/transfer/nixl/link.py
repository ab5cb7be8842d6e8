"""One peer of an engine, as the handshake left it: plans, prepared lists, and whether it lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..compatibility import check_engines
from ..geometry import Worker
from ..plan import EngineTransferPlan, meet, plan_transfer
from .errors import HandshakeError
from .greeting import Greeting
from .port import Lists, Port, Vets


@dataclass(eq=False, slots=True)
class Link:
    """A peer. `plans` are by the consumer's rank, `lists` by own rank and peer's rank.

    `lines` are open to it: a caller has several while it moves from one to the next. `gone_at` is
    when its process was seen to have ended.
    """

    greeting: Greeting
    lines: set[int]
    plans: Mapping[Worker, EngineTransferPlan]
    vetting: Vets
    lists: dict[tuple[Worker, Worker], Lists] = field(default_factory=dict)
    gone_at: float | None = None
    added: list[tuple[Port, str]] = field(default_factory=list)
    vetted: set[Worker] = field(default_factory=set)

    @property
    def engine_id(self) -> str:
        return self.greeting.geometry.engine_id

    def agent_name(self, worker: Worker) -> str:
        return self.greeting.endpoints[worker].agent

    def connect(self, agent: Port, worker: Worker) -> None:
        """Let one of our ranks reach a rank of the peer. Raises `HandshakeError`."""
        endpoint = self.greeting.endpoints[worker]
        if agent.knows(endpoint.agent):
            raise HandshakeError(
                agent.name, repr(self.engine_id), f"agent {endpoint.agent!r}", "a name of its own"
            )
        if worker not in self.vetted:
            self.vetting.check(endpoint.agent, endpoint.metadata)
            self.vetted.add(worker)
        agent.add_peer(endpoint.agent, endpoint.metadata)
        self.added.append((agent, endpoint.agent))

    def disconnect(self) -> None:
        """Forget the peer's agents. Only once nothing moves any more."""
        while self.added:
            agent, name = self.added.pop()
            agent.remove_peer(name)
        self.lists.clear()


def plans_between(producer: Greeting, consumer: Greeting) -> dict[Worker, EngineTransferPlan]:
    """The plan of each consumer rank, all made when two engines meet.

    Raises `IncompatibleEnginesError`, `GeometryError` or `DescriptorError`.
    """
    pair = meet(producer.geometry, consumer.geometry)
    bases = {worker: endpoint.bases for worker, endpoint in producer.endpoints.items()}
    return {
        worker: plan_transfer(
            producer.geometry,
            consumer.geometry,
            worker,
            pair=pair,
            producer_bases=bases,
            consumer_bases=endpoint.bases,
        )
        for worker, endpoint in consumer.endpoints.items()
    }


def link_to_producer(
    mine: Greeting,
    theirs: Greeting,
    line: int,
    *,
    agents: Mapping[Worker, Port],
    vetting: Vets,
) -> Link:
    """Meet a producer: plan, connect each of our ranks to those it faces, and prepare all lists."""
    link = Link(theirs, {line}, plans_between(theirs, mine), vetting)
    try:
        for worker, plan in link.plans.items():
            for source in plan.facing:
                link.connect(agents[worker], source)
            for channel in plan.channels:
                link.lists[worker, channel.source] = agents[worker].prepare(
                    link.agent_name(channel.source),
                    local=channel.consumer_rows,
                    remote=channel.producer_rows,
                )
    except BaseException:
        link.disconnect()
        raise
    return link


def link_to_consumer(mine: Greeting, theirs: Greeting, line: int, *, vetting: Vets) -> Link:
    """Meet a consumer. It reads by itself; only a push makes connections towards it."""
    check_engines(mine.geometry, theirs.geometry)
    return Link(theirs, {line}, {}, vetting)


def prepare_push(link: Link, mine: Greeting, agents: Mapping[Worker, Port]) -> None:
    """Connect our ranks to those of a consumer that they will write to, once per link."""
    if link.plans:
        return
    plans = plans_between(mine, link.greeting)
    try:
        for target, plan in plans.items():
            for source in plan.facing:
                link.connect(agents[source], target)
            for channel in plan.channels:
                link.lists[channel.source, target] = agents[channel.source].prepare(
                    link.agent_name(target),
                    local=channel.producer_rows,
                    remote=channel.consumer_rows,
                )
    except BaseException:
        link.disconnect()
        raise
    link.plans = plans
