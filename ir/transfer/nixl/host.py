"""The engine of one process: made anew for each case, on agents that are kept."""

from __future__ import annotations

import os
import uuid
from multiprocessing.connection import Connection
from types import MappingProxyType

from ..errors import RequestError
from ..geometry import EngineGeometry
from .answering import answer_commands, die_with
from .engine import Engine, Snapshot
from .greeting import Endpoint, Greeting, encode
from .rank_agent import RankAgent, Vetting
from .side_channel import SideChannel
from .slab import Slab, offsets_of


class Host:
    """Agents are kept when the engine changes: opening one takes longer than most transfers."""

    def __init__(self, name: str, slab: Slab) -> None:
        self._name = name
        self._slab = slab
        self._agents: list[RankAgent] = []
        self._channel = SideChannel()
        self._vetting = Vetting(f"{name}/vetting")
        self.engine: Engine | None = None

    def configure(self, geometry: EngineGeometry, corrupt: str = "") -> int:
        """Be this engine from now on, in a new life; returns the port to greet it at.

        `corrupt` garbles its greeting: ``"wire"`` flips a bit of what is sent, ``"metadata"`` cuts
        the NIXL metadata of one rank in half. Raises `RequestError` while the engine so far writes
        to others, who take its hanging up for the end of its writes.
        """
        if self.engine is not None and self.engine.writing:
            held = self.engine.snapshot().held
            raise RequestError(held[0], "its engine", "writing", "an engine with no writes left")
        self._channel.hang_up()
        self.engine = None
        for agent in self._agents:
            agent.deregister()
        while len(self._agents) < len(geometry.workers):
            self._agents.append(RankAgent(f"{self._name}#{len(self._agents)}"))
        agents = dict(zip(geometry.workers, self._agents, strict=False))
        offsets = offsets_of(geometry, self._slab.size)
        bases = {w: tuple(self._slab.address + at for at in offsets[w]) for w in offsets}
        for worker, agent in agents.items():
            sizes = [n * geometry.num_blocks for n in geometry.page_strides(worker.stage)]
            agent.register(list(zip(bases[worker], sizes, strict=True)))
        self.engine = Engine(
            geometry,
            agents=agents,
            bases=bases,
            life=uuid.uuid4().hex,
            channel=self._channel,
            vetting=self._vetting,
        )
        self._channel.greeting = garbled(self.engine.greeting, corrupt)
        return self._channel.port

    def snapshot(self) -> Snapshot | None:
        return self.engine and self.engine.snapshot()

    def turn(self) -> bool:
        """Step the engine; whether it has more to do at once."""
        if self.engine is None:
            return False
        self.engine.step()
        return self.engine.busy

    def owner_of(self, command: str) -> object:
        return self if command in ("configure", "snapshot") else self.engine


def garbled(greeting: Greeting, how: str) -> bytes:
    """A greeting as it would be sent, or broken on its way or before it."""
    if how == "metadata":
        worker = greeting.geometry.workers[0]
        whole = greeting.endpoints[worker]
        half = Endpoint(whole.agent, whole.metadata[: len(whole.metadata) // 2], whole.bases)
        endpoints = MappingProxyType({**greeting.endpoints, worker: half})
        return encode(Greeting(greeting.geometry, greeting.life, endpoints))
    sent = bytearray(encode(greeting))
    if how == "wire":
        sent[len(sent) // 2] ^= 0x10
    return bytes(sent)


def main(name: str, size: int, pipe_fd: int, slab_fd: int, parent: int) -> None:
    """Serve until the starter is gone."""
    die_with(parent)
    host = Host(name, Slab(slab_fd, size))
    answer_commands(Connection(pipe_fd), host.owner_of, host.turn)
    # UCX and NIXL would take their time to tear down what the kernel closes anyway.
    os._exit(0)
