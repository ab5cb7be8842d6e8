"""Rate of an engine's pull beside a bare NIXL loop over the same descriptors, in one process.

    python tests/bench/transfer_nixl_rate.py [--tls tcp,self] [--mib 1024] [--rounds 7]

A producer of TP 4 in a process of its own, a consumer of TP 2 in this one. Scattered: blocks of
16 KiB in random order on both sides; the bare loop reads exactly such blocks, in the request's
own order and, as a second opponent, in the order of the target's addresses. Contiguous: as many
bytes of a latent cache, whose blocks of 16 KiB abut on both sides, against one read per tensor.
Rounds are interleaved; the ratio is of medians. Exits 1 below 0.95 of the bare loop as given or
0.90 of the one read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from ir.transfer import EngineGeometry, ModelCache, TransferRequest, Worker
from ir.transfer import groups as make
from ir.transfer.descriptors import expand
from ir.transfer.nixl.engine import Engine
from ir.transfer.nixl.outcome import Status
from ir.transfer.nixl.process import EngineProcess
from ir.transfer.nixl.rank_agent import RankAgent, Vetting
from ir.transfer.nixl.side_channel import SideChannel
from ir.transfer.nixl.slab import Slab, new_file, offsets_of

LAYERS, TOKENS, HEADS, HEAD_BYTES = 16, 32, 8, 256
GROUPS = {
    "scattered": make.attention(range(LAYERS), kv_heads=HEADS, head_size=128, itemsize=2),
    "contiguous": make.latent(range(LAYERS), width=256, itemsize=2),
}
# What a block takes on all ranks of the consumer: keys and values once, a latent on both.
BLOCK_BYTES = {
    "scattered": 2 * HEADS * TOKENS * HEAD_BYTES * LAYERS,
    "contiguous": 2 * 256 * 2 * TOKENS * LAYERS,
}
BOUNDS = {"scattered": 0.95, "contiguous": 0.90}


class Pair:
    """The consumer's engine here, the producer's elsewhere, acquainted."""

    def __init__(self, what: str, mib: int, tls: str | None) -> None:
        blocks = mib * (1 << 20) // BLOCK_BYTES[what]
        model = ModelCache("bench", 32, (GROUPS[what],))
        size = (mib << 21) + (mib << 18) + (1 << 24)
        self.tokens, self.blocks, self.count = blocks * TOKENS, blocks, 0
        self.producer = self._engine("P", 4, model)
        self.consumer = self._engine("D", 2, model)
        self.process = EngineProcess("p", tls=tls, slab_bytes=size)
        offsets = offsets_of(self.producer, size)
        self.process.slab.bytes[: offsets[Worker(0, 3)][-1]] = 1
        port = self.process.ask("configure", geometry=self.producer)
        self.slab = Slab(new_file(size), size)
        self.slab.bytes[:] = 0
        self.agents = {w: RankAgent(f"d{w.rank}") for w in self.consumer.workers}
        bases = {
            w: tuple(self.slab.address + at for at in of)
            for w, of in offsets_of(self.consumer, size).items()
        }
        strides = self.consumer.page_strides(0)
        for w, agent in self.agents.items():
            sizes = [stride * self.consumer.num_blocks for stride in strides]
            agent.register(list(zip(bases[w], sizes, strict=True)))
        self.engine = Engine(
            self.consumer,
            agents=self.agents,
            bases=bases,
            life="bench",
            channel=SideChannel(),
            vetting=Vetting("d/vetting"),
        )
        self.engine.call(port, seconds=10)
        while not self.engine.snapshot().producers:
            self.engine.step()

    def _engine(self, name: str, tp: int, model: ModelCache) -> EngineGeometry:
        return EngineGeometry(
            engine_id=name,
            model=model,
            tp=tp,
            num_blocks=self.blocks + 1,
            block_tokens=TOKENS,
            kernel_tokens=TOKENS,
        )

    def request(self, *, scattered: bool) -> TransferRequest:
        self.count += 1
        rng = np.random.default_rng(self.count)
        order = [np.arange(1, self.blocks + 1) for _ in range(2)]
        if scattered:
            order = [rng.permutation(of) for of in order]
        return TransferRequest(
            producer_request=f"p{self.count}",
            consumer_request=f"d{self.count}",
            prompt_tokens=self.tokens,
            producer_blocks=(tuple(order[0].tolist()),),
            consumer_blocks=(tuple(order[1].tolist()),),
        )

    def pull(self, request: TransferRequest) -> float:
        """Seconds of one request, from the call until the engine says that it is done."""
        self.process.ask("hold", consumer="D", request=request.producer_request, seconds=60)
        start = time.perf_counter()
        self.engine.pull("P", request, seconds=60)
        while (state := self.engine.status(request.consumer_request)) is Status.LANDING:
            self.engine.step()
        seconds = time.perf_counter() - start
        if state is not Status.DONE:
            raise SystemExit(f"the request is {state}")
        return seconds

    def bare(self, request: TransferRequest, order: Callable[..., object]) -> float:
        """Seconds of NIXL's own calls for the same blocks; `order` sorts or merges them."""
        self.process.ask("hold", consumer="D", request=request.producer_request, seconds=60)
        link = self.engine._producers["P"]
        work = []
        for worker, plan in link.plans.items():
            for of in plan.bind(request):
                lists = link.lists[worker, of.source]
                ours, lengths = expand(lists.local_rows, of.consumer_ids)
                theirs, _ = expand(lists.remote_rows, of.producer_ids)
                work.append((worker, lists, of, order(ours, theirs, lengths)))
        start = time.perf_counter()
        handles = []
        for worker, lists, of, how in work:
            agent = self.agents[worker]._agent
            if isinstance(how, tuple):
                ours, theirs = (agent.get_xfer_descs(rows, "DRAM") for rows in how)
                handle = agent.initialize_xfer("READ", ours, theirs, lists.name)
            else:
                ids = (of.consumer_ids[how], of.producer_ids[how])
                handle = agent.make_prepped_xfer(
                    "READ",
                    lists.local,
                    ids[0].astype(np.int32),
                    lists.remote,
                    ids[1].astype(np.int32),
                )
            agent.transfer(handle)
            handles.append((agent, handle))
        for agent, handle in handles:
            while agent.check_xfer_state(handle) != "DONE":
                for other, _ in handles:
                    if other is not agent:
                        other.get_new_notifs()
        seconds = time.perf_counter() - start
        for _, handle in handles:
            handle.release()
        return seconds


