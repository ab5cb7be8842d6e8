"""What a prefilling engine hands to a decoding one, and what a step moves of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Which way an engine's KV goes."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    BOTH = "both"

    @property
    def produces(self) -> bool:
        return self is not Role.CONSUMER

    @property
    def consumes(self) -> bool:
        return self is not Role.PRODUCER


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilled:
    """KV that waits on an engine for one consumer: whoever routes requests carries it there.

    `staged` is the producer's id of it, `tokens` what it is the KV of, `blocks` where it lies in
    the producer's staging. It must be read by `readable_until`, in seconds of the host's monotonic
    clock: engines meet over loopback and share that clock. `life` is the producer's; its memory
    is gone with it, whoever takes its name.
    """

    engine_id: str
    life: str
    staged: str
    tokens: tuple[int, ...]
    blocks: tuple[int, ...]
    readable_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """KV to load for a request. `slots` are those of the tokens in the caches, in order.

    `prefilled` is None where what this one was matched with is past its lease, or was taken by
    another since the scheduler claims nothing.
    """

    request: str
    prefilled: Prefilled | None
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """KV to keep for a consumer, of the first tokens of a prompt."""

    request: str
    tokens: tuple[int, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NixlMetadata:
    """What a step moves; nothing in a dummy run."""

    pulls: tuple[Pull, ...] = ()
    saves: tuple[Save, ...] = ()
