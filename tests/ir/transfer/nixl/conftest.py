"""Runs random transfers on engines in processes, and compares their memory with the reference."""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

import reference.transfer as rt
from ir.transfer.nixl import Cluster, Fault, Outcome, Status
from ir.transfer.nixl.binding import installed
from ir.transfer.nixl.errors import NixlMissingError

SENTINEL = 0x5C
TLS = {"default": None, "tcp": "tcp,self"}


def mixed(codes: np.ndarray) -> np.ndarray:
    """One byte per code, in which every bit of the code has a say; the sentinel's stands out."""
    with np.errstate(over="ignore"):
        x = (codes ^ (codes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.where(codes == rt.SENTINEL, SENTINEL, x >> np.uint64(56)).astype(np.uint8)


def run(transfers, cluster: Cluster, scenario, *, push: bool = False, fault=Fault.NONE) -> Outcome:
    """A scenario on a cluster, with the producer's memory as the reference says."""
    p, d = scenario.producer, scenario.consumer
    groups, transfer = transfers.cached_groups(p.model), transfers.as_transfer(scenario.request)
    memory = {
        worker: tuple(
            mixed(codes)
            for codes in rt.producer_memory(
                groups, transfers.as_engine(p), (worker.stage, worker.rank), transfer
            )
        )
        for worker in p.workers
    }
    return cluster.run(p, d, scenario.request, memory, push=push, fault=fault, sentinel=SENTINEL)


def memory_faults(transfers, scenario, memory) -> list[str]:
    """Where the consumer's tensors differ from what the reference says, in words."""
    p, d = scenario.producer, scenario.consumer
    engines = transfers.as_engine(p), transfers.as_engine(d)
    groups, transfer = transfers.cached_groups(p.model), transfers.as_transfer(scenario.request)
    found = []
    for worker, tensors in memory.items():
        rank = (worker.stage, worker.rank)
        expected = rt.expected_memory(groups, *engines, rank, transfer)
        for index, (got, want) in enumerate(zip(tensors, expected, strict=True)):
            wrong = (got != mixed(want.codes)) & ~(want.free & (got == SENTINEL))
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                found.append(f"{worker} tensor {index}: {int(wrong.sum())} bytes, first {at}")
    return found


def notices(transfers, scenario, suffix: str = "") -> Counter:
    """The notifications of one attempt, as the reference counts them."""
    p, d = scenario.producer, scenario.consumer
    engines = transfers.as_engine(p), transfers.as_engine(d)
    groups, transfer = transfers.cached_groups(p.model), transfers.as_transfer(scenario.request)
    expected = rt.expected_notifications(groups, *engines, transfer)
    return Counter({(*ranks, name + suffix): n for (*ranks, name), n in expected.items()})


def sent(outcome: Outcome) -> Counter:
    """The notifications that were taken, in the reference's words."""
    return Counter(
        {
            ((p.stage, p.rank), (c.stage, c.rank), name): count
            for (p, c, name), count in outcome.notified.items()
        }
    )


def faults_of(transfers, scenario, outcome: Outcome, fault: Fault) -> list[str]:
    """Every law that an outcome breaks."""
    found = memory_faults(transfers, scenario, outcome.memory)
    if outcome.outside:
        found.append(f"{outcome.outside} bytes outside of the tensors")
    if not all(outcome.freed.values()):
        found.append(f"not freed: {dict(outcome.freed)}")
    if fault is Fault.NONE:
        if outcome.first.status is not Status.DONE:
            found.append(f"first is {outcome.first}")
        if sent(outcome) != notices(transfers, scenario):
            found.append(f"notifications {sent(outcome)}")
        return found
    found += [f"bystander: {x}" for x in _of_bystander(transfers, scenario, outcome)]
    for name in ("again", "bystander"):
        attempt = getattr(outcome, name)
        if attempt is None or attempt.status is not Status.DONE:
            found.append(f"{name} is {attempt}")
        wanted, got = notices(transfers, scenario, f"/{name}"), sent(outcome)
        if any(got[key] != count for key, count in wanted.items()):
            found.append(f"notifications of {name}: {got}")
    if any(count != 1 for count in sent(outcome).values()):
        found.append(f"told twice: {sent(outcome)}")
    if outcome.first.quarantined and fault is not Fault.KILL and not outcome.reuse_refused:
        found.append("blocks in quarantine were given away")
    return found


def _of_bystander(transfers, scenario, outcome: Outcome) -> list[str]:
    return memory_faults(transfers, scenario, outcome.bystander_memory)


@pytest.fixture(scope="session")
def nixl() -> str:
    """NIXL's module; tests that move data ask for it."""
    try:
        return installed()
    except NixlMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=TLS)
def cluster(request, nixl: str) -> Iterator[Cluster]:
    """Engine processes that the tests of a module share, once per choice of UCX's transports."""
    with Cluster(tls=TLS[request.param]) as engines:
        yield engines


@pytest.fixture
def engines(transfers) -> SimpleNamespace:
    """The functions of this file, since test modules cannot import one another."""
    return SimpleNamespace(
        run=lambda *args, **options: run(transfers, *args, **options),
        faults_of=lambda *args: faults_of(transfers, *args),
        memory_faults=lambda *args: memory_faults(transfers, *args),
        notices=lambda *args: notices(transfers, *args),
        sent=sent,
        mixed=mixed,
        tls=TLS,
        sentinel=SENTINEL,
    )
