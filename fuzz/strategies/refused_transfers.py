"""Transfers with one thing wrong: engines that cannot exist or meet, and requests that must fail.

A broken request keeps company: those beside it must be served as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reference.model import CachedModel, Engine, Transfer, TransferCase
from reference.transfer.legal import refused_pair, refused_request

from ..chooser import Chooser
from .transfers import transfer_case

Breaker = Callable[[TransferCase, Chooser], TransferCase | None]
"""A case with a rule broken, or None where the case offers no way to break it."""

TRIES = 60
"""Cases drawn until one can be broken in the wanted way: each way fits at least one in eight."""


def _engine(**changes: Callable[[Engine, TransferCase], Any]) -> Breaker:
    """Change one of the two engines; each value is computed from that engine and the case."""

    def broken(case: TransferCase, chooser: Chooser) -> TransferCase:
        side = chooser.choose(("producer", "consumer"))
        engine: Engine = getattr(case, side)
        values = {name: value(engine, case) for name, value in changes.items()}
        return replace(case, **{side: replace(engine, **values)})

    return broken


def _no_divisor(heads: int) -> int:
    return next(n for n in range(2, heads + 2) if heads % n)


def _shards(case: TransferCase, chooser: Chooser) -> TransferCase | None:
    """A part whose units the TP sizes do not divide, nor are divided by."""
    worst = max(case.producer.tp, case.consumer.tp)
    g = chooser.integer(0, len(case.model.groups) - 1)
    group = case.model.groups[g]
    if group.kind == "mla" or worst == 1:
        return None
    parts = tuple(replace(part, units=worst + 1) for part in group.parts)
    return _with_model(case, case.model, g, replace(group, parts=parts))


def _with_model(case: TransferCase, model: CachedModel, g: int, group: Any) -> TransferCase:
    groups = (*model.groups[:g], group, *model.groups[g + 1 :])
    return replace(case, model=replace(model, groups=groups))


def _unlike_groups_share(case: TransferCase, chooser: Chooser) -> TransferCase | None:
    side = chooser.choose(("producer", "consumer"))
    engine = replace(getattr(case, side), shares_tensors=True, blocks_first=False)
    return replace(case, **{side: engine})


def _other_model(case: TransferCase, chooser: Chooser) -> TransferCase:
    model = case.model
    g = chooser.integer(0, len(model.groups) - 1)
    group = model.groups[g]
    part = replace(group.parts[-1], unit_bytes=group.parts[-1].unit_bytes + 1)
    other = replace(group, parts=(*group.parts[:-1], part))
    groups = (*model.groups[:g], other, *model.groups[g + 1 :])
    return replace(
        case,
        consumer_model=chooser.choose(
            (replace(model, groups=groups), replace(model, query_heads=2 * model.query_heads))
        ),
    )


def _tp(case: TransferCase, chooser: Chooser) -> TransferCase:
    """2 and 3 ranks with 6 heads and 6 shards of all: each engine is sound."""
    sizes = chooser.choose(((2, 3), (3, 2), (4, 6), (6, 4)))
    groups = tuple(
        replace(
            group,
            parts=tuple(replace(p, units=1 if group.kind == "mla" else 12) for p in group.parts),
        )
        for group in case.model.groups
    )
    return replace(
        case,
        model=CachedModel(query_heads=12, groups=groups),
        producer=replace(case.producer, tp=sizes[0]),
        consumer=replace(case.consumer, tp=sizes[1]),
    )


def _kernels(case: TransferCase, chooser: Chooser) -> TransferCase:
    kernels = chooser.choose(((2, 3), (3, 2), (4, 6)))
    return replace(
        case,
        producer=replace(case.producer, kernel_tokens=kernels[0], block_tokens=kernels[0]),
        consumer=replace(case.consumer, kernel_tokens=kernels[1], block_tokens=kernels[1]),
    )


PAIRS: dict[str, Breaker] = {
    "tp-below-one": _engine(tp=lambda *_: 0),
    "num-blocks-below-one": _engine(num_blocks=lambda *_: 0),
    "negative-padding": _engine(page_padding=lambda *_: -1),
    "kernel-splits-block": _engine(
        block_tokens=lambda e, _: e.block_tokens * 2 + 1, kernel_tokens=lambda *_: 2
    ),
    "stages-miss-layers": _engine(stage_layers=lambda e, _: (*e.stage_layers, 1)),
    "query-heads": _engine(tp=lambda _, case: _no_divisor(case.model.query_heads)),
    "shards": _shards,
    "unlike-groups-share": _unlike_groups_share,
    "same-id": lambda case, _: replace(case, consumer_id=case.producer_id),
    "models": _other_model,
    "tp": _tp,
    "kernels": _kernels,
}
"""Engines, by the rule of `reference.transfer.legal` that they break."""


def _request(change: Callable[[TransferCase, Transfer, Chooser], Transfer | None]) -> Breaker:
    """Change one of the requests."""

    def broken(case: TransferCase, chooser: Chooser) -> TransferCase | None:
        i = chooser.integer(0, len(case.requests) - 1)
        changed = change(case, case.requests[i], chooser)
        if changed is None:
            return None
        return replace(case, requests=(*case.requests[:i], changed, *case.requests[i + 1 :]))

    return broken


def _side(chooser: Chooser) -> str:
    return chooser.choose(("producer_blocks", "consumer_blocks"))


def _with_list(request: Transfer, side: str, g: int, blocks: tuple[int, ...]) -> Transfer:
    lists = getattr(request, side)
    return replace(request, **{side: (*lists[:g], blocks, *lists[g + 1 :])})


def _lists(_case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer:
    side = _side(chooser)
    return replace(request, **{side: (*getattr(request, side), (1,))})


def _cached_tokens(case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer:
    unit = min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    wrong = [-1, request.prompt_tokens + 1]
    if unit > 1 and request.prompt_tokens > 1:
        wrong.append(1)
    return replace(request, cached_tokens=chooser.choose(wrong))


def _no_such_block(case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer:
    side = _side(chooser)
    engine = case.producer if side == "producer_blocks" else case.consumer
    g = chooser.integer(0, len(case.model.groups) - 1)
    blocks = getattr(request, side)[g]
    wrong = chooser.choose((engine.num_blocks, -1, 2**31))
    return _with_list(request, side, g, (*blocks[:-1], wrong))


def _of_kind(case: TransferCase, chooser: Chooser, *, state: bool) -> int | None:
    fitting = [g for g, group in enumerate(case.model.groups) if group.is_state == state]
    return chooser.choose(fitting) if fitting else None


def _states(case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer | None:
    g = _of_kind(case, chooser, state=True)
    return None if g is None else _with_list(request, _side(chooser), g, (0,))


def _too_few(case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer | None:
    g = _of_kind(case, chooser, state=False)
    if g is None:
        return None
    side = _side(chooser)
    engine = case.producer if side == "producer_blocks" else case.consumer
    wanted = -(-request.prompt_tokens // engine.block_tokens)
    return _with_list(request, side, g, getattr(request, side)[g][: wanted - 1])


def _lost(case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer | None:
    g = _of_kind(case, chooser, state=False)
    if g is None or request.cached_tokens == request.prompt_tokens:
        return None
    side = _side(chooser)
    engine = case.producer if side == "producer_blocks" else case.consumer
    blocks = list(getattr(request, side)[g])
    blocks[(request.prompt_tokens - 1) // engine.block_tokens] = 0
    return _with_list(request, side, g, tuple(blocks))


def _twice(_case: TransferCase, request: Transfer, chooser: Chooser) -> Transfer | None:
    side = _side(chooser)
    lists = getattr(request, side)
    fitting = [g for g, blocks in enumerate(lists) if len(set(blocks) - {0}) >= 2]
    if not fitting:
        return None
    g = chooser.choose(fitting)
    blocks = lists[g]
    named = next(block for block in blocks if block)
    return _with_list(request, side, g, (*blocks[:-1], named))


REQUESTS: dict[str, Breaker] = {
    "lists": _request(_lists),
    "empty-prompt": _request(lambda _case, r, _c: replace(r, prompt_tokens=0, cached_tokens=0)),
    "cached-tokens": _request(_cached_tokens),
    "no-such-block": _request(_no_such_block),
    "states": _request(_states),
    "too-few-blocks": _request(_too_few),
    "block-twice": _request(_twice),
    "lost-token": _request(_lost),
}
"""Requests, by the rule that they break."""

RULES = (*PAIRS, *REQUESTS)


def refused_case(chooser: Chooser, rule: str) -> TransferCase:
    """A case that breaks `rule` first. Raises `KeyError` for a rule that there is not."""
    breaker = (PAIRS | REQUESTS)[rule]
    for _ in range(TRIES):
        case = breaker(transfer_case(chooser), chooser)
        if case is not None and rule in broken_rules(case):
            return case
    raise ValueError(f"no case that breaks {rule!r} in {TRIES}; accepted: a rule that cases break")


def broken_rules(case: TransferCase) -> set[str]:
    """The rule by which the engines are refused, or else those of the requests."""
    pair = refused_pair(case)
    if pair is not None:
        return {pair.rule}
    found = (refused_request(case, request) for request in case.requests)
    return {refused.rule for refused in found if refused is not None}
