"""What the memory of every rank holds before a transfer, and must hold after it, byte by byte.

The functions of a stage give arrays with its ranks as their first axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from reference.model.transfer import CachedGroup, Engine, Transfer

from .cache import block_pages, coded_shards, state_pages, tensors_of
from .codes import POISON, SENTINEL, Codes

Mask = NDArray[np.bool_]
Rank = tuple[int, int]
"""Pipeline stage and rank within tensor parallelism."""


@dataclass(frozen=True, eq=False, slots=True)
class ExpectedTensor:
    """Of one tensor, (..., blocks, page bytes): the codes it must hold after a transfer.

    Where `free` is set, the sentinel is right too: tokens past the prompt's end in its last unit.
    Everywhere else a cell without a code must be untouched, and one with a code written once.
    """

    codes: Codes
    free: Mask


def _place(
    groups: tuple[CachedGroup, ...],
    engine: Engine,
    stage: int,
    lists: tuple[tuple[int, ...], ...],
    *,
    number: int,
    background: int,
    keep: Callable[[int, int], Mask] | None,
) -> list[Codes]:
    """The tensors of a stage with the pages of a request; `keep(group, positions)` says which."""
    first, lengths = tensors_of(groups, engine, stage)
    tensors = [
        np.full((engine.tp, engine.num_blocks, n), background, dtype=np.uint64) for n in lengths
    ]
    for (g, layer), at in first.items():
        group = groups[g]
        blocks = np.array([b for b in lists[g] if b or not group.is_state], dtype=np.int64)
        positions = len(blocks) * (1 if group.is_state else engine.block_tokens)
        parts = [
            coded_shards(
                part, request=number, layer=layer, index=i, positions=positions, tp=engine.tp
            )
            for i, part in enumerate(group.parts)
        ]
        if keep is not None:
            kept = keep(g, positions)
            if not kept.all():
                parts = [
                    np.where(kept[:, None, None], part, np.uint64(background)) for part in parts
                ]
        pages = state_pages(parts) if group.is_state else block_pages(parts, engine)
        for tensor, page in enumerate(pages, start=at):
            held = blocks != 0
            tensors[tensor][:, blocks[held], : page.shape[-1]] = page[:, held]
    return tensors


def producer_stage(
    groups: tuple[CachedGroup, ...], engine: Engine, stage: int, request: Transfer, *, number: int
) -> list[Codes]:
    """The tensors of a producer stage, (ranks, blocks, page bytes), once it has computed a request.

    Its blocks hold codes to their ends; all else is poison. `number` tells requests apart.
    """
    lists = request.producer_blocks
    return _place(groups, engine, stage, lists, number=number, background=POISON, keep=None)


def producer_memory(
    groups: tuple[CachedGroup, ...], engine: Engine, rank: Rank, request: Transfer
) -> list[Codes]:
    """The same of one producer rank, for the one request of a case: (blocks, page bytes)."""
    return [t[rank[1]] for t in producer_stage(groups, engine, rank[0], request, number=0)]


def consumer_memory(groups: tuple[CachedGroup, ...], engine: Engine, rank: Rank) -> list[Codes]:
    """A consumer rank's tensors before the transfer: sentinels."""
    _, lengths = tensors_of(groups, engine, rank[0])
    return [np.full((engine.num_blocks, n), SENTINEL, dtype=np.uint64) for n in lengths]


def _has_block(blocks: tuple[int, ...], block_tokens: int, positions: int) -> Mask:
    found = np.zeros(positions, dtype=np.bool_)
    per_token = np.repeat(np.array(blocks, dtype=np.int64) != 0, block_tokens)[:positions]
    found[: len(per_token)] = per_token
    return found


