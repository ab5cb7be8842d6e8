"""What is asked of a cluster of engines, and what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ..geometry import Worker

Tensors = tuple[NDArray[np.uint8], ...]
"""The tensors of one rank, each (blocks, page bytes), in the order of its page strides."""


class Fault(StrEnum):
    """What happens to the producer of a request, or to the request itself.

    ``kill-producer`` is SIGKILL while the request is under way, ``stop-producer`` SIGSTOP;
    ``restart-producer`` replaces its process by one of the same name after the handshake and
    before the request; ``corrupt-metadata`` garbles the metadata that it sends;
    ``abort-and-reuse`` gives the request up mid-flight and asks for its blocks again at once.
    """

    NONE = "none"
    KILL = "kill-producer"
    STOP = "stop-producer"
    RESTART = "restart-producer"
    CORRUPT = "corrupt-metadata"
    ABORT = "abort-and-reuse"


class Status(StrEnum):
    """How a request ended on the engine that receives it."""

    LANDING = "landing"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    DEADLINE = "deadline"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request as its consumer saw it. `error` says why it did not end ``done``.

    `quarantined`: its blocks were kept after it had ended, since data could still land in them.
    """

    request: str
    status: Status
    error: str = ""
    quarantined: bool = False


Sent = tuple[Worker, Worker, str]
"""A notification: the producer's rank, the consumer's rank, the producer's request id."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Outcome:
    """All that a run showed.

    `first` is the request under the fault, `again` the same blocks asked for once more afterwards
    (None without a fault), `bystander` the request of a second producer while the fault lasted.
    `memory` is what every consumer rank holds in the end, and `bystander_memory` what it holds in
    the blocks that the second producer's request went to: the same numbers, counted from the
    engine's own `num_blocks`. Where `again` is there, its ids are the request's with ``/again``
    behind them, and the bystander's with ``/bystander``.

    `notified` counts the notifications that the producers took, of all attempts. `freed` says of
    each request id of a producer whether every rank of it has its blocks back. `outside` counts
    bytes that changed around the tensors. `reuse_refused`: the blocks of an aborted or failed
    request were asked for while data could land in them, and refused.
    """

    first: Attempt
    again: Attempt | None
    bystander: Attempt | None
    memory: Mapping[Worker, Tensors]
    bystander_memory: Mapping[Worker, Tensors]
    notified: Mapping[Sent, int]
    freed: Mapping[str, bool]
    outside: int
    reuse_refused: bool
