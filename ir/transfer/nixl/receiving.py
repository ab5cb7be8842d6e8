"""The requests that an engine receives, pulled by itself or pushed by a producer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import RequestError
from ..geometry import EngineGeometry, Worker
from ..leases import ConsumerLeases
from ..plan import RequestIds
from ..request import NULL_BLOCK, TransferRequest, pair_units
from .errors import PeerError
from .link import Link
from .notice import Notice
from .outcome import Sent, Status
from .port import Handle, Port

SETTLE_SECONDS = 0.5
"""How long what a dead peer had sent may take out of the kernel's buffers, polled all the while."""

Block = tuple[int, int]
"""The pool of blocks (a group's own, or 0 where groups share tensors) and the number in it."""


@dataclass(eq=False, slots=True, kw_only=True)
class Receipt:
    """One request. `moves` are the reads under way, by our rank and the producer's.

    Its blocks may be reused when `landing` is over, whatever its status says before: when every
    read has ended or failed; when every producer rank of a push has told, or its process has
    ended and what it had sent is in.
    """

    request: TransferRequest
    link: Link
    deadline: float
    blocks: frozenset[Block]
    pushed: bool
    status: Status = Status.LANDING
    error: str = ""
    landing: bool = True
    moves: dict[tuple[Worker, Worker], Handle] = field(default_factory=dict)
    broken: set[Worker] = field(default_factory=set)

    def fail(self, status: Status, error: str) -> None:
        if self.status is Status.LANDING:
            self.status, self.error = status, error