def tokens_moved(
    producer: Engine, consumer: Engine, request: Transfer, group: int, positions: int
) -> tuple[Mask, Mask]:
    """Which tokens of an attention group must travel, and which may.

    Must: those of the prompt that the consumer lacks and both sides have blocks for. May: those
    between the prompt's end and the next multiple of the smaller kernel block.
    """
    token = np.arange(positions)
    both = _has_block(request.producer_blocks[group], producer.block_tokens, positions)
    both &= _has_block(request.consumer_blocks[group], consumer.block_tokens, positions)
    unit = min(producer.kernel_tokens, consumer.kernel_tokens)
    end = request.prompt_tokens + -request.prompt_tokens % unit
    lacking = request.cached_tokens < request.prompt_tokens
    must = both & (token >= request.cached_tokens) & (token < request.prompt_tokens)
    may = both & (token >= request.prompt_tokens) & (token < end) & lacking
    return must, may


def expected_stage(
    groups: tuple[CachedGroup, ...],
    producer: Engine,
    consumer: Engine,
    stage: int,
    request: Transfer,
    *,
    number: int,
) -> list[ExpectedTensor]:
    """The tensors of a consumer stage after the transfer, (ranks, blocks, page bytes)."""

    @cache
    def moved(g: int, positions: int) -> tuple[Mask, Mask]:
        if groups[g].is_state:
            every = np.ones(positions, dtype=np.bool_)
            return every, ~every
        return tokens_moved(producer, consumer, request, g, positions)

    def placed(keep: Callable[[int, int], Mask]) -> list[Codes]:
        lists = request.consumer_blocks
        return _place(groups, consumer, stage, lists, number=number, background=SENTINEL, keep=keep)

    every = placed(lambda g, n: np.logical_or(*moved(g, n)))
    may = placed(lambda g, n: moved(g, n)[1])
    return [ExpectedTensor(codes, free != SENTINEL) for codes, free in zip(every, may, strict=True)]


def expected_memory(
    groups: tuple[CachedGroup, ...],
    producer: Engine,
    consumer: Engine,
    rank: Rank,
    request: Transfer,
) -> list[ExpectedTensor]:
    """The same of one consumer rank, for the one request of a case: (blocks, page bytes)."""
    stage, at = rank
    found = expected_stage(groups, producer, consumer, stage, request, number=0)
    return [ExpectedTensor(tensor.codes[at], tensor.free[at]) for tensor in found]


def missing_token(
    groups: tuple[CachedGroup, ...], producer: Engine, consumer: Engine, request: Transfer
) -> tuple[int, int] | None:
    """The first (group, token) that the consumer will attend to and cannot get, if any.

    Such a request must be refused. Tokens further back than a group's window do not count.
    """
    prompt = request.prompt_tokens
    for g, group in enumerate(groups):
        if group.is_state:
            continue
        must, _ = tokens_moved(producer, consumer, request, g, prompt)
        reach = prompt if group.window is None else group.window
        start = max(request.cached_tokens, prompt - reach)
        lost = [token for token in range(start, prompt) if not must[token]]
        if lost:
            return g, lost[0]
    return None


@cache
def facing(producer_tp: int, consumer_tp: int) -> frozenset[tuple[int, int]]:
    """The pairs (producer rank, consumer rank) whose shares of the TP axis overlap."""

    def share(rank: int, tp: int) -> tuple[Fraction, Fraction]:
        return Fraction(rank, tp), Fraction(rank + 1, tp)

    found = set()
    for p in range(producer_tp):
        for c in range(consumer_tp):
            (p_low, p_high), (c_low, c_high) = share(p, producer_tp), share(c, consumer_tp)
            if max(p_low, c_low) < min(p_high, c_high):
                found.add((p, c))
    return frozenset(found)


def expected_notifications(
    groups: tuple[CachedGroup, ...], producer: Engine, consumer: Engine, request: Transfer
) -> dict[tuple[Rank, Rank, str], int]:
    """Who tells whom that a request's blocks are free: (producer, consumer, request id), once.

    Every consumer rank tells every producer rank that it faces and shares a layer with, under the
    producer's id for the request, whether it had to read anything or not.
    """
    stages = {
        (producer.stage_of(layer), consumer.stage_of(layer))
        for group in groups
        for layer in group.layers
    }
    return {
        ((p_stage, p), (c_stage, c), request.producer_request): 1
        for p_stage, c_stage in stages
        for p, c in facing(producer.tp, consumer.tp)
    }
