"""Engine processes for many transfers: two producers and a consumer, kept between cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType

from ..geometry import EngineGeometry, Worker
from ..request import TransferRequest
from .outcome import Fault, Outcome, Tensors
from .process import EngineProcess
from .stage import Scene, Stage


class Cluster:
    """Engines in processes of their own, which move data with NIXL over loopback.

    Opens no process before the first `run` and keeps them until `close`; a run that must replace
    one pays for it. `tls` goes to UCX as ``UCX_TLS`` (None: its default, which is synchronous on
    loopback; ``"tcp,self"`` shows races). `seconds` is the deadline of each request, `slab_bytes`
    the most that an engine's tensors may take. Raises `NixlMissingError` where NIXL is missing.
    """

    def __init__(
        self, *, tls: str | None = None, seconds: float = 5.0, slab_bytes: int = 1 << 32
    ) -> None:
        self._tls = tls
        self._seconds = seconds
        self._slab_bytes = slab_bytes
        self._processes: dict[str, EngineProcess] = {}
        self._corrupted = 0

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(process.pid for process in self._processes.values())

    def run(
        self,
        producer: EngineGeometry,
        consumer: EngineGeometry,
        request: TransferRequest,
        memory: Mapping[Worker, Tensors],
        *,
        push: bool = False,
        fault: Fault = Fault.NONE,
        sentinel: int = 0,
    ) -> Outcome:
        """Fill the producer's ranks with `memory`, the consumer's with `sentinel`, and transfer.

        Pulled by the consumer, or with `push` written by the producer. Raises the `TransferError`
        of a refusal at the handshake; a refused request is an `Attempt` with its reason.
        """
        faulty = fault is not Fault.NONE
        shift = consumer.num_blocks if faulty else 0
        scene = Scene(
            producer=producer,
            second=replace(producer, engine_id=f"{producer.engine_id}/bystander"),
            consumer=replace(consumer, num_blocks=consumer.num_blocks + shift),
            request=request,
            push=push,
            shift=shift,
        )
        try:
            return self._play(scene, memory, fault, sentinel)
        except BaseException:
            # Whatever state the processes are in, the next case must not inherit it.
            self.close()
            raise

    def close(self) -> None:
        """End every process of the cluster; none is left behind."""
        while self._processes:
            _, process = self._processes.popitem()
            process.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _process(self, name: str) -> EngineProcess:
        if name not in self._processes:
            self._processes[name] = EngineProcess(name, tls=self._tls, slab_bytes=self._slab_bytes)
        return self._processes[name]

    def _play(
        self, scene: Scene, memory: Mapping[Worker, Tensors], fault: Fault, sentinel: int
    ) -> Outcome:
        faulty = fault is not Fault.NONE
        stage = Stage(
            scene,
            consumer=self._process("consumer"),
            producer=self._process("producer"),
            bystander=self._process("bystander") if faulty else None,
            seconds=self._seconds,
        )
        corrupt = ""
        if fault is Fault.CORRUPT:
            self._corrupted += 1
            corrupt = ("wire", "metadata")[self._corrupted % 2]
        stage.prepare(memory, sentinel=sentinel, corrupt=corrupt)
        return stage.suffer(fault) if faulty else stage.plain()
