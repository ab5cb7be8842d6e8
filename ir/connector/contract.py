"""The KV-connector contract: what an engine calls, and when.

A connector has two sides, often in two processes. The scheduler side turns each scheduler output
into metadata of the connector's own; nobody else makes or reads it. The worker side moves KV with
that metadata bound. Names and order are those of vLLM's KV connectors (v1).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from torch import Tensor


class GraphPolicy(enum.Enum):
    """How the layer-wise hooks of a connector live with captured graphs."""

    CAPTURED = "captured"
    """They are device work on fixed addresses and are recorded into the FULL graph."""
    PIECEWISE = "piecewise"
    """They run in Python between the pieces of a model: no FULL graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRequest:
    """What one step does for one request.

    `tokens` are computed at positions `start`, `start + 1`, ...; `blocks` hold the KV of all
    positions. KV of the first `load` positions comes from the connector before the step's
    attention; KV of the first `save` positions goes to it afterwards.
    """

    request: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    start: int
    blocks: tuple[int, ...]
    load: int = 0
    save: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerOutput:
    """One step: its requests, and those that ended since the last one. Immutable."""

    step: int
    requests: tuple[ScheduledRequest, ...] = ()
    finished: frozenset[str] = frozenset()


EMPTY = SchedulerOutput(step=-1)
"""What warm-up, capture and every other dummy run are scheduled with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Requests whose KV has been sent or received whole, and those that failed, with the reason."""

    sent: frozenset[str] = frozenset()
    received: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class SchedulerSide(Protocol):
    """What the scheduler calls."""

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        """How many leading tokens of a prompt the connector can load. At any time."""
        ...

    def build_connector_meta(self, output: SchedulerOutput) -> object:
        """Metadata for the worker side: once for each step, dummy ones included.

        An output without requests gives metadata that moves nothing. The output is not changed.
        """
        ...


@runtime_checkable
class ClaimingSide(SchedulerSide, Protocol):
    """A scheduler side whose KV can be loaded once only: it need not have this call else."""

    def update_state_after_alloc(self, request: str, prompt: tuple[int, ...], tokens: int) -> None:
        """A request has been admitted, counting on the `tokens` tokens that were matched.

        They match no other request from now on.
        """
        ...


class WorkerSide(Protocol):
    """What a worker calls, in this order in every step; `ir.connector.lifecycle` enforces it."""

    graph_policy: GraphPolicy | None
    """None where the connector says neither: it is then refused under FULL graphs."""

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        """The caches by layer, in layer order. Once, before the first step.

        A cache is (2, blocks, block size, heads, head size), keys before values.
        """
        ...

    def bind_connector_metadata(self, metadata: object) -> None:
        """Begin a step. With nothing bound; `metadata` is from `build_connector_meta`."""
        ...

    def start_load_kv(self) -> None:
        """Begin to load. Once, after bind and before the forward pass; does not wait."""
        ...

    def wait_for_layer_load(self, layer: str) -> None:
        """Return when the layer's loaded KV is in its cache. Before the layer's attention.

        In a FULL graph it is called while the graph is captured, and replayed with it.
        """
        ...

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        """Take what is to be saved of the layer's KV. After the layer's attention."""
        ...

    def wait_for_save(self) -> None:
        """Return when saved KV may be overwritten. Once, after the last layer."""
        ...

    def get_finished(self, finished: frozenset[str]) -> Finished:
        """What has been moved or has failed. Once, after `wait_for_save`.

        finished: requests that ended, and of which nothing more will be scheduled.
        """
        ...

    def clear_connector_metadata(self) -> None:
        """End the step, also one that failed. Afterwards nothing is bound."""
        ...


class Connector(SchedulerSide, WorkerSide, Protocol):
    """Both sides in one object."""