def as_given(ours, theirs, lengths):
    return np.arange(len(ours))


def by_target(ours, theirs, lengths):
    return np.argsort(ours)


def one_read(ours, theirs, lengths):
    """Rows of whatever is contiguous on both sides, found without the code that is measured."""
    rows: list[list[int]] = []
    for a, b, n in sorted(zip(ours.tolist(), theirs.tolist(), lengths.tolist(), strict=True)):
        if rows and rows[-1][0] + rows[-1][2] == a and rows[-1][1] + rows[-1][2] == b:
            rows[-1][2] += n
        else:
            rows.append([a, b, n])
    table = np.array(rows, dtype=np.uint64)
    zero = np.zeros(len(rows), dtype=np.uint64)
    return (
        np.stack([table[:, 0], table[:, 2], zero], axis=1),
        np.stack([table[:, 1], table[:, 2], zero], axis=1),
    )


OPPONENTS: dict[str, dict[str, Callable[..., object]]] = {
    "scattered": {"bare, as given": as_given, "bare, by target": by_target},
    "contiguous": {"one read each": one_read},
}
"""The first of each is what the bound is for."""


def duel(
    pair: Pair, against: dict[str, Callable[..., object]], *, scattered: bool, rounds: int
) -> dict[str, float]:
    """Median seconds of the engine and of each opponent, in turns that begin with another one."""
    times: dict[str, list[float]] = {name: [] for name in ("engine", *against)}
    names = list(times)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            request = pair.request(scattered=scattered)
            order = against.get(name)
            seconds = pair.pull(request) if order is None else pair.bare(request, order)
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(of) for name, of in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", default=None)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ.update(UCX_LOG_LEVEL="fatal", NIXL_LOG_LEVEL="FATAL")
    if options.tls is not None:
        os.environ["UCX_TLS"] = options.tls
    good = True
    for what, against in OPPONENTS.items():
        pair = Pair(what, options.mib, options.tls)
        middle = duel(pair, against, scattered=what == "scattered", rounds=options.rounds)
        pair.process.close()
        for name, seconds in middle.items():
            rate, ratio = options.mib / 1024 / seconds, seconds / middle["engine"]
            print(f"{what}: {name}: {rate:.2f} GiB/s, engine at {ratio:.2f} of it")
        good &= middle[next(iter(against))] >= BOUNDS[what] * middle["engine"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
