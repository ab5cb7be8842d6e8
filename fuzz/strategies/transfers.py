"""Legal transfers by construction: small engines of any TP, blocks and layouts, and requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import lcm
from typing import TypeVar

from reference.model import (
    CachedGroup,
    CachedModel,
    CachedPart,
    Engine,
    Transfer,
    TransferCase,
)

from ..chooser import Chooser

T = TypeVar("T")

TP_SIZES = (1, 2, 3, 4, 6, 8)
TP_PAIRS = tuple((p, d) for p in TP_SIZES for d in TP_SIZES if p % d == 0 or d % p == 0)
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
"""The kinds of groups that a model has, as real ones combine them."""


def transfer_case(
    chooser: Chooser, *, families: Sequence[tuple[str, ...]] = FAMILIES
) -> TransferCase:
    """A case whose engines can meet and whose requests can all be served."""
    tps = chooser.choose(TP_PAIRS)
    kinds = chooser.choose(families)
    layers = len(kinds) * chooser.integer(1, 2)
    groups = tuple(
        _group(chooser, kind, tuple(range(i, layers, len(kinds))), tps)
        for i, kind in enumerate(kinds)
    )
    model = CachedModel(query_heads=tps[0] * tps[1], groups=groups)
    unit = chooser.choose((1, 2, 4))
    kernels = [unit, unit * chooser.choose((1, 1, 2, 4))]
    if chooser.chance(0.5):
        kernels.reverse()
    producer, consumer = (
        _engine(chooser, model, tp, kernel, layers) for tp, kernel in zip(tps, kernels, strict=True)
    )
    step = chooser.choose((producer, consumer)).block_tokens
    count = chooser.choose((1, 1, 1, 2, 3))
    lengths = [
        max(1, step * chooser.integer(1, 3) + chooser.choose((-1, 0, 1))) for _ in range(count)
    ]
    theirs = _blocks(chooser, producer, model, lengths, is_producer=True)
    ours = _blocks(chooser, consumer, model, lengths, is_producer=False)
    requests = tuple(
        Transfer(
            producer_request=f"p{i}",
            consumer_request=f"d{i}",
            prompt_tokens=prompt,
            cached_tokens=_cached(chooser, prompt, max(kernels)),
            producer_blocks=theirs[0][i],
            consumer_blocks=ours[0][i],
        )
        for i, prompt in enumerate(lengths)
    )
    return TransferCase(
        model=model,
        producer=replace(producer, num_blocks=theirs[1]),
        consumer=replace(consumer, num_blocks=ours[1]),
        requests=requests,
    )


def _cached(chooser: Chooser, prompt: int, step: int) -> int:
    """Nothing, some blocks or all of the prompt."""
    boundaries = range(0, prompt, step)
    return chooser.choose((0, chooser.choose(boundaries), chooser.choose(boundaries), prompt))


def _group(
    chooser: Chooser, kind: str, layers: tuple[int, ...], tps: tuple[int, int]
) -> CachedGroup:
    either = [n for n in TP_SIZES if all(n % tp == 0 or tp % n == 0 for tp in tps)]
    ranks = lcm(*tps)
    size = chooser.integer(1, 3)
    window = None
    match kind:
        case "full" | "sliding":
            heads = chooser.choose(either)
            parts = (CachedPart("k", heads, size), CachedPart("v", heads, size))
            window = chooser.integer(1, 20) if kind == "sliding" else None
        case "mla":
            parts = (CachedPart("latent", 1, 2 * size),)
        case "mamba1":
            channels = ranks * chooser.integer(1, 2)
            parts = (
                CachedPart("conv.x", channels, 2, True),
                CachedPart("ssm", channels, 2 * size, True),
            )
        case "mamba2":
            heads = ranks * chooser.integer(1, 2)
            shares = chooser.choose(either)
            parts = (
                CachedPart("conv.x", heads, 2 * size, True),
                CachedPart("conv.B", shares, 4),
                CachedPart("conv.C", shares, 4),
                CachedPart("ssm", heads, 4 * size, True),
            )
        case _:
            values = ranks * chooser.integer(1, 2)
            parts = (
                CachedPart("conv.q", ranks, 2 * size, True),
                CachedPart("conv.k", ranks, 2 * size, True),
                CachedPart("conv.v", values, 4, True),
                CachedPart("ssm", values, 4 * size, True),
            )
    return CachedGroup(kind, layers, parts, window)


def _engine(chooser: Chooser, model: CachedModel, tp: int, kernel: int, layers: int) -> Engine:
    shares = chooser.chance(0.5)
    unlike = len({1 if group.is_state else len(group.parts) for group in model.groups}) > 1
    stages = (layers,)
    if layers > 1 and chooser.chance(0.3):
        cut = chooser.integer(1, layers - 1)
        stages = (cut, layers - cut)
    return Engine(
        tp=tp,
        stage_layers=stages,
        num_blocks=1,
        block_tokens=kernel * chooser.integer(1, 3),
        kernel_tokens=kernel,
        layout=chooser.choose(("HND", "NHD")),
        blocks_first=(shares and unlike) or chooser.chance(0.5),
        shares_tensors=shares,
        page_padding=chooser.choose((0, 0, 3)),
    )


def _shuffled(chooser: Chooser, items: Sequence[T]) -> list[T]:
    left, found = list(items), []
    while left:
        found.append(left.pop(chooser.integer(0, len(left) - 1)))
    return found


def _blocks(
    chooser: Chooser,
    engine: Engine,
    model: CachedModel,
    lengths: Sequence[int],
    *,
    is_producer: bool,
) -> tuple[list[tuple[tuple[int, ...], ...]], int]:
    """Blocks at random places, by request and group, and how many blocks there must be for them.

    No two requests have one in common, nor two groups that lie on the same tensors.
    """
    counts = [
        [
            1 if group.is_state else -(-prompt // engine.block_tokens) + chooser.chance(0.3)
            for group in model.groups
        ]
        for prompt in lengths
    ]
    by_group = [sum(column) for column in zip(*counts, strict=True)]
    pool = sum(by_group) if engine.shares_tensors else max(by_group)
    total = pool + chooser.integer(1, 4)
    shared = _shuffled(chooser, range(1, total))
    free = [
        shared if engine.shares_tensors else _shuffled(chooser, range(1, total)) for _ in by_group
    ]
    found = []
    for prompt, row in zip(lengths, counts, strict=True):
        lists = []
        for g, (group, count) in enumerate(zip(model.groups, row, strict=True)):
            blocks = [free[g].pop() for _ in range(count)]
            if group.is_state and is_producer and chooser.chance(0.5):
                blocks = [0, 0, *blocks]
            if group.window is not None and chooser.chance(0.7):
                # The last block that nothing in the window needs may be gone, and those before it.
                dead = max(0, prompt - group.window) // engine.block_tokens
                gone = chooser.integer(0, dead)
                blocks = [0] * gone + blocks[gone:]
            lists.append(tuple(blocks))
        found.append(tuple(lists))
    return found, total
