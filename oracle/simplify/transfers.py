"""How a transfer gets simpler: fewer requests, layers, ranks, bytes, tokens, blocks, features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from reference.model import CachedGroup, CachedModel, CachedPart, Engine, Transfer, TransferCase
from reference.transfer import refused_pair, refused_request

Pass = Callable[[TransferCase], Iterator[TransferCase]]


def cost(case: TransferCase) -> tuple[int, ...]:
    """How simple a case is: the more telling first, so that shrinking always ends."""
    engines = (case.producer, case.consumer)
    parts = [part for group in case.model.groups for part in group.parts]
    lists = [
        blocks
        for request in case.requests
        for side in (request.producer_blocks, request.consumer_blocks)
        for blocks in side
    ]
    return (
        len(case.requests),
        sum(len(group.layers) for group in case.model.groups),
        sum(abs(engine.tp) for engine in engines),
        sum(part.units for part in parts),
        sum(part.unit_bytes for part in parts),
        sum(abs(request.prompt_tokens) for request in case.requests),
        sum(abs(e.block_tokens) + abs(e.kernel_tokens) for e in engines),
        sum(len(blocks) for blocks in lists),
        sum(abs(engine.num_blocks) for engine in engines),
        sum(len(e.stage_layers) + e.shares_tensors + e.blocks_first for e in engines),
        sum(abs(e.page_padding) + (e.layout != "HND") for e in engines),
        sum(abs(request.cached_tokens) for request in case.requests),
        sum(group.window is not None for group in case.model.groups),
        sum(group.window or 0 for group in case.model.groups),
        sum(abs(block) for blocks in lists for block in blocks),
        case.model.query_heads,
    )


def refusals(case: TransferCase) -> tuple[str, ...]:
    """The rules under which the engines, or else the requests, are refused."""
    pair = refused_pair(case)
    if pair is not None:
        return (pair.rule,)
    found = (refused_request(case, request) for request in case.requests)
    return tuple(sorted({refused.rule for refused in found if refused is not None}))


def _both(case: TransferCase, change: Callable[[Engine], Engine]) -> Iterator[TransferCase]:
    """A change of both engines, or of one."""
    producer, consumer = change(case.producer), change(case.consumer)
    yield replace(case, producer=producer, consumer=consumer)
    yield replace(case, producer=producer)
    yield replace(case, consumer=consumer)


def _fewer_requests(case: TransferCase) -> Iterator[TransferCase]:
    for i in range(len(case.requests)):
        rest = case.requests[:i] + case.requests[i + 1 :]
        if rest:
            yield replace(case, requests=rest)


def _kept_layers(case: TransferCase, keep: list[tuple[int, ...]]) -> Iterator[TransferCase]:
    """Only these layers of each group, numbered anew; groups without any go."""
    order = {layer: i for i, layer in enumerate(sorted(sum(keep, ())))}
    chosen = [g for g, layers in enumerate(keep) if layers]
    if not chosen:
        return

    def modelled(model: CachedModel) -> CachedModel:
        groups = tuple(
            replace(model.groups[g], layers=tuple(order[layer] for layer in keep[g]))
            for g in chosen
        )
        return replace(model, groups=groups)

    def listed(lists: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(lists[g] for g in chosen if g < len(lists)) + lists[len(keep) :]

    requests = tuple(
        replace(
            request,
            producer_blocks=listed(request.producer_blocks),
            consumer_blocks=listed(request.consumer_blocks),
        )
        for request in case.requests
    )
    other = case.consumer_model
    if other is not None and len(other.groups) == len(keep):
        other = modelled(other)

    def staged(engine: Engine, *, split: bool) -> Engine:
        count = len(order)
        return replace(engine, stage_layers=(1, count - 1) if split else (count,))

    for p_split, d_split in ((False, False), (True, False), (False, True), (True, True)):
        if len(order) < 2 and (p_split or d_split):
            continue
        yield replace(
            case,
            model=modelled(case.model),
            consumer_model=other,
            requests=requests,
            producer=staged(case.producer, split=p_split),
            consumer=staged(case.consumer, split=d_split),
        )


def _fewer_layers(case: TransferCase) -> Iterator[TransferCase]:
    layers = [group.layers for group in case.model.groups]
    for g in range(len(layers)):
        yield from _kept_layers(case, [x if i == g else () for i, x in enumerate(layers)])
    for g in range(len(layers)):
        yield from _kept_layers(case, [() if i == g else x for i, x in enumerate(layers)])
    yield from _kept_layers(case, [x[:1] for x in layers])
    for g in range(len(layers)):
        yield from _kept_layers(case, [x[:1] if i == g else x for i, x in enumerate(layers)])
    yield from _kept_layers(case, layers)


def _with_parts(
    case: TransferCase, change: Callable[[CachedGroup, CachedPart], CachedPart]
) -> TransferCase:
    def changed(model: CachedModel) -> CachedModel:
        groups = tuple(
            replace(group, parts=tuple(change(group, part) for part in group.parts))
            for group in model.groups
        )
        return replace(model, groups=groups)

    other = case.consumer_model
    return replace(
        case,
        model=changed(case.model),
        consumer_model=None if other is None else changed(other),
    )


def _fewer_ranks(case: TransferCase) -> Iterator[TransferCase]:
    p, d = case.producer.tp, case.consumer.tp
    smaller = {
        (x, y)
        for x in (1, 2, 3, 4, p // 2, p)
        for y in (1, 2, 3, 4, d // 2, d)
        if 0 < x <= p and 0 < y <= d
    }
    for x, y in sorted(smaller, key=lambda pair: (sum(pair), pair)):
        sized = replace(
            case,
            producer=replace(case.producer, tp=x),
            consumer=replace(case.consumer, tp=y),
        )
        most = max(x, y)
        for units in dict.fromkeys((1, 2, most, 2 * most)):
            # With as many units of all parts as fit the new sizes.
            yield _with_parts(
                sized,
                lambda _group, part, units=units: replace(part, units=min(units, part.units)),
            )
            yield _with_parts(
                sized,
                lambda _group, part, units=units, most=most: replace(
                    part, units=min(most if part.always_sharded else units, part.units)
                ),
            )
        yield sized


def _smaller_parts(case: TransferCase) -> Iterator[TransferCase]:
    yield _with_parts(case, lambda _g, part: replace(part, unit_bytes=min(1, part.unit_bytes)))
    for g, group in enumerate(case.model.groups):
        for name in (part.name for part in group.parts):

            def fits(each: CachedGroup, part: CachedPart, layers=group.layers, name=name) -> bool:
                return each.layers == layers and part.name == name

            for units in (1, 2, 3, case.model.groups[g].parts[0].units // 2):
                if units:
                    yield _with_parts(
                        case,
                        lambda each, part, units=units, fits=fits: (
                            replace(part, units=min(units, part.units))
                            if fits(each, part)
                            else part
                        ),
                    )
            yield _with_parts(
                case,
                lambda each, part, fits=fits: (
                    replace(part, unit_bytes=1) if fits(each, part) else part
                ),
            )


def _shorter_prompts(case: TransferCase) -> Iterator[TransferCase]:
    for i, request in enumerate(case.requests):
        tokens = request.prompt_tokens
        for fewer in dict.fromkeys((1, 2, 3, tokens // 2, tokens - 1)):
            if not 0 < fewer < tokens:
                continue
            hits = (0, fewer // 2, fewer - 1, min(request.cached_tokens, fewer), fewer)
            for cached in dict.fromkeys(hits):
                shorter = replace(request, prompt_tokens=fewer, cached_tokens=cached)
                yield _with_request(case, i, shorter)
        if request.cached_tokens:
            yield _with_request(case, i, replace(request, cached_tokens=0))


def _with_request(case: TransferCase, i: int, request: Transfer) -> TransferCase:
    return replace(case, requests=(*case.requests[:i], request, *case.requests[i + 1 :]))


def _smaller_blocks(case: TransferCase) -> Iterator[TransferCase]:
    yield from _both(case, lambda e: replace(e, block_tokens=e.kernel_tokens))
    for tokens in (1, 2, 4):
        yield from _both(
            case, lambda e, tokens=tokens: replace(e, kernel_tokens=min(tokens, e.kernel_tokens))
        )
        yield from _both(
            case,
            lambda e, tokens=tokens: replace(
                e,
                kernel_tokens=min(tokens, e.kernel_tokens),
                block_tokens=min(tokens, e.kernel_tokens),
            ),
        )
        yield from _both(
            case,
            lambda e, tokens=tokens: replace(
                e,
                kernel_tokens=min(tokens, e.kernel_tokens),
                block_tokens=2 * min(tokens, e.kernel_tokens),
            ),
        )


def _plainer(case: TransferCase) -> Iterator[TransferCase]:
    for changes in (
        {"page_padding": 0},
        {"shares_tensors": False},
        {"blocks_first": False, "shares_tensors": False},
        {"blocks_first": False},
        {"layout": "HND"},
    ):
        yield from _both(case, lambda engine, changes=changes: replace(engine, **changes))
    for engine in ("producer", "consumer"):
        yield replace(case, **{engine: replace(getattr(case, engine), page_padding=1)})
    groups = case.model.groups
    for g, group in enumerate(groups):
        for window in (None, 1, 2):
            plainer = replace(group, window=window)
            model = replace(case.model, groups=(*groups[:g], plainer, *groups[g + 1 :]))
            if group.window is not None:
                yield replace(case, model=model)
    for heads in (1, 2, 3, 4, 6, 8, 12, case.producer.tp * case.consumer.tp):
        if 0 < heads < case.model.query_heads:
            yield replace(case, model=replace(case.model, query_heads=heads))


def _refitted(case: TransferCase) -> TransferCase:
    """Lists as long as they must be, blocks numbered from 1 in order, no block to spare.

    Null blocks stay where they are.
    """
    found: dict[str, list[list[tuple[int, ...]]]] = {"producer": [], "consumer": []}
    most = {"producer": 1, "consumer": 1}
    for side, engine in (("producer", case.producer), ("consumer", case.consumer)):
        shared = 0
        used = [0] * len(case.model.groups)
        for request in case.requests:
            lists = getattr(request, f"{side}_blocks")
            fitted = []
            for g, group in enumerate(case.model.groups):
                old = lists[g] if g < len(lists) else ()
                wanted = -(-request.prompt_tokens // max(1, engine.block_tokens))
                if group.is_state:
                    old, wanted = tuple(b for b in old if b), sum(1 for b in old if b)
                row = []
                for i in range(wanted):
                    if i < len(old) and not old[i]:
                        row.append(0)
                        continue
                    shared += 1
                    used[g] += 1
                    row.append(shared if engine.shares_tensors else used[g])
                fitted.append(tuple(row))
            found[side].append(fitted)
        most[side] = 1 + (shared if engine.shares_tensors else max(used))
    requests = tuple(
        replace(
            request,
            producer_blocks=tuple(found["producer"][i]),
            consumer_blocks=tuple(found["consumer"][i]),
        )
        for i, request in enumerate(case.requests)
    )
    return replace(
        case,
        requests=requests,
        producer=replace(case.producer, num_blocks=most["producer"]),
        consumer=replace(case.consumer, num_blocks=most["consumer"]),
    )


def _fewer_blocks(case: TransferCase) -> Iterator[TransferCase]:
    """The lists fitted; one block less; one number lower; a null block filled."""
    yield _refitted(case)
    for side in ("producer", "consumer"):
        engine: Engine = getattr(case, side)
        for count in dict.fromkeys((1, 2, 3, engine.num_blocks - 1)):
            if 0 < count < engine.num_blocks:
                yield replace(case, **{side: replace(engine, num_blocks=count)})
        for i, request in enumerate(case.requests):
            field = f"{side}_blocks"
            lists = getattr(request, field)
            for g, blocks in enumerate(lists):
                shorter = [blocks[:-1], blocks[1:]] if blocks else []
                lower = [
                    (*blocks[:at], block, *blocks[at + 1 :])
                    for at in range(len(blocks))
                    for block in (1, 2, blocks[at] - 1)
                    if 0 < block < blocks[at]
                ]
                for fewer in (*shorter, *lower):
                    changed = replace(request, **{field: (*lists[:g], fewer, *lists[g + 1 :])})
                    yield _with_request(case, i, changed)


def _filtered(build: Pass) -> Pass:
    """Only what is simpler and refused for the same reasons; fitted lists first."""

    def candidates(case: TransferCase) -> Iterator[TransferCase]:
        before, rules = cost(case), refusals(case)
        for candidate in build(case):
            for fitted in (_refitted(candidate), candidate):
                if cost(fitted) < before and _is_sound(fitted) and refusals(fitted) == rules:
                    yield fitted

    return candidates


def _is_sound(case: TransferCase) -> bool:
    """What the reference can say something of: parts and stages that are there at all."""
    engines = (case.producer, case.consumer)
    parts = [part for group in case.model.groups for part in group.parts]
    return (
        all(min(part.units, part.unit_bytes) >= 1 for part in parts)
        and all(engine.stage_layers for engine in engines)
        and case.model.query_heads >= 1
        and (refused_pair(case) is not None or _blocks_are_apart(case))
    )


def _blocks_are_apart(case: TransferCase) -> bool:
    """No block holds two things: on neither side is one named twice by what is served."""
    served = [r for r in case.requests if refused_request(case, r) is None]
    for side, engine in (("producer", case.producer), ("consumer", case.consumer)):
        lists = [getattr(request, f"{side}_blocks") for request in served]
        pools = [[b for each in lists for b in each[g] if b] for g in range(len(case.model.groups))]
        if engine.shares_tensors:
            pools = [[block for pool in pools for block in pool]]
        if any(len(set(pool)) != len(pool) for pool in pools):
            return False
    return True


PASSES: tuple[Pass, ...] = tuple(
    _filtered(build)
    for build in (
        _fewer_requests,
        _fewer_layers,
        _fewer_ranks,
        _smaller_parts,
        _shorter_prompts,
        _smaller_blocks,
        _plainer,
        _fewer_blocks,
    )
)
"""Kinds of simplification of transfers, the most rewarding first."""
