"""KV on its way from producers: read into staged blocks, and from there into the caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ir.connector.errors import LoadError
from ir.connector.nixl.handover import Prefilled, Pull
from ir.connector.nixl.staging import Staging
from ir.transfer import TransferError, TransferRequest
from ir.transfer.nixl import Engine, Status

POLL_SECONDS = 0.0001


@dataclass(slots=True, kw_only=True)
class _Load:
    """One read under way. `name` is this engine's id of it: a request's name may come again."""

    request: str
    name: str
    blocks: tuple[int, ...]
    slots: Tensor


class Incoming:
    """Owns the staged blocks of what this engine reads. Times are of `clock`, in seconds."""

    def __init__(
        self, engine: Engine, staging: Staging, *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._staging = staging
        self._seconds = seconds
        self._clock = clock
        self._loads: list[_Load] = []
        self._late: list[_Load] = []
        self._serial = 0
        self.failed: dict[str, str] = {}
        self.received: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether anything may still land."""
        return bool(self._loads or self._late)

    def begin(self, pulls: tuple[Pull, ...]) -> None:
        """Start to read. A request that cannot be read has failed, and only it."""
        for pull in pulls:
            try:
                self._start(pull)
            except (TransferError, LoadError) as error:
                self.failed[pull.request] = str(error)

    def _start(self, pull: Pull) -> None:
        prefilled = pull.prefilled
        if prefilled is None:
            raise LoadError(
                f"prefilled KV of request {pull.request!r}",
                "taken by another request, or past its lease",
                "one hand-over for each, in time",
            )
        left = self._left(prefilled)
        blocks = self._staging.take(len(pull.slots))
        if blocks is None:
            raise LoadError(
                f"staged blocks for request {pull.request!r}",
                str(self._staging.blocks_for(len(pull.slots))),
                f"at most {self._staging.free}, as many as are free",
            )
        self._serial += 1
        name = f"{pull.request}/{self._serial}"
        load = _Load(request=pull.request, name=name, blocks=blocks, slots=torch.tensor(pull.slots))
        try:
            self._engine.pull(
                prefilled.engine_id,
                TransferRequest(
                    producer_request=prefilled.staged,
                    consumer_request=name,
                    prompt_tokens=len(pull.slots),
                    producer_blocks=(prefilled.blocks,),
                    consumer_blocks=(blocks,),
                ),
                seconds=left,
            )
        except TransferError:
            self._staging.give(blocks)
            raise
        self._loads.append(load)

    def _left(self, prefilled: Prefilled) -> float:
        """Seconds for a read. Raises `LoadError` for KV that is no longer where it was."""
        what = f"prefilled KV {prefilled.staged!r} of engine {prefilled.engine_id!r}"
        left = prefilled.readable_until - self._clock()
        if left <= 0:
            raise LoadError(what, f"{-left:.1f} seconds past its lease", "one that is held")
        life = self._engine.life_of(prefilled.engine_id)
        if life != prefilled.life:
            raise LoadError(what, "of an earlier process of that name", f"of its life {life}")
        return min(self._seconds, left)

    def wait(self) -> None:
        """Return when every read of the step has ended, at its deadline at the latest."""
        for load in self._loads:
            if load.request in self.failed or load.request in self.received:
                continue
            while self._engine.status(load.name) is Status.LANDING:
                self._engine.step()
                time.sleep(POLL_SECONDS)
            if self._engine.status(load.name) is Status.DONE:
                self.received.add(load.request)
            else:
                self.failed[load.request] = self._engine.reason(load.name)

    def get(self, layer: str, cache: Tensor) -> None:
        """Copy what has landed into the layer's cache."""
        for load in self._loads:
            if load.request in self.received:
                self._staging.get(layer, cache, load.slots.to(cache.device), load.blocks)

    def end(self) -> None:
        """The step is over. What may still land keeps its blocks until it cannot."""
        for load in self._loads:
            if self._engine.landing(load.name):
                self._engine.abort(load.name)
        self._late += self._loads
        self._loads = []
        self.failed, self.received = {}, set()
        self.progress()

    def progress(self) -> None:
        """Free the blocks of reads that have ended."""
        for load in tuple(self._late):
            if not self._engine.landing(load.name):
                self._engine.forget(load.name)
                self._staging.give(load.blocks)
                self._late.remove(load)
