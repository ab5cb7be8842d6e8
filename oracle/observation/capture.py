"""What a subject reports of one captured function: its ledger, and what every event did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .call import ObservedTensor, Raised


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBy:
    """A documented refusal: by capture, ledger, inputs or seal, as ``family`` says.

    ``reason`` is a capture's slug. ``owner`` is the position among the body's inputs of the one
    that a ledger names; None where it names none of them.
    """

    family: str
    reason: str = ""
    owner: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One entry of a graph's ledger. ``position`` is that of the owner it names, None for none.

    ``storage`` is the case's number of the memory it has, -1 for other memory; the rest says
    where in it, in elements.
    """

    owner: str
    position: int | None
    storage: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSeen:
    """``outputs`` of a replay that returned, ``eager`` those of the function called straight.

    ``compiled`` is how many compiled graphs the latter ran. ``eager_memory`` holds its own
    storages after the event.
    ``shared`` says with whom a copied result shares memory. ``kept`` are the copied results as
    they are after the last event.
    """

    refused: RefusedBy | None = None
    raised: Raised | None = None
    outputs: tuple[ObservedTensor, ...] = ()
    eager: tuple[ObservedTensor, ...] = ()
    memory: tuple[np.ndarray | None, ...] = ()
    shared: tuple[str, ...] = ()
    kept: tuple[ObservedTensor, ...] | None = None
    eager_memory: tuple[np.ndarray | None, ...] = ()
    compiled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureReturned:
    """``refused``: the capture was; then there is no ledger and no event.

    ``ledgers`` has one for each graph, the largest batch's first.
    ``memory`` holds the storages right after the capture. ``as_stock``: where the function called
    straight is compiled and gives something else, so does torch.compile without us.
    """

    route: str
    refused: RefusedBy | None
    ledgers: tuple[tuple[LedgerLine, ...], ...]
    memory: tuple[np.ndarray | None, ...]
    events: tuple[EventSeen, ...]
    as_stock: bool = False
