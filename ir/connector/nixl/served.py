"""Engines in processes of their own: prefill on one, decode on another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ir.connector.errors import ConnectorError, NotStagedError
from ir.connector.nixl.handover import Prefilled
from ir.connector.nixl.serving import EngineSetup, Served
from ir.transfer.nixl.binding import installed
from ir.transfer.nixl.child import ANSWER_SECONDS, ChildProcess
from ir.transfer.nixl.errors import PeerError

POLL_SECONDS = 0.001

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from ir.connector.nixl.serving import main
main(*map(int, sys.argv[2:]))
"""


class ServedEngine:
    """One engine's process, started at once and ended by `close`.

    It runs steps by itself while it has requests. `tls` goes to UCX as ``UCX_TLS``, None for its
    default. Raises `NixlMissingError`, or the `IrError` of a setup that is refused.
    """

    def __init__(self, setup: EngineSetup, *, tls: str | None = None) -> None:
        installed()
        self.setup = setup
        root = str(Path(__file__).parents[3])
        self.process = ChildProcess(
            setup.engine_id,
            tls=tls,
            program=_PROGRAM,
            arguments=(root,),
            # It answers between steps, and a step may wait for a read.
            patience=ANSWER_SECONDS + setup.seconds,
        )
        self._introduce()

    def _introduce(self) -> None:
        try:
            self.port: int = self.process.tell(self.setup)
        except BaseException:
            self.process.close()
            raise

    @property
    def engine_id(self) -> str:
        return self.setup.engine_id

    def meet(self, producer: ServedEngine) -> None:
        """Let this engine, a consumer, meet a producer. Raises as `NixlConnector.meet`."""
        self.process.ask("meet", port=producer.port)

    def add(self, request: str, prompt: tuple[int, ...], *, tokens: int) -> None:
        """Admit a request that shall generate `tokens` tokens. Raises `ConnectorError`."""
        self.process.ask("add", request=request, prompt=prompt, tokens=tokens)

    def offer(self, request: str, *, consumer: str) -> Prefilled:
        """Raises as `NixlConnector.offer`."""
        return self.process.ask("offer", request=request, consumer=consumer)

    def accept(self, prefilled: Prefilled) -> None:
        """Let the next request whose prompt begins with these tokens read them."""
        self.process.ask("accept", prefilled=prefilled)

    def served(self) -> Served:
        """What the engine has done so far."""
        return self.process.ask("served")

    def kv(self, request: str, tokens: int) -> list[NDArray[np.uint8]]:
        """As `ServingEngine.kv`."""
        return self.process.ask("kv", request=request, tokens=tokens)

    def free_blocks(self) -> int:
        """Staged blocks that hold nothing."""
        return self.process.ask("free_blocks")

    def finish(self, *, seconds: float = 60.0) -> Served:
        """What the engine has done once every request has ended. Raises `PeerError` after `seconds`
        and where the process has ended.
        """
        deadline = time.monotonic() + seconds
        while (served := self.served()).unfinished:
            if time.monotonic() > deadline:
                raise PeerError(
                    "router",
                    self.engine_id,
                    f"busy with {sorted(served.unfinished)}",
                    f"done within {seconds} seconds",
                )
            time.sleep(POLL_SECONDS)
        return served

    def restart(self) -> None:
        """Another process under the same name, with nothing of the one before."""
        self.process.restart()
        self._introduce()

    def close(self) -> None:
        """End the process; nothing of it is left."""
        self.process.close()

    def __enter__(self) -> ServedEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve_apart(
    prefill: ServedEngine,
    decode: ServedEngine,
    prompts: Mapping[str, tuple[int, ...]],
    *,
    tokens: int,
) -> Served:
    """Prefill prompts on one engine, and generate `tokens` tokens for each on the other.

    The engines must have met. A request of which the producer has nothing staged (no room, a
    failure, a lease that is over) is computed whole by the consumer, whose `Served` tells which;
    one whose KV is offered and cannot be read then fails, and no other. Raises `ConnectorError`
    for engines whose roles let nothing go over, `PeerError` for those that have not met.
    """
    for side, engine, able, accepted in (
        ("prefilling", prefill, prefill.setup.role.produces, "producer or both"),
        ("decoding", decode, decode.setup.role.consumes, "consumer or both"),
    ):
        if not able:
            what = f"the role of {side} engine {engine.engine_id!r}"
            raise ConnectorError(what, engine.setup.role.value, accepted)
    for request, prompt in prompts.items():
        prefill.add(request, prompt, tokens=1)
    prefill.finish()
    for request, prompt in prompts.items():
        try:
            offered = prefill.offer(request, consumer=decode.engine_id)
        except NotStagedError:
            # The consumer has the prompt.
            offered = None
        if offered is not None:
            decode.accept(offered)
        decode.add(request, prompt, tokens=tokens)
    return decode.finish()
