"""Routes ``planned`` and ``memory``: plans of every consumer rank, carried out in this process.

On ``planned`` the descriptors of a plan are expanded and copied here, by NIXL's numbering and
nothing of ``ir``'s; on ``memory`` its own transport moves the data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.observation import Declined, Raised
from oracle.observation.transfer import Freed, Rank, Stray, Told, TransferReturned
from reference.model import TransferCase
from reference.transfer import SENTINEL, expect_transfer

from .convert import CONSUMER_START, PRODUCER_START, as_engines, as_request, bases_of
from .flat import FlatStage, bytes_of, expanded

if TYPE_CHECKING:
    from ir.transfer import (
        EngineGeometry,
        EngineTransferPlan,
        RequestIds,
        TransferRequest,
        Worker,
    )

STRAYS = 8
"""Of blocks outside memory so many are reported."""


def observe(case: TransferCase, route: str) -> TransferReturned | Declined:
    """Make every plan, pull every request on every rank, tell the producers."""
    if case.fault or case.push:
        return Declined("between-processes-only")
    try:
        producer, consumer = as_engines(case)
    except Exception as error:  # what the subject raises is an observation
        ranks = _ranks(case)
        return TransferReturned(ranks=ranks, meeting=(_raised(error),) * len(ranks))
    workers = consumer.workers
    ranks = tuple((worker.stage, worker.rank) for worker in workers)
    plans, meeting = _plans(producer, consumer)
    if any(error is not None for error in meeting) or expect_transfer(case).refused is not None:
        # Of engines that should not have met there is no memory to move.
        return TransferReturned(ranks=ranks, meeting=meeting)
    if route == "memory":
        return _Memory(case, producer, consumer, plans).run(ranks, meeting)
    return _Planned(case, producer, consumer, plans).run(ranks, meeting)


def _ranks(case: TransferCase) -> tuple[Rank, ...]:
    stages = range(len(case.consumer.stage_layers))
    return tuple((stage, rank) for stage in stages for rank in range(case.consumer.tp))


def _raised(error: BaseException) -> Raised:
    bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
    return Raised(type(error).__name__, bases, str(error))


def _plans(
    producer: EngineGeometry, consumer: EngineGeometry
) -> tuple[list[EngineTransferPlan], tuple[Raised | None, ...]]:
    from ir.transfer import plan as planning

    bases = {worker: bases_of(producer, worker, PRODUCER_START) for worker in producer.workers}
    ours: dict[int, tuple[int, ...]] = {}
    plans, meeting = [], []
    try:
        pair = planning.meet(producer, consumer)
    except Exception as error:  # as above
        return [], (_raised(error),) * len(consumer.workers)
    for worker in consumer.workers:
        if worker.stage not in ours:
            ours[worker.stage] = bases_of(consumer, worker, CONSUMER_START)
        try:
            plan = planning.plan_transfer(
                producer,
                consumer,
                worker,
                pair=pair,
                producer_bases=bases,
                consumer_bases=ours[worker.stage],
            )
        except Exception as error:  # as above
            meeting.append(_raised(error))
        else:
            plans.append(plan)
            meeting.append(None)
    return plans, tuple(meeting)


class _Pulling(ABC):
    """What both routes share: requests in order, each on every rank, and who is told."""

    def __init__(
        self,
        case: TransferCase,
        producer: EngineGeometry,
        consumer: EngineGeometry,
        plans: list[EngineTransferPlan],
    ) -> None:
        from ir.transfer import ProducerLeases
        from ir.transfer.mapping import notifications_per_producer

        self.case = case
        self.consumer = consumer
        self.plans = plans
        self.memory = expect_transfer(case).producers
        self.told: list[Told] = []
        self.freed: list[Freed] = []
        self.strays: list[Stray] = []
        self._awaited = notifications_per_producer(producer, consumer)
        self._leases = {worker: ProducerLeases() for worker in producer.workers}
        self._heard: dict[tuple[Rank, str], int] = defaultdict(int)

    @abstractmethod
    def pull(
        self, plan: EngineTransferPlan, request: TransferRequest, ids: RequestIds
    ) -> tuple[Any, ...]:
        """Move one request to one rank; the notifications that follow. Raises the subject's."""

    @abstractmethod
    def cells(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """By the consumer's stage, its tensors: (ranks, blocks, bytes) of uint64 codes."""

    @abstractmethod
    def writes(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """Shaped as `cells`: how often each byte was written."""

    def run(self, ranks: tuple[Rank, ...], meeting: tuple[Raised | None, ...]) -> TransferReturned:
        from ir.transfer import RequestIds

        results = []
        for each in self.case.requests:
            request = as_request(each)
            for worker, leases in self._leases.items():
                awaited = self._awaited[worker.stage, worker.rank]
                if awaited and not leases.holds(each.producer_request):
                    leases.hold(each.producer_request, awaited=awaited)
            raised: list[Raised | None] = []
            ids = None
            for plan in self.plans:
                try:
                    ids = ids or RequestIds(plan.producer, plan.consumer, request)
                    notes = self.pull(plan, request, ids)
                except Exception as error:  # what the subject raises is an observation
                    raised.append(_raised(error))
                    continue
                raised.append(None)
                for note in notes:
                    self._tell(plan.worker, note.source, note.request)
            results.append(tuple(raised))
        return TransferReturned(
            ranks=ranks,
            meeting=meeting,
            requests=tuple(results),
            cells=self.cells(),
            writes=self.writes(),
            strays=tuple(self.strays),
            told=tuple(self.told),
            freed=tuple(self.freed),
        )

    def _tell(self, consumer: Worker, producer: Worker, request: str) -> None:
        at = (producer.stage, producer.rank)
        self.told.append(Told(at, (consumer.stage, consumer.rank), request))
        self._heard[at, request] += 1
        if self._leases[producer].notify(request, (self.consumer.engine_id, consumer)):
            self.freed.append(Freed(at, request, self._heard[at, request]))


class _Planned(_Pulling):
    """Expands descriptors and copies, on all ranks of a stage in one array."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        engine = self.case.consumer
        self._sources = [FlatStage.of(tensors) for tensors in self.memory]
        self._targets = [
            FlatStage.of(
                [
                    np.full((engine.tp, engine.num_blocks, n), SENTINEL, dtype=np.uint64)
                    for n in self.consumer.page_strides(stage)
                ]
            )
            for stage in range(len(engine.stage_layers))
        ]

    def pull(
        self, plan: EngineTransferPlan, request: TransferRequest, ids: RequestIds
    ) -> tuple[Any, ...]:
        channels = {channel.source: channel for channel in plan.channels}
        target = self._targets[plan.worker.stage]
        for bound in plan.bind(request, ids=ids):
            channel = channels[bound.source]
            source = self._sources[bound.source.stage]
            to, lengths = expanded(channel.consumer_rows, bound.consumer_ids)
            at, read = expanded(channel.producer_rows, bound.producer_ids)
            if len(to) != len(at) or not np.array_equal(lengths, read):
                raise IndexError(f"{len(to)} blocks for {len(at)}; accepted: pairs of one length")
            ours = bytes_of(to - CONSUMER_START, lengths)
            theirs = bytes_of(at - PRODUCER_START, lengths)
            good = self._inside(target, ours, "write", plan.worker, plan.worker)
            good &= self._inside(source, theirs, "read", bound.source, plan.worker)
            if not good.all():
                ours, theirs = ours[good], theirs[good]
            rank = plan.worker.rank
            target.cells[rank, ours] = source.cells[bound.source.rank, theirs]
            np.add.at(target.writes[rank], ours, 1)
        return plan.notifications(request)

    def _inside(
        self, flat: FlatStage, cells: np.ndarray, side: str, worker: Worker, consumer: Worker
    ) -> np.ndarray:
        """Which cells lie in a tensor; those that do not are noted."""
        size = len(flat.held)
        within = (cells >= 0) & (cells < size)
        good = within & flat.held[np.where(within, cells, 0)]
        if not good.all() and len(self.strays) < STRAYS:
            outside = cells[~good]
            self.strays.append(
                Stray(
                    side,
                    (worker.stage, worker.rank),
                    (consumer.stage, consumer.rank),
                    int(outside.min()),
                    int(outside.max()),
                )
            )
        return good

    def cells(self) -> tuple[tuple[np.ndarray, ...], ...]:
        return tuple(flat.tensors() for flat in self._targets)

    def writes(self) -> tuple[tuple[np.ndarray, ...], ...]:
        return tuple(flat.counts() for flat in self._targets)


class _Memory(_Pulling):
    """Lets the subject's own transport move the data, between arenas of one process."""

    def __init__(self, *given: Any) -> None:
        from ir.transfer import Arena, MemoryTransport

        super().__init__(*given)
        producer = self.plans[0].producer
        self._arenas = {
            w: Arena(
                dict(
                    zip(
                        bases_of(producer, w, PRODUCER_START),
                        [tensor[w.rank] for tensor in self.memory[w.stage]],
                        strict=True,
                    )
                )
            )
            for w in producer.workers
        }
        self._targets = {}
        for w in self.consumer.workers:
            shapes = [(self.consumer.num_blocks, n) for n in self.consumer.page_strides(w.stage)]
            empty = [np.full(shape, SENTINEL, dtype=np.uint64) for shape in shapes]
            bases = bases_of(self.consumer, w, CONSUMER_START)
            self._targets[w] = Arena(dict(zip(bases, empty, strict=True)))
        self._transport = MemoryTransport(self._arenas)

    def pull(
        self, plan: EngineTransferPlan, request: TransferRequest, ids: RequestIds
    ) -> tuple[Any, ...]:
        before = len(self._transport.notified)
        self._transport.pull(plan, request, self._targets[plan.worker])
        return tuple(self._transport.notified[before:])

    def cells(self) -> tuple[tuple[np.ndarray, ...], ...]:
        return self._by_stage(lambda arena, tensor: arena.tensor(tensor))

    def writes(self) -> tuple[tuple[np.ndarray, ...], ...]:
        return self._by_stage(lambda arena, tensor: arena.written(tensor))

    def _by_stage(self, part: Any) -> tuple[tuple[np.ndarray, ...], ...]:
        found = []
        for stage in range(len(self.consumer.stage_layers)):
            arenas = [arena for w, arena in self._targets.items() if w.stage == stage]
            found.append(
                tuple(
                    np.stack(
                        [
                            part(arena, tensor).reshape(self.consumer.num_blocks, n)
                            for arena in arenas
                        ]
                    )
                    for tensor, n in enumerate(self.consumer.page_strides(stage))
                )
            )
        return tuple(found)
