"""What ranks tell each other with NIXL notifications: a request's blocks were read, or written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from ..geometry import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """From rank `worker` of `engine`. `request` is the producer's id whoever sends.

    `life` is the receiver's: what was meant for an earlier process of its name must not free or
    complete a request of this one. A consumer's id goes with what was ``wrote`` alone.
    """

    kind: Literal["read", "wrote"]
    engine: str
    worker: Worker
    life: str
    request: str
    consumer_request: str = ""

    def encode(self) -> bytes:
        stage, rank = self.worker.stage, self.worker.rank
        fields = (self.kind, self.engine, stage, rank, self.life, self.request)
        return json.dumps((*fields, self.consumer_request)).encode()


def decode(data: bytes) -> Notice | None:
    """A notice, or None for bytes that are none: they are a peer's fault and cost nothing."""
    try:
        kind, engine, stage, rank, life, request, consumer_request = json.loads(data)
    except (TypeError, ValueError):
        return None
    texts = (engine, life, request, consumer_request)
    if kind not in ("read", "wrote") or not all(isinstance(text, str) for text in texts):
        return None
    if not (isinstance(stage, int) and isinstance(rank, int)):
        return None
    return Notice(
        kind=kind,
        engine=engine,
        worker=Worker(stage, rank),
        life=life,
        request=request,
        consumer_request=consumer_request,
    )
