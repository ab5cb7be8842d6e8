"""Which engines exist, which can meet, and which requests both can serve.

Said from the definitions: a cache is sharded by repeating and splitting, cut into whole blocks,
and moved by position. What that cannot do must be refused, and by whom is part of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from reference.model.transfer import CachedModel, Engine, Transfer, TransferCase

from .expected import missing_token

Scope = Literal["engine", "pair", "request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What must be refused: one engine, a pair of them, or a request.

    `rule` is a kebab-case slug; `names` are the ids that the message must show.
    """

    scope: Scope
    rule: str
    names: tuple[str, ...]


def _broken_engine(engine: Engine, model: CachedModel) -> Iterator[str]:
    """The rules that one engine breaks, whoever its peer is."""
    for name in ("tp", "num_blocks", "block_tokens", "kernel_tokens"):
        if getattr(engine, name) < 1:
            yield f"{name.replace('_', '-')}-below-one"
            return
    if engine.page_padding < 0:
        yield "negative-padding"
    if engine.block_tokens % engine.kernel_tokens:
        yield "kernel-splits-block"
    if min(engine.stage_layers) < 1 or sum(engine.stage_layers) != model.num_layers:
        yield "stages-miss-layers"
    if model.query_heads % engine.tp:
        yield "query-heads"
    for group in model.groups:
        for part in group.parts:
            copies = engine.tp % part.units == 0 and not part.always_sharded
            if part.units % engine.tp and not copies:
                yield "shards"
                return
    tensors = {1 if group.is_state else len(group.parts) for group in model.groups}
    if engine.shares_tensors and not engine.blocks_first and len(tensors) > 1:
        # Only pages with equally many tensors can lie on the same ones.
        yield "unlike-groups-share"


def refused_engine(engine: Engine, model: CachedModel, name: str) -> Refused | None:
    """Why an engine cannot exist, if so."""
    rule = next(_broken_engine(engine, model), None)
    return None if rule is None else Refused(scope="engine", rule=rule, names=(name,))


def _divides(a: int, b: int) -> bool:
    return a % b == 0 or b % a == 0


def refused_pair(case: TransferCase) -> Refused | None:
    """Why the engines of a case cannot meet, if so."""
    producer, consumer = case.producer, case.consumer
    theirs = case.model if case.consumer_model is None else case.consumer_model
    alone = refused_engine(producer, case.model, case.producer_id) or refused_engine(
        consumer, theirs, case.consumer_id
    )
    if alone is not None:
        return alone
    names = (case.producer_id, case.consumer_id)
    for rule, holds in (
        ("same-id", case.producer_id != case.consumer_id),
        ("models", theirs == case.model),
        ("tp", _divides(producer.tp, consumer.tp)),
        ("kernels", _divides(producer.kernel_tokens, consumer.kernel_tokens)),
    ):
        if not holds:
            return Refused(scope="pair", rule=rule, names=names)
    return None


def _broken_request(case: TransferCase, request: Transfer) -> Iterator[str]:
    groups = case.model.groups
    sides = (
        (case.producer, request.producer_blocks),
        (case.consumer, request.consumer_blocks),
    )
    prompt, cached = request.prompt_tokens, request.cached_tokens
    if any(len(lists) != len(groups) for _, lists in sides):
        yield "lists"
        return
    if prompt < 1:
        yield "empty-prompt"
        return
    unit = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    if not 0 <= cached <= prompt or (cached % unit and cached != prompt):
        yield "cached-tokens"
    for engine, lists in sides:
        if any(not 0 <= block < engine.num_blocks for blocks in lists for block in blocks):
            yield "no-such-block"
    for g, group in enumerate(groups):
        if group.is_state:
            states = [sum(1 for block in lists[g] if block) for _, lists in sides]
            if states[0] != states[1] or not states[0]:
                yield "states"
        elif any(len(lists[g]) * engine.block_tokens < prompt for engine, lists in sides):
            yield "too-few-blocks"
    for engine, lists in sides:
        pools = [list(blocks) for blocks in lists]
        if engine.shares_tensors:
            pools = [[block for pool in pools for block in pool]]
        for pool in pools:
            if any(count > 1 for block, count in Counter(pool).items() if block):
                yield "block-twice"


def refused_request(case: TransferCase, request: Transfer) -> Refused | None:
    """Why a request between two engines that can meet cannot be served, if so."""
    rule = next(_broken_request(case, request), None)
    if rule is None and missing_token(case.model.groups, case.producer, case.consumer, request):
        rule = "lost-token"
    if rule is None:
        return None
    return Refused(scope="request", rule=rule, names=(request.consumer_request,))
