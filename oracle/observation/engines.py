"""What a subject reports of one transfer between engines in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .transfer import Told

Bytes = tuple[tuple[NDArray[np.uint8], ...], ...]
"""By stage, the tensors of the consumer: (ranks, blocks, bytes)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a request ended (done, refused, failed, deadline, aborted or landing), and why."""

    status: str
    error: str = ""
    quarantined: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class EnginesReturned:
    """Every byte of `cells` is `reference.transfer.mixed` of its code.

    Without a fault there is `first` alone. With one, `first` is the request that it hit, `again`
    the same blocks asked for afterwards, `bystander` a second producer's request meanwhile, whose
    blocks are in `bystander_cells`; their ids end in ``/again`` and ``/bystander``. `told` counts
    the notifications that producers took, `freed` says of each of their request ids whether all
    its blocks are back. `outside` counts bytes around the tensors that changed. `reuse_refused`:
    blocks in which data could still land were asked for in vain.
    """

    first: Ended
    again: Ended | None
    bystander: Ended | None
    cells: Bytes
    bystander_cells: Bytes
    told: Mapping[Told, int]
    freed: Mapping[str, bool]
    outside: int
    reuse_refused: bool
