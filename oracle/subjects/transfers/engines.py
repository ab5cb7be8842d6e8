"""Routes ``nixl`` and ``nixl-tcp``: engines in processes of their own, NIXL between them."""

from __future__ import annotations

from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.observation import Declined, Raised
from oracle.observation.engines import Bytes, Ended, EnginesReturned
from oracle.observation.transfer import Told
from reference.model import TransferCase
from reference.transfer import MIXED_SENTINEL, expect_transfer, mixed

from .convert import as_engines, as_request

if TYPE_CHECKING:
    from ir.transfer.nixl import Cluster, Outcome

TLS = {"nixl": None, "nixl-tcp": "tcp,self"}
"""What UCX may use: its default is synchronous on loopback and hides races."""
FAULTS = {
    "": "none",
    "kill": "kill-producer",
    "stop": "stop-producer",
    "restart": "restart-producer",
    "garble": "corrupt-metadata",
    "abort": "abort-and-reuse",
}
SECONDS = 5.0
"""The deadline of each request; a case has a deadline of its own."""

_clusters: dict[str, Cluster] = {}


def missing() -> str:
    """Why NIXL cannot be used here, or nothing."""
    from ir.transfer.nixl.binding import installed
    from ir.transfer.nixl.errors import NixlMissingError

    try:
        installed()
    except NixlMissingError as error:
        return str(error)
    return ""


def _cluster(route: str) -> Cluster:
    """The engines of this process for a route, which end with it."""
    from ir.transfer.nixl import Cluster

    if route not in _clusters:
        _clusters[route] = Cluster(tls=TLS[route], seconds=SECONDS, slab_bytes=1 << 28)
        Finalize(None, _clusters[route].close, exitpriority=10)
    return _clusters[route]


def observe(case: TransferCase, route: str) -> EnginesReturned | Raised | Declined:
    """Move the first request of a case. Whatever the subject raises is an observation."""
    from ir.transfer.nixl import Fault

    expected = expect_transfer(case)
    if expected.refused is not None or len(case.requests) != 1 or any(expected.requests):
        return Declined("one-good-request-only")
    try:
        producer, consumer = as_engines(case)
        memory = {
            worker: tuple(mixed(t[worker.rank]) for t in expected.producers[worker.stage])
            for worker in producer.workers
        }
        outcome = _cluster(route).run(
            producer,
            consumer,
            as_request(case.requests[0]),
            memory,
            push=case.push,
            fault=Fault(FAULTS[case.fault]),
            sentinel=MIXED_SENTINEL,
        )
    except Exception as error:  # what the subject raises is an observation
        bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
        return Raised(type(error).__name__, bases, str(error))
    return _returned(outcome, case)


def _returned(outcome: Outcome, case: TransferCase) -> EnginesReturned:
    return EnginesReturned(
        first=_ended(outcome.first),
        again=None if outcome.again is None else _ended(outcome.again),
        bystander=None if outcome.bystander is None else _ended(outcome.bystander),
        cells=_stacked(outcome.memory, case),
        bystander_cells=_stacked(outcome.bystander_memory, case) if case.fault else (),
        told={
            Told((p.stage, p.rank), (c.stage, c.rank), request): count
            for (p, c, request), count in outcome.notified.items()
        },
        freed=dict(outcome.freed),
        outside=outcome.outside,
        reuse_refused=outcome.reuse_refused,
    )


def _ended(attempt: Any) -> Ended:
    return Ended(attempt.status.value, attempt.error, attempt.quarantined)


def _stacked(memory: Any, case: TransferCase) -> Bytes:
    found = []
    for stage in range(len(case.consumer.stage_layers)):
        ranks = [memory[w] for w in sorted(memory) if w.stage == stage]
        found.append(tuple(np.stack([rank[t] for rank in ranks]) for t in range(len(ranks[0]))))
    return tuple(found)
