"""KV that waits for its consumers: staged as it is computed, held until it has been read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from ir.connector.errors import NotStagedError
from ir.connector.nixl.handover import Prefilled, Save
from ir.connector.nixl.staging import Staging
from ir.transfer.nixl import Engine

GRACE_SECONDS = 1.0
"""Blocks are kept so much longer than their consumer is told, whose read has ended by then."""


@dataclass(slots=True, kw_only=True)
class _Staged:
    """Whole KV of a prompt. `held`: a consumer has been named, and the engine keeps the lease."""

    request: str
    tokens: tuple[int, ...]
    blocks: tuple[int, ...]
    until: float
    held: bool = False


class Outgoing:
    """Owns the staged blocks of what this engine has saved. Times are of `clock`, in seconds."""

    def __init__(
        self, engine: Engine, staging: Staging, *, lease: float, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._staging = staging
        self._lease = lease
        self._clock = clock
        self._saving: list[tuple[Save, tuple[int, ...], Tensor]] = []
        self._staged: dict[str, _Staged] = {}
        self._sent: set[str] = set()
        self._serial = 0

    @property
    def news(self) -> bool:
        """Whether a request has been read whole since `sent` was last asked."""
        return bool(self._sent)

    def begin(self, saves: tuple[Save, ...]) -> None:
        """Take blocks for what a step saves. What has no room is not saved, which is no failure
        of its request: it has its tokens."""
        for save in saves:
            blocks = self._staging.take(len(save.tokens))
            if blocks is not None:
                self._saving.append((save, blocks, torch.tensor(save.slots)))

    def put(self, layer: str, cache: Tensor) -> None:
        for _, blocks, slots in self._saving:
            self._staging.put(layer, cache, slots.to(cache.device), blocks)

    def end(self, failed: Collection[str]) -> None:
        """All layers are staged: the KV may be offered, but for requests that failed to load."""
        for save, blocks, _ in self._saving:
            if save.request in failed:
                self._staging.give(blocks)
                continue
            self._serial += 1
            self._staged[f"{save.request}/{self._serial}"] = _Staged(
                request=save.request,
                tokens=save.tokens,
                blocks=blocks,
                until=self._clock() + self._lease,
            )
        self._saving.clear()

    def abandon(self) -> None:
        """The step failed: what it had begun to save is worth nothing."""
        for _, blocks, _ in self._saving:
            self._staging.give(blocks)
        self._saving.clear()

    def offer(self, request: str, consumer: str) -> Prefilled:
        """Hold a request's KV for one consumer, which has met this engine.

        Raises `NotStagedError` where none is staged, `PeerError` for an unknown consumer.
        """
        name = next((n for n, s in self._staged.items() if s.request == request and not s.held), "")
        if not name:
            waiting = sorted({s.request for s in self._staged.values() if not s.held})
            raise NotStagedError(
                f"staged KV of request {request!r}",
                "not there (offered already, expired, or without room when it was saved)",
                f"one of {waiting}",
            )
        self._engine.hold(consumer, name, seconds=self._lease + GRACE_SECONDS)
        staged = self._staged[name]
        staged.held = True
        return Prefilled(
            engine_id=self._engine.engine_id,
            life=self._engine.greeting.life,
            staged=name,
            tokens=staged.tokens,
            blocks=staged.blocks,
            readable_until=self._clock() + self._lease,
        )

    def progress(self) -> None:
        """Free what has been read, whose consumer is gone, or for which none was named in time."""
        for name, read in self._engine.let_go().items():
            staged = self._staged.pop(name)
            self._staging.give(staged.blocks)
            if read:
                self._sent.add(staged.request)
        now = self._clock()
        for name, staged in tuple(self._staged.items()):
            if not staged.held and now > staged.until:
                self._staging.give(staged.blocks)
                del self._staged[name]

    def sent(self) -> frozenset[str]:
        """The requests whose KV has been read whole since this was last asked."""
        sent, self._sent = frozenset(self._sent), set()
        return sent
