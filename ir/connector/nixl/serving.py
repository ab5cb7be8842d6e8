"""An engine that serves: model, scheduler, runner and connector in the loop of one process."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import numpy as np
import torch
from numpy.typing import NDArray

from ir.connector.model import ModelSize
from ir.connector.nixl.connector import NixlConnector
from ir.connector.nixl.handover import Prefilled, Role
from ir.connector.nixl.tensor_parallel import TensorParallelModel
from ir.connector.policy import GraphMode
from ir.connector.runner import Runner
from ir.connector.scheduler import Scheduler
from ir.transfer.nixl.answering import answer_commands, die_with


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSetup:
    """What an engine is. Those that exchange KV have equal layers, heads, dtype and `model`.

    `rows` are those of a step at most; `blocks` are staged beside the caches. A read may take
    `seconds`, and what is staged is kept for `lease` seconds.
    """

    engine_id: str
    role: Role = Role.BOTH
    tp: int = 1
    model: str = "m"
    size: ModelSize = field(default_factory=ModelSize)
    dtype: torch.dtype = torch.float32
    seed: int = 0
    mode: GraphMode = GraphMode.EAGER
    rows: int = 16
    blocks: int = 64
    seconds: float = 5.0
    lease: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an engine has done with its requests: tokens and failures.

    Of those that have begun, `handed_over` began with KV that another engine had computed and
    this one was to read, `computed` with none. `sent` are those whose KV another has read.
    """

    done: dict[str, list[int]]
    failed: dict[str, str]
    handed_over: frozenset[str]
    computed: frozenset[str]
    sent: frozenset[str]
    unfinished: frozenset[str]


class ServingEngine:
    """Runs steps as long as there are requests, and answers peers in between."""

    def __init__(self, setup: EngineSetup) -> None:
        self._connector = NixlConnector(
            setup.engine_id,
            model=setup.model,
            role=setup.role,
            tp=setup.tp,
            blocks=setup.blocks,
            seconds=setup.seconds,
            lease=setup.lease,
        )
        model = TensorParallelModel(setup.size, tp=setup.tp, dtype=setup.dtype, seed=setup.seed)
        sizes = tuple(2**i for i in range((setup.rows - 1).bit_length() + 1))
        self._runner = Runner(model, self._connector, setup.mode, sizes=sizes)
        self._runner.warm_up()
        self._scheduler = Scheduler(setup.size, self._connector, rows=setup.rows)
        self._blocks: dict[str, tuple[int, ...]] = {}
        self._done: dict[str, list[int]] = {}
        self._failed: dict[str, str] = {}
        self._handed_over: set[str] = set()
        self._computed: set[str] = set()
        self._sent: set[str] = set()
        self._unfinished: set[str] = set()

    def port(self) -> int:
        """Where consumers meet this engine."""
        return self._connector.port

    def meet(self, port: int) -> str:
        """Meet a producer. Raises as `NixlConnector.meet`."""
        return self._connector.meet(port)

    def add(self, request: str, prompt: tuple[int, ...], tokens: int) -> None:
        """Admit a request. Raises `ConnectorError`."""
        self._scheduler.add(request, prompt, tokens=tokens)
        self._unfinished.add(request)

    def offer(self, request: str, consumer: str) -> Prefilled:
        """Raises as `NixlConnector.offer`."""
        return self._connector.offer(request, consumer=consumer)

    def accept(self, prefilled: Prefilled) -> None:
        self._connector.accept(prefilled)

    def served(self) -> Served:
        """All since the start."""
        return Served(
            done=dict(self._done),
            failed=dict(self._failed),
            handed_over=frozenset(self._handed_over),
            computed=frozenset(self._computed),
            sent=frozenset(self._sent),
            unfinished=frozenset(self._unfinished),
        )

    def free_blocks(self) -> int:
        """Staged blocks that hold nothing."""
        return self._connector.free_blocks

    def kv(self, request: str, tokens: int) -> list[NDArray[np.uint8]]:
        """By layer, the KV of a request's first tokens as it lies in the caches now, as bytes:
        (2, tokens, heads, bytes of a head). Another request may have its blocks after its end.
        """
        size = self._runner.model.size.block_size
        slots = [self._blocks[request][i // size] * size + i % size for i in range(tokens)]
        caches = self._runner.model.caches.values()
        return [cache.flatten(1, 2)[:, slots].view(torch.uint8).numpy() for cache in caches]

    def turn(self) -> bool:
        """One step where there is something to compute or to report; whether more is urgent."""
        if not self._scheduler.idle or self._connector.news:
            self._step()
        else:
            self._connector.progress()
        return not self._scheduler.idle or self._connector.busy or self._connector.news

    def _step(self) -> None:
        output = self._scheduler.step()
        self._blocks.update({r.request: r.blocks for r in output.requests})
        self._handed_over.update(r.request for r in output.requests if r.load)
        self._computed.update(r.request for r in output.requests if not (r.load or r.start))
        result = self._runner.step(output)
        done = self._scheduler.update(result.tokens, result.failed)
        self._done.update(done)
        self._failed.update(result.failed)
        self._sent |= result.sent
        self._unfinished -= done.keys() | result.failed.keys()


def main(pipe_fd: int, parent: int) -> None:
    """Be the engine whose setup comes first over the pipe, until the starter is gone."""
    die_with(parent)
    torch.set_num_threads(1)
    pipe = Connection(pipe_fd)
    setup = pipe.recv()
    try:
        engine = ServingEngine(setup)
    except Exception as error:
        pipe.send((False, error))
        sys.exit(1)
    pipe.send((True, engine.port()))
    answer_commands(pipe, lambda _command: engine, engine.turn)
    # UCX and NIXL would take their time to tear down what the kernel closes anyway.
    os._exit(0)
