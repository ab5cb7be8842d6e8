"""What a subject reports of a worker with a KV connector: its steps, caches and store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reference.connector import Entry

from .call import Raised

Called = tuple[str, int]
"""A call of a connector by name, and the layer, 0 where it has none."""


BIND: Called = ("bind_connector_metadata", 0)
CLEAR: Called = ("clear_connector_metadata", 0)
"""What begins and what ends every step."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What was bound: whether the connector made it, and whether for this very step."""

    own: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What a step's `get_finished` said."""

    sent: frozenset[str]
    received: frozenset[str]
    failed: Mapping[str, str]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class StepSeen:
    """What was seen of one event, or of a warm-up.

    `calls` are what the connector was called for, from ``bind_connector_metadata`` to
    ``clear_connector_metadata``, each step of the worker in a tuple of its own; `unbound` counts
    calls with nothing bound. `device`: the hooks in the order in which their work ran on the
    device, None where they do none there. `caches` holds the bytes afterwards, (layers, 2, slots,
    bytes); None after a death. `tokens`, `failed` and `logits` (rows, vocabulary), the rows of one
    request after those of another, are the result of a real step. `told` is what the connector
    said in its last `get_finished`, `finished` the requests that it was given there. `admitted`
    says of each call by hand whether it was accepted, `ended` whether the step was let end there.
    """

    kind: str
    calls: tuple[tuple[Called, ...], ...] = ()
    bound: tuple[Bound, ...] = ()
    unbound: int = 0
    left_bound: bool = False
    output_changed: bool = False
    device: tuple[Called, ...] | None = None
    caches: NDArray[np.uint8] | None = None
    matched: Mapping[str, int] = field(default_factory=dict)
    told: Told | None = None
    finished: frozenset[str] = frozenset()
    tokens: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    logits: NDArray[np.float64] | None = None
    died: bool = False
    admitted: tuple[bool, ...] = ()
    ended: bool = True


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunSeen:
    """A whole run. `mode` is the kind of graph that was in force.

    `raised` is what ended it early: then `steps` are those before. `store` holds the bytes of the
    entries that can be read in the end, (layers, 2, tokens, bytes), by the name of their model and
    their tokens; `unreadable` those that cannot, `strays` are files that are no entry of any
    prefix of a prompt.
    """

    mode: str
    steps: tuple[StepSeen, ...]
    raised: Raised | None = None
    store: Mapping[Entry, NDArray[np.uint8]] = field(default_factory=dict)
    unreadable: frozenset[Entry] = frozenset()
    strays: tuple[str, ...] = ()
