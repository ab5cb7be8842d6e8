"""Random small transfers, run on the planner and compared with the reference byte by byte."""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import reference.transfer as rt
from fuzz.chooser import SeededChooser
from fuzz.strategies.transfers import FAMILIES, transfer_case
from ir.transfer import (
    Arena,
    EngineGeometry,
    MemoryTransport,
    ModelCache,
    Placement,
    TransferRequest,
    Worker,
)
from ir.transfer import plan as planning
from ir.transfer.groups import Kind
from oracle.subjects.transfers.convert import as_engines, as_request

LABEL = "random"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A model, two engines and a request, as the planner takes them."""

    producer: EngineGeometry
    consumer: EngineGeometry
    request: TransferRequest


KINDS = {
    Kind.FULL: "full",
    Kind.SLIDING: "sliding",
    Kind.MLA: "mla",
    Kind.MAMBA1: "mamba1",
    Kind.MAMBA2: "mamba2",
    Kind.GDN: "gdn",
}


def cached_groups(model: ModelCache) -> tuple[rt.CachedGroup, ...]:
    return tuple(
        rt.CachedGroup(
            kind=KINDS[group.kind],
            layers=group.layers,
            parts=tuple(
                rt.CachedPart(p.name, p.units, p.unit_bytes, p.always_sharded) for p in group.parts
            ),
            window=group.window,
        )
        for group in model.groups
    )


def as_engine(engine: EngineGeometry) -> rt.Engine:
    return rt.Engine(
        tp=engine.tp,
        stage_layers=engine.stage_layers,
        num_blocks=engine.num_blocks,
        block_tokens=engine.block_tokens,
        kernel_tokens=engine.kernel_tokens,
        layout=engine.layout.value,
        blocks_first=engine.placement is Placement.BLOCKS_FIRST,
        shares_tensors=engine.shares_tensors,
        page_padding=engine.page_padding,
    )


def as_transfer(request: TransferRequest) -> rt.Transfer:
    return rt.Transfer(
        producer_request=request.producer_request,
        consumer_request=request.consumer_request,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        producer_blocks=request.producer_blocks,
        consumer_blocks=request.consumer_blocks,
    )


def random_scenario(seed: int, *, families: tuple[tuple[str, ...], ...] = FAMILIES) -> Scenario:
    """A legal case of the property of transfers with its first request alone, as the planner
    takes it.
    """
    case = transfer_case(SeededChooser(seed, LABEL), families=families)
    producer, consumer = as_engines(case)
    return Scenario(producer, consumer, as_request(case.requests[0]))


def bases_of(engine: EngineGeometry, worker: Worker, start: int = 1 << 20) -> tuple[int, ...]:
    """Addresses with gaps between the tensors, so that a step too far is seen."""
    bases = []
    for stride in engine.page_strides(worker.stage):
        bases.append(start)
        start += stride * engine.num_blocks + 64
    return tuple(bases)


def disagreements(scenario: Scenario) -> list[str]:
    """Run a transfer in memory on every consumer rank; what differs from the reference, in words.

    Cells are 64-bit codes, so that all eight lanes of every byte are judged at once.
    """
    p, d, request = scenario.producer, scenario.consumer, scenario.request
    groups, engines = cached_groups(p.model), (as_engine(p), as_engine(d))
    transfer = as_transfer(request)
    p_bases = {worker: bases_of(p, worker) for worker in p.workers}
    arenas = {}
    for w in p.workers:
        tensors = rt.producer_memory(groups, engines[0], (w.stage, w.rank), transfer)
        arenas[w] = Arena(dict(zip(p_bases[w], tensors, strict=True)))
    found: list[str] = []
    sent: Counter[tuple[tuple[int, int], tuple[int, int], str]] = Counter()
    for worker in d.workers:
        rank = (worker.stage, worker.rank)
        d_bases = bases_of(d, worker, start=1 << 40)
        memory = rt.consumer_memory(groups, engines[1], rank)
        target = Arena(dict(zip(d_bases, memory, strict=True)))
        transport = MemoryTransport(arenas)
        plan = planning.plan_transfer(p, d, worker, producer_bases=p_bases, consumer_bases=d_bases)
        transport.pull(plan, request, target)
        for note in transport.notified:
            sent[(note.source.stage, note.source.rank), rank, note.request] += 1
        wanted = rt.expected_memory(groups, *engines, rank, transfer)
        for index, tensor in enumerate(wanted):
            found += _compare(tensor, target, index, f"{worker} tensor {index}")
    if sent != Counter(rt.expected_notifications(groups, *engines, transfer)):
        found.append("notifications differ")
    return found


def _compare(tensor: rt.ExpectedTensor, target: Arena, index: int, where: str) -> list[str]:
    got = target.tensor(index).reshape(tensor.codes.shape)
    writes = target.written(index).reshape(tensor.codes.shape)
    wrong = (got != tensor.codes) & ~(tensor.free & (got == rt.SENTINEL))
    often = np.where(tensor.free, writes > 1, writes != (tensor.codes != rt.SENTINEL))
    found = []
    if wrong.any():
        i = tuple(int(x) for x in np.argwhere(wrong)[0])
        found.append(
            f"{where} at {i}: {rt.decode(int(got[i]))} for {rt.decode(int(tensor.codes[i]))}"
        )
    if often.any():
        i = tuple(int(x) for x in np.argwhere(often)[0])
        found.append(f"{where} at {i}: written {int(writes[i])} times")
    return found


@pytest.fixture
def transfers() -> SimpleNamespace:
    """The functions of this file, since test modules cannot import one another."""
    return SimpleNamespace(
        random_scenario=random_scenario,
        disagreements=disagreements,
        bases_of=bases_of,
        cached_groups=cached_groups,
        as_engine=as_engine,
        as_transfer=as_transfer,
    )
