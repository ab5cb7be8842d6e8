"""What a subject reports of one transfer: refusals, memory, and who was told what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .call import Raised

Rank = tuple[int, int]
"""Pipeline stage and rank within tensor parallelism."""


@dataclass(frozen=True, slots=True)
class Told:
    """A notification: from which consumer rank to which producer rank, about which request."""

    producer: Rank
    consumer: Rank
    request: str


@dataclass(frozen=True, slots=True)
class Freed:
    """A producer rank gave a request's blocks back, having been told by so many consumers."""

    producer: Rank
    request: str
    told_by: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A block of a plan that leaves the memory of its rank.

    `side` is "read" or "write"; `first` and `last` count bytes from the first tensor of `rank`.
    """

    side: str
    rank: Rank
    consumer: Rank
    first: int
    last: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class TransferReturned:
    """The engines met, or one was refused, and the requests were pulled in order.

    `meeting` says for each consumer rank what making its plan raised; where any did, nothing else
    happened. `requests` says for each request what each consumer rank raised. `cells` holds the
    consumer's tensors by stage, (ranks, blocks, bytes), and `writes` how often each was written,
    None where the transport cannot count.
    """

    ranks: tuple[Rank, ...]
    meeting: tuple[Raised | None, ...]
    requests: tuple[tuple[Raised | None, ...], ...] = ()
    cells: tuple[tuple[NDArray[np.uint64], ...], ...] = ()
    writes: tuple[tuple[NDArray[np.int32], ...], ...] | None = None
    strays: tuple[Stray, ...] = ()
    told: tuple[Told, ...] = ()
    freed: tuple[Freed, ...] = ()
