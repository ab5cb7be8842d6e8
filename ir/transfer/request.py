"""One request as both engines see it, and which units of their blocks pair up.

Block lists are by position: entry i of a list of an attention group is the block with tokens
``i * block_tokens`` and following, or 0, the null block, where there is none. Lists of a state
group name the pages with a state, null blocks before them ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .descriptors import Ids
from .errors import RequestError
from .geometry import EngineGeometry
from .groups import CacheGroup

NULL_BLOCK = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """A prompt of `prompt_tokens`, of which the consumer has the first `cached_tokens` already.

    The engines have ids of their own for it. Each list of blocks belongs to a group of the model;
    the consumer's name its cached blocks too, which the transfer does not touch.
    """

    producer_request: str
    consumer_request: str
    prompt_tokens: int
    cached_tokens: int = 0
    producer_blocks: tuple[tuple[int, ...], ...]
    consumer_blocks: tuple[tuple[int, ...], ...]


Units = tuple[Ids, Ids]
"""Units on the consumer's and on the producer's side, pair by pair."""


def pair_units(
    producer: EngineGeometry, consumer: EngineGeometry, request: TransferRequest
) -> tuple[Units, ...]:
    """For each group the units to transfer. Raises `RequestError`.

    A unit is the smaller of the two kernel blocks, or the page of a state. An attention group is
    trimmed by position: units with a token of the prompt that the consumer has not cached. States
    are never trimmed, since a page is all of them.
    """
    _check_counts(producer, consumer, request)
    units = []
    consumed: list[Ids] = []
    produced: list[Ids] = []
    for g, group in enumerate(producer.model.groups):
        ours = np.array(request.consumer_blocks[g], dtype=np.int64)
        theirs = np.array(request.producer_blocks[g], dtype=np.int64)
        consumed.append(ours)
        produced.append(theirs)
        _check_range(request, f"consumer blocks of {group.name}", ours, consumer)
        _check_range(request, f"producer blocks of {group.name}", theirs, producer)
        pair = _states if group.kind.is_state else _tokens
        units.append(pair(producer, consumer, request, group, ours, theirs))
    _check_distinct("consumer", consumer, request, consumed)
    _check_distinct("producer", producer, request, produced)
    return tuple(units)


def _check_counts(
    producer: EngineGeometry, consumer: EngineGeometry, request: TransferRequest
) -> None:
    name = request.consumer_request
    groups = len(producer.model.groups)
    for side in ("producer_blocks", "consumer_blocks"):
        if len(getattr(request, side)) != groups:
            raise RequestError(name, f"lists of {side}", len(getattr(request, side)), str(groups))
    if request.prompt_tokens < 1:
        raise RequestError(name, "prompt_tokens", request.prompt_tokens, "1 or more")
    unit = min(producer.kernel_tokens, consumer.kernel_tokens)
    cached, prompt = request.cached_tokens, request.prompt_tokens
    if not 0 <= cached <= prompt or (cached % unit and cached != prompt):
        raise RequestError(
            name, "cached_tokens", cached, f"a multiple of {unit} up to {prompt}, or all {prompt}"
        )


def _check_range(
    request: TransferRequest, what: str, blocks: NDArray[np.int64], engine: EngineGeometry
) -> None:
    if blocks.size and (int(blocks.min()) < 0 or int(blocks.max()) >= engine.num_blocks):
        raise RequestError(
            request.consumer_request,
            what,
            f"{int(blocks.min())} to {int(blocks.max())}",
            f"0 to {engine.num_blocks - 1}, of {engine.num_blocks} blocks on a rank",
        )


def _check_distinct(
    side: str, engine: EngineGeometry, request: TransferRequest, lists: Sequence[Ids]
) -> None:
    """A block holds one thing, in groups that share tensors too: named twice, it would be written
    twice on the consumer, and on the producer one of its two readers gets what is not its own."""
    for pool in [np.concatenate(lists)] if engine.shares_tensors else lists:
        blocks = np.sort(pool[pool != NULL_BLOCK])
        again = blocks[1:][blocks[1:] == blocks[:-1]]
        if again.size:
            raise RequestError(
                request.consumer_request,
                f"{side} blocks named twice",
                np.unique(again).tolist(),
                "distinct blocks",
            )


def _states(
    _producer: EngineGeometry,
    _consumer: EngineGeometry,
    request: TransferRequest,
    group: CacheGroup,
    ours: Ids,
    theirs: Ids,
) -> Units:
    ours, theirs = ours[ours != NULL_BLOCK], theirs[theirs != NULL_BLOCK]
    if len(ours) != len(theirs) or not len(ours):
        raise RequestError(
            request.consumer_request,
            f"states of {group.name}",
            f"{len(theirs)} on the producer, {len(ours)} on the consumer",
            "equally many, at least one",
        )
    return ours, theirs


def _tokens(
    producer: EngineGeometry,
    consumer: EngineGeometry,
    request: TransferRequest,
    group: CacheGroup,
    ours: Ids,
    theirs: Ids,
) -> Units:
    unit = min(producer.kernel_tokens, consumer.kernel_tokens)
    for side, engine, blocks in (("producer", producer, theirs), ("consumer", consumer, ours)):
        wanted = -(-request.prompt_tokens // engine.block_tokens)
        if len(blocks) < wanted:
            raise RequestError(
                request.consumer_request,
                f"number of {side} blocks of {group.name}",
                len(blocks),
                f"at least {wanted} for {request.prompt_tokens} tokens",
            )
    first, last = request.cached_tokens // unit, -(-request.prompt_tokens // unit)
    if request.cached_tokens == request.prompt_tokens:
        first = last
    at = np.arange(first, last, dtype=np.int64)
    per_ours, per_theirs = consumer.block_tokens // unit, producer.block_tokens // unit
    our_pages, their_pages = ours[at // per_ours], theirs[at // per_theirs]
    there = (our_pages != NULL_BLOCK) & (their_pages != NULL_BLOCK)
    reach = request.prompt_tokens if group.window is None else group.window
    needed = (at + 1) * unit > request.prompt_tokens - reach
    if not there[needed].all():
        missing = int(at[needed & ~there][0])
        side = "producer" if their_pages[needed & ~there][0] == NULL_BLOCK else "consumer"
        raise RequestError(
            request.consumer_request,
            f"{side} block of {group.name} for token {missing * unit}",
            "the null block",
            f"a block for each of the last {reach} tokens",
        )
    our_units = our_pages[there] * per_ours + at[there] % per_ours
    their_units = their_pages[there] * per_theirs + at[there] % per_theirs
    return our_units, their_units
