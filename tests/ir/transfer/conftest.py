"""Random small transfers, run on the planner and compared with the reference byte by byte."""

import random
from collections import Counter
from dataclasses import dataclass, replace
from math import lcm
from types import SimpleNamespace

import numpy as np
import pytest

import reference.transfer as rt
from ir.transfer import (
    Arena,
    CacheGroup,
    EngineGeometry,
    Layout,
    MemoryTransport,
    ModelCache,
    Placement,
    TransferRequest,
    Worker,
)
from ir.transfer import groups as make
from ir.transfer import plan as planning
from ir.transfer.groups import Kind

TP_SIZES = (1, 2, 3, 4, 6, 8)
FAMILIES = (
    ("full",),
    ("sliding",),
    ("mla",),
    ("full", "sliding"),
    ("full", "mamba1"),
    ("full", "mamba2"),
    ("full", "gdn"),
    ("mla", "gdn"),
    ("full", "sliding", "mamba2"),
)


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


def _group(rng: random.Random, kind: str, layers: list[int], tps: tuple[int, int]) -> CacheGroup:
    p, d = tps
    either = [n for n in TP_SIZES if not ((n % p and p % n) or (n % d and d % n))]
    ranks = lcm(p, d)
    size = rng.randint(1, 3)
    match kind:
        case "full" | "sliding":
            window = rng.randint(1, 20) if kind == "sliding" else None
            return make.attention(
                layers, kv_heads=rng.choice(either), head_size=size, itemsize=1, window=window
            )
        case "mla":
            return make.latent(layers, width=size, itemsize=2)
        case "mamba1":
            return make.mamba1(
                layers,
                channels=ranks * rng.randint(1, 2),
                state_size=size,
                conv_columns=2,
                conv_itemsize=1,
                ssm_itemsize=2,
            )
        case "mamba2":
            return make.mamba2(
                layers,
                heads=ranks * rng.randint(1, 2),
                head_size=size,
                state_size=2,
                n_groups=rng.choice(either),
                conv_columns=2,
                conv_itemsize=1,
                ssm_itemsize=2,
            )
        case _:
            return make.gated_delta_net(
                layers,
                key_heads=ranks,
                key_size=size,
                value_heads=ranks * rng.randint(1, 2),
                value_size=2,
                conv_columns=2,
                conv_itemsize=1,
                ssm_itemsize=2,
            )


def _stages(rng: random.Random, layers: int) -> tuple[int, ...]:
    if layers > 1 and rng.random() < 0.3:
        cut = rng.randint(1, layers - 1)
        return (cut, layers - cut)
    return (layers,)


def _lists(
    rng: random.Random, engine: EngineGeometry, prompt: int, *, extra: bool, is_producer: bool
) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Blocks of each group at random places, and how many blocks there must be for them."""
    counts = []
    for group in engine.model.groups:
        blocks = -(-prompt // engine.block_tokens)
        counts.append(1 if group.kind.is_state else blocks + (extra and rng.random() < 0.3))
    pool = sum(counts) if engine.shares_tensors else max(counts)
    total = pool + rng.randint(1, 4)
    free = rng.sample(range(1, total), pool)
    lists = []
    for group, count in zip(engine.model.groups, counts, strict=True):
        if engine.shares_tensors:
            blocks, free = free[:count], free[count:]
        else:
            blocks = rng.sample(free, count)
        if group.kind.is_state and rng.random() < 0.5 and is_producer:
            blocks = [0, 0, *blocks]
        if group.window is not None and rng.random() < 0.7:
            # The last block that nothing in the window needs may be gone, and those before it.
            dead = max(0, prompt - group.window) // engine.block_tokens
            gone = rng.randint(0, dead)
            blocks = [0] * gone + blocks[gone:]
        lists.append(tuple(blocks))
    return tuple(lists), total


def random_scenario(seed: int, *, families: tuple[tuple[str, ...], ...] = FAMILIES) -> Scenario:
    rng = random.Random(seed)
    pairs = [(p, d) for p in TP_SIZES for d in TP_SIZES if p % d == 0 or d % p == 0]
    tps = rng.choice(pairs)
    kinds = rng.choice(families)
    layers = list(range(len(kinds) * rng.randint(1, 2)))
    model = ModelCache(
        "small",
        tps[0] * tps[1],
        tuple(_group(rng, kind, layers[i :: len(kinds)], tps) for i, kind in enumerate(kinds)),
    )
    unit = rng.choice((1, 2, 4))
    kernels = [unit, unit * rng.choice((1, 1, 2, 4))]
    rng.shuffle(kernels)
    mixed = len({1 if g.kind.is_state else len(g.parts) for g in model.groups}) > 1
    engines = []
    for name, tp, kernel in zip(("P", "D"), tps, kernels, strict=True):
        shares = rng.random() < 0.5
        placement = rng.choice(tuple(Placement))
        engines.append(
            EngineGeometry(
                engine_id=name,
                model=model,
                tp=tp,
                num_blocks=1,
                block_tokens=kernel * rng.randint(1, 3),
                kernel_tokens=kernel,
                layout=rng.choice(tuple(Layout)),
                placement=Placement.BLOCKS_FIRST if shares and mixed else placement,
                stage_layers=_stages(rng, len(layers)),
                shares_tensors=shares,
                page_padding=rng.choice((0, 0, 3)),
            )
        )
    producer, consumer = engines
    step = rng.choice(engines).block_tokens
    prompt = max(1, step * rng.randint(1, 3) + rng.choice((-1, 0, 1)))
    boundaries = range(0, prompt, max(kernels))
    cached = rng.choice((0, rng.choice(boundaries), rng.choice(boundaries), prompt))
    theirs, p_blocks = _lists(rng, producer, prompt, extra=True, is_producer=True)
    ours, d_blocks = _lists(rng, consumer, prompt, extra=True, is_producer=False)
    return Scenario(
        replace(producer, num_blocks=p_blocks),
        replace(consumer, num_blocks=d_blocks),
        TransferRequest(
            producer_request=f"p{seed}",
            consumer_request=f"d{seed}",
            prompt_tokens=prompt,
            cached_tokens=cached,
            producer_blocks=theirs,
            consumer_blocks=ours,
        ),
    )


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
