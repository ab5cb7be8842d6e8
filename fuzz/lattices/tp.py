"""Every way to shard a cache on two engines of up to 64 ranks each, as small transfers.

A *topology* is (KV heads, producer ranks, consumer ranks). Keys and values of each that is
admitted move between all pairs of layouts, with blocks one to eight times as long on one side,
under full attention and with a window. Latents and states have no heads in common: each pair of
rank counts moves them with the same block ratios, states with one, two or three times as many
shards as the larger side has ranks.

What is not admitted must be refused. An engine that cannot exist is refused before it has a peer,
so one case stands for a producer's 64 consumers; two sound engines that cannot meet are a case.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from math import gcd, lcm

from reference.model import CachedGroup, CachedModel, CachedPart, Engine, Transfer, TransferCase
from reference.transfer import topologies
from reference.transfer.admitted import divides_either_way

LIMIT = 64
RATIOS = range(1, 9)
LAYOUTS = tuple(product(("HND", "NHD"), ("HND", "NHD")))
SHARES = (1, 2, 3)
"""Shards of a state for each rank of the larger side."""
TOKENS = 2
"""In the shorter kernel block: with one, layouts would not differ."""


@cache
def admitted() -> tuple[tuple[int, int, int], ...]:
    """The topologies up to `LIMIT` between which keys and values can move."""
    return topologies(LIMIT)


@cache
def pairs() -> tuple[tuple[int, int], ...]:
    """The rank counts of which one divides the other."""
    numbers = range(1, LIMIT + 1)
    return tuple((p, d) for p, d in product(numbers, repeat=2) if divides_either_way(p, d))


@cache
def refused() -> tuple[tuple[int, int, int | None], ...]:
    """What must be refused: (heads, producer ranks, None) whatever the consumer is, or a triple."""
    numbers = range(1, LIMIT + 1)
    good = set(admitted())
    found: list[tuple[int, int, int | None]] = []
    for heads, p in product(numbers, repeat=2):
        if not divides_either_way(heads, p):
            found.append((heads, p, None))
        else:
            found += [(heads, p, d) for d in numbers if (heads, p, d) not in good]
    return tuple(found)


def counts() -> tuple[int, int, int]:
    """Cases of keys and values, of latents and states, and of what must be refused."""
    return (
        len(admitted()) * len(LAYOUTS) * len(RATIOS),
        len(pairs()) * len(SHARES) * len(RATIOS),
        len(refused()),
    )


POINTS = 241_920
"""Points of the lattice that are admitted: 3,160 topologies x 2 kinds x 4 pairs of layouts x 8
ratios, 496 pairs x 8 ratios for latents, and 496 x 3 x 8 for each of three kinds of state."""
REFUSED = 258_984
"""Topologies up to 64 that are not admitted: 64^3 - 3,160."""


@cache
def _order() -> tuple[int, int]:
    """How many cases there are, and a step that visits all of them and spreads any part."""
    total = sum(counts())
    step = next(n for n in range(total * 618 // 1000, total) if gcd(n, total) == 1)
    return total, step


def lattice_size() -> int:
    """Cases of the whole lattice."""
    return _order()[0]


def lattice_case(index: int) -> TransferCase:
    """The case at `index`; any stretch of indices is spread over the whole lattice."""
    total, step = _order()
    at = index * step % total
    attention, states, _ = counts()
    if at < attention:
        at, ratio = divmod(at, len(RATIOS))
        at, layouts = divmod(at, len(LAYOUTS))
        return attention_case(admitted()[at], LAYOUTS[layouts], RATIOS[ratio])
    at -= attention
    if at < states:
        at, ratio = divmod(at, len(RATIOS))
        at, shares = divmod(at, len(SHARES))
        return state_case(pairs()[at], SHARES[shares], RATIOS[ratio])
    heads, p, d = refused()[at - states]
    return refused_case(heads, p, d)


def _engines(
    sizes: tuple[int, int], layouts: tuple[str, str], ratio: int, layers: int, *, shared: bool
) -> tuple[Engine, Engine]:
    """Two engines, the blocks of one `ratio` times as long: which one, and where K and V lie,
    changes from topology to topology."""
    longer = sum(sizes) // 2 % 2
    prompt = TOKENS * ratio + 1
    found = []
    for side, (tp, layout) in enumerate(zip(sizes, layouts, strict=True)):
        tokens = TOKENS * (ratio if side == longer else 1)
        found.append(
            Engine(
                tp=tp,
                stage_layers=(layers,),
                # The longest list of all groups, twice where they share, and the null block.
                num_blocks=1 + -(-prompt // tokens) + (layers if shared else 0),
                block_tokens=tokens,
                kernel_tokens=tokens,
                layout=layout,
                blocks_first=shared or bool((tp + ratio) % 2),
                shares_tensors=shared,
            )
        )
    return found[0], found[1]


def attention_case(
    topology: tuple[int, int, int], layouts: tuple[str, str], ratio: int
) -> TransferCase:
    """A layer with all keys and one with a window, moved past two blocks of the longer side."""
    heads, *sizes = topology
    parts = (CachedPart("k", heads, 1), CachedPart("v", heads, 1))
    window = 1
    groups = (
        CachedGroup("full", (0,), parts),
        CachedGroup("sliding", (1,), parts, window),
    )
    p, d = _engines((sizes[0], sizes[1]), layouts, ratio, 2, shared=False)
    prompt = TOKENS * ratio + 1
    lists = []
    for engine, backwards in ((p, True), (d, False)):
        every = list(range(1, 1 + -(-prompt // engine.block_tokens)))
        if backwards:
            every.reverse()
        gone = (prompt - window) // engine.block_tokens
        lists.append((tuple(every), (0,) * gone + tuple(every[gone:])))
    return _case(CachedModel(query_heads=lcm(heads, *sizes), groups=groups), p, d, prompt, lists)


def state_case(sizes: tuple[int, int], shares: int, ratio: int) -> TransferCase:
    """A latent and a state of each kind on the same tensors, whose pages the blocks may exceed."""
    shards = max(sizes) * shares
    copied = (1, min(sizes), max(sizes))[shares - 1]
    groups = (
        CachedGroup("mla", (0,), (CachedPart("latent", 1, 3),)),
        CachedGroup(
            "mamba1",
            (1,),
            (CachedPart("conv.x", shards, 1, True), CachedPart("ssm", shards, 2, True)),
        ),
        CachedGroup(
            "mamba2",
            (2,),
            (
                CachedPart("conv.x", shards, 1, True),
                CachedPart("conv.B", copied, 1),
                CachedPart("conv.C", copied, 1),
                CachedPart("ssm", shards, 2, True),
            ),
        ),
        CachedGroup(
            "gdn",
            (3,),
            (
                CachedPart("conv.q", max(sizes), 1, True),
                CachedPart("conv.k", max(sizes), 1, True),
                CachedPart("conv.v", shards, 1, True),
                CachedPart("ssm", shards, 2, True),
            ),
        ),
    )
    p, d = _engines(sizes, ("HND", "NHD"), ratio, len(groups), shared=True)
    prompt = TOKENS * ratio + 1
    lists = []
    for engine in (p, d):
        count = -(-prompt // engine.block_tokens)
        latents = tuple(range(count, 0, -1))
        lists.append((latents, *((count + 1 + i,) for i in range(len(groups) - 1))))
    return _case(CachedModel(query_heads=shards, groups=groups), p, d, prompt, lists)


def _case(
    model: CachedModel,
    producer: Engine,
    consumer: Engine,
    prompt: int,
    lists: list[tuple[tuple[int, ...], ...]],
) -> TransferCase:
    request = Transfer(
        producer_request="p",
        consumer_request="d",
        prompt_tokens=prompt,
        cached_tokens=0,
        producer_blocks=lists[0],
        consumer_blocks=lists[1],
    )
    return TransferCase(model=model, producer=producer, consumer=consumer, requests=(request,))


def refused_case(heads: int, p: int, d: int | None) -> TransferCase:
    """Engines that cannot meet; with `d` None the producer cannot exist, so its peer is plain."""
    parts = (CachedPart("k", heads, 1), CachedPart("v", heads, 1))
    groups = (CachedGroup("full", (0,), parts),)
    # Query heads that every size here divides, so that KV heads alone decide.
    model = CachedModel(query_heads=lcm(*range(1, LIMIT + 1)), groups=groups)
    producer, consumer = _engines((p, d or 1), LAYOUTS[0], 1, 1, shared=False)
    return TransferCase(model=model, producer=producer, consumer=consumer, requests=())


def points_in(case: TransferCase) -> int:
    """How many points of the lattice a case is: its groups, latents counted once per pair."""
    first = case.model.groups[0]
    sizes = (case.producer.tp, case.consumer.tp)
    if len(case.requests) != 1 or not max(sizes) <= LIMIT:
        return 0
    ratio, rest = divmod(case.requests[0].prompt_tokens - 1, TOKENS)
    if rest or ratio not in RATIOS:
        return 0
    if first.kind == "full":
        topology = (first.parts[0].units, *sizes)
        layouts = (case.producer.layout, case.consumer.layout)
        same = topology in _admitted_set() and case == attention_case(topology, layouts, ratio)
        return len(case.model.groups) if same else 0
    if first.kind == "mla" and len(case.model.groups) == 4:
        shares = case.model.groups[1].parts[0].units // max(sizes)
        if shares in SHARES and case == state_case(sizes, shares, ratio):
            return len(case.model.groups) - (shares != 1)
    return 0


@cache
def _admitted_set() -> frozenset[tuple[int, int, int]]:
    return frozenset(admitted())


def refused_in(case: TransferCase) -> int:
    """How many of the topologies that must be refused a case stands for."""
    if case.requests or max(case.producer.tp, case.consumer.tp) > LIMIT:
        return 0
    heads, p, d = case.model.groups[0].parts[0].units, case.producer.tp, case.consumer.tp
    if divides_either_way(heads, p):
        return int((heads, p, d) not in _admitted_set() and case == refused_case(heads, p, d))
    return LIMIT if case == refused_case(heads, p, None) else 0


def proof_case(index: int) -> TransferCase:
    """The topology at `index` of `admitted`, spread; layouts and ratios of 1 and 2 change too.

    Sizes other than heads, ranks and tokens per block are symbols in a proof.
    """
    total = len(admitted())
    step = next(n for n in range(total * 618 // 1000, total) if gcd(n, total) == 1)
    at = index * step % total
    layouts, ratio = LAYOUTS[at % len(LAYOUTS)], 1 + at // len(LAYOUTS) % 2
    return single(attention_case(admitted()[at], layouts, ratio))


def split_count() -> int:
    """Topologies, and pairs of rank counts with each number of shards."""
    return len(admitted()) + len(pairs()) * len(SHARES)


def split_case(index: int) -> TransferCase:
    """The topology or pair at `index`, spread: all kinds of groups that it can have."""
    total = split_count()
    step = next(n for n in range(total * 618 // 1000, total) if gcd(n, total) == 1)
    at = index * step % total - len(admitted())
    if at < 0:
        return attention_case(admitted()[at], LAYOUTS[0], 1)
    at, shares = divmod(at, len(SHARES))
    return state_case(pairs()[at], SHARES[shares], 1)


def single(case: TransferCase) -> TransferCase:
    """A case of the lattice with its first group alone, of two layers: with one, layers that are
    taken for each other would not differ."""
    requests = tuple(
        replace(
            request,
            producer_blocks=request.producer_blocks[:1],
            consumer_blocks=request.consumer_blocks[:1],
        )
        for request in case.requests
    )
    return replace(
        case,
        model=replace(case.model, groups=(replace(case.model.groups[0], layers=(0, 1)),)),
        requests=requests,
        producer=replace(case.producer, stage_layers=(2,)),
        consumer=replace(case.consumer, stage_layers=(2,)),
    )