class Receiving:
    """Owns the consumer's leases of every rank. All times are of `clock`, in seconds."""

    def __init__(
        self,
        geometry: EngineGeometry,
        agents: Mapping[Worker, Port],
        clock: Callable[[], float],
    ) -> None:
        self._geometry = geometry
        self._agents = agents
        self._clock = clock
        self._leases = {worker: ConsumerLeases() for worker in geometry.workers}
        self.receipts: dict[str, Receipt] = {}
        self.notified: Counter[Sent] = Counter()

    def pull(self, link: Link, request: TransferRequest, *, seconds: float) -> None:
        """Read a request. Raises `RequestError` or `DescriptorError`, and then nothing moves."""
        ids = RequestIds(link.greeting.geometry, self._geometry, request)
        bound = {worker: plan.bind(request, ids=ids) for worker, plan in link.plans.items()}
        sources = {worker: {of.source for of in found} for worker, found in bound.items()}
        receipt = self._open(link, request, sources, seconds, pushed=False)
        for worker, channels in bound.items():
            agent = self._agents[worker]
            for of in channels:
                key = (worker, of.source)
                try:
                    receipt.moves[key] = agent.start(
                        "READ",
                        link.lists[key],
                        local_ids=of.consumer_ids,
                        remote_ids=of.producer_ids,
                    )
                except PeerError as error:
                    self._broke(receipt, worker, of.source, error)
            if not channels:
                self._tell(receipt, worker)
        self._close_if_over(receipt)

    def expect(self, link: Link, request: TransferRequest, *, seconds: float) -> None:
        """Wait for a request that the producer will write. Raises `RequestError`."""
        pair_units(link.greeting.geometry, self._geometry, request)
        facing = {worker: set(plan.facing) for worker, plan in link.plans.items()}
        self._open(link, request, facing, seconds, pushed=True)

    def wrote(self, notice: Notice, link: Link, worker: Worker) -> None:
        """A producer rank has written all that it had for one of our ranks."""
        self.notified[notice.worker, worker, notice.request] += 1
        receipt = self.receipts.get(notice.consumer_request)
        if receipt is None or receipt.link is not link:
            return
        if receipt.request.producer_request == notice.request:
            self._leases[worker].ended(notice.consumer_request, notice.worker)
            self._close_if_over(receipt)

    def abort(self, request: str) -> bool:
        """Give a request up; True where its blocks are free at once."""
        receipt = self.receipts[request]
        receipt.fail(Status.ABORTED, "aborted")
        free = [leases.abort(request) for leases in self._leases.values()]
        return all(free)

    def forget(self, request: str) -> None:
        """Drop what is known of a request that is over. Raises `RequestError` while it lands."""
        receipt = self.receipts.get(request)
        if receipt is None or receipt.landing:
            state = "unknown" if receipt is None else "landing"
            raise RequestError(request, "its data", state, "a request that nothing lands for")
        del self.receipts[request]

    def awaits(self, link: Link) -> bool:
        """Whether anything may still land from a peer."""
        return any(r.landing and r.link is link for r in self.receipts.values())

    @property
    def busy(self) -> bool:
        return any(receipt.landing for receipt in self.receipts.values())

    def step(self) -> None:
        """Look at deadlines first: what is only seen to be done after its deadline is late."""
        now = self._clock()
        for receipt in [receipt for receipt in self.receipts.values() if receipt.landing]:
            if now > receipt.deadline:
                receipt.fail(Status.DEADLINE, "its deadline has passed")
            for (worker, source), handle in tuple(receipt.moves.items()):
                try:
                    ended = self._agents[worker].ended(handle)
                except PeerError as error:
                    self._broke(receipt, worker, source, error)
                    continue
                if ended:
                    del receipt.moves[worker, source]
                    handle.release()
                    if self._leases[worker].ended(_id(receipt), source):
                        self._tell(receipt, worker)
            gone_at = receipt.link.gone_at
            if gone_at is not None:
                receipt.fail(Status.FAILED, f"producer {receipt.link.engine_id!r} is gone")
                if receipt.pushed and now > gone_at + SETTLE_SECONDS:
                    self._settle(receipt)
            self._close_if_over(receipt)

    def _open(
        self,
        link: Link,
        request: TransferRequest,
        sources: Mapping[Worker, set[Worker]],
        seconds: float,
        *,
        pushed: bool,
    ) -> Receipt:
        name = request.consumer_request
        if name in self.receipts:
            raise RequestError(name, "its id", "known already", "an id of its own")
        blocks = self._blocks(request)
        for other, receipt in self.receipts.items():
            if receipt.landing and receipt.blocks & blocks:
                raise RequestError(
                    name,
                    "consumer blocks",
                    f"{sorted(receipt.blocks & blocks)} of {other!r}, still landing",
                    "blocks that no data can land in",
                )
        receipt = Receipt(
            request=request,
            link=link,
            deadline=self._clock() + seconds,
            blocks=blocks,
            pushed=pushed,
        )
        for worker, of in sources.items():
            self._leases[worker].start(name, of)
        self.receipts[name] = receipt
        return receipt

    def _blocks(self, request: TransferRequest) -> frozenset[Block]:
        """Blocks that are written: those that the consumer has cached may be shared."""
        found = set()
        for pool, blocks in enumerate(request.consumer_blocks):
            state = self._geometry.model.groups[pool].kind.is_state
            cached = 0 if state else request.cached_tokens // self._geometry.block_tokens
            name = 0 if self._geometry.shares_tensors else pool
            found |= {(name, block) for block in blocks[cached:] if block != NULL_BLOCK}
        return frozenset(found)

    def _tell(self, receipt: Receipt, worker: Worker) -> None:
        """All that a rank had to read is read, wanted or not: its producers may free the blocks."""
        if worker in receipt.broken:
            return
        link = receipt.link
        notice = Notice(
            kind="read",
            engine=self._geometry.engine_id,
            worker=worker,
            life=link.greeting.life,
            request=receipt.request.producer_request,
        )
        for note in link.plans[worker].notifications(receipt.request):
            try:
                self._agents[worker].notify(link.agent_name(note.source), notice.encode())
            except PeerError:
                # The data is here; the producer is gone, and with it the blocks it held.
                receipt.broken.add(worker)

    def _broke(self, receipt: Receipt, worker: Worker, source: Worker, error: PeerError) -> None:
        """A read whose peer is gone has ended: nobody is left to send."""
        handle = receipt.moves.pop((worker, source), None)
        if handle is not None:
            handle.release()
        receipt.broken.add(worker)
        receipt.fail(Status.FAILED, str(error))
        self._leases[worker].ended(_id(receipt), source)

    def _settle(self, receipt: Receipt) -> None:
        """A dead producer writes no more: reads of ours end by themselves, its writes do not."""
        for worker, plan in receipt.link.plans.items():
            for source in plan.facing:
                self._leases[worker].ended(_id(receipt), source)

    def _close_if_over(self, receipt: Receipt) -> None:
        name = _id(receipt)
        if receipt.landing and all(of.may_reuse(name) for of in self._leases.values()):
            receipt.landing = False
            if receipt.status is Status.LANDING:
                receipt.status = Status.DONE


def _id(receipt: Receipt) -> str:
    return receipt.request.consumer_request
