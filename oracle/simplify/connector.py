"""How a connector case gets simpler: fewer events, requests, tokens, blocks; a plainer worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from reference.model.connector import (
    CALLS,
    CONNECTORS,
    DAMAGES,
    DTYPES,
    MODELS,
    MODES,
    ByHand,
    ConnectorCase,
    Damage,
    Dummy,
    Event,
    Restart,
    Serve,
    Served,
)
from reference.serving import expect_run, legal

Pass = Callable[[ConnectorCase], Iterator[ConnectorCase]]
WEIGHTS = {Dummy: 1, Restart: 2, Damage: 3, ByHand: 4, Serve: 5}
"""Kinds of event, the plainer the less."""


def cost(case: ConnectorCase) -> tuple[int, ...]:
    """How simple a case is: the more telling first, so that shrinking always ends."""
    served = [e for e in case.events if isinstance(e, Serve)]
    requests = [r for e in served for r in e.requests]
    size = case.size
    return (
        len(case.events),
        sum(WEIGHTS[type(e)] for e in case.events),
        len(requests),
        sum(len(e.calls) for e in case.events if isinstance(e, ByHand)),
        size.layers,
        MODES.index(case.mode) + CONNECTORS.index(case.connector),
        sum(r.stop for r in requests),
        sum(len(r.prompt) + len(r.generated) for r in requests),
        sum(r.load + r.save for r in requests),
        sum(len(r.blocks) for r in requests),
        sum(len(e.finished) + e.dies + 1 for e in served),
        size.heads,
        size.block_size,
        size.blocks_per_request,
        size.blocks,
        DTYPES.index(case.dtype),
        len(case.buckets),
        sum(case.buckets),
        abs(case.capacity - 64),
        sum(e.rows for e in case.events if isinstance(e, Dummy)),
        sum(MODELS.index(e.model) for e in case.events if isinstance(e, Restart)),
        sum(DAMAGES.index(e.how) + len(e.tokens) for e in case.events if isinstance(e, Damage)),
        sum(r.start for r in requests),
        sum(sum(r.blocks) for r in requests),
        sum(_words(case)),
    )


def _words(case: ConnectorCase) -> Iterator[int]:
    """Tokens, names and the calls by hand as numbers."""
    for event in case.events:
        match event:
            case Serve():
                for r in event.requests:
                    yield from (*r.prompt, *r.generated)
                names = (*event.finished, *(r.name for r in event.requests))
                yield from (sum(map(ord, name)) for name in names)
            case Damage():
                yield from event.tokens
            case ByHand():
                yield int(not event.dummy)
                yield from (CALLS.index(call) + layer for call, layer in event.calls)
            case _:
                pass


def _with(case: ConnectorCase, i: int, *events: Event) -> ConnectorCase:
    """The case with event `i` replaced by others, or by none."""
    return replace(case, events=(*case.events[:i], *events, *case.events[i + 1 :]))


def _serves(case: ConnectorCase) -> Iterator[tuple[int, Serve]]:
    for i, event in enumerate(case.events):
        if isinstance(event, Serve):
            yield i, event


def _fewer_events(case: ConnectorCase) -> Iterator[ConnectorCase]:
    count = len(case.events)
    for i in range(count):
        yield replace(case, events=case.events[:i])
    for i in range(count):
        yield replace(case, events=case.events[i:])
    for i in range(count):
        yield _with(case, i)
    for i, event in enumerate(case.events):
        for plainer in (Dummy(1), Restart()):
            if WEIGHTS[type(plainer)] < WEIGHTS[type(event)]:
                yield _with(case, i, plainer)


def _fewer_requests(case: ConnectorCase) -> Iterator[ConnectorCase]:
    for i, event in _serves(case):
        for k in range(len(event.requests)):
            rest = (*event.requests[:k], *event.requests[k + 1 :])
            yield _with(case, i, replace(event, requests=rest))
    names = {r.name for _, e in _serves(case) for r in e.requests}
    for name in sorted(names):
        # Somebody who was never there.
        gone = tuple(
            replace(e, requests=tuple(r for r in e.requests if r.name != name))
            if isinstance(e, Serve)
            else e
            for e in case.events
        )
        yield replace(case, events=gone)


def _fewer_calls(case: ConnectorCase) -> Iterator[ConnectorCase]:
    for i, event in enumerate(case.events):
        if not isinstance(event, ByHand):
            continue
        for n in range(len(event.calls)):
            yield _with(case, i, replace(event, calls=event.calls[:n]))
        for n in range(len(event.calls)):
            yield _with(case, i, replace(event, calls=event.calls[:n] + event.calls[n + 1 :]))
        for n, (call, _) in enumerate(event.calls):
            others = [(other, 0) for other in CALLS[: CALLS.index(call) + 1]]
            for other in others:
                changed = (*event.calls[:n], other, *event.calls[n + 1 :])
                yield _with(case, i, replace(event, calls=changed))
        yield _with(case, i, replace(event, dummy=True))


def _plainer_worker(case: ConnectorCase) -> Iterator[ConnectorCase]:
    size = case.size
    for layers in range(1, size.layers):
        kept = tuple(
            replace(e, calls=tuple(c for c in e.calls if c[1] < layers))
            if isinstance(e, ByHand)
            else e
            for e in case.events
        )
        yield replace(case, size=replace(size, layers=layers), events=kept)
    for connector in CONNECTORS[: CONNECTORS.index(case.connector)]:
        for mode in MODES[: MODES.index(case.mode) + 1]:
            yield replace(case, connector=connector, mode=mode)
    for mode in MODES[: MODES.index(case.mode)]:
        yield replace(case, mode=mode)
    if size.heads > 1:
        yield replace(case, size=replace(size, heads=1))
    for dtype in DTYPES[: DTYPES.index(case.dtype)]:
        yield replace(case, dtype=dtype)
    rows = [sum(r.stop - r.start for r in e.requests) for _, e in _serves(case)]
    rows += [e.rows for e in case.events if isinstance(e, Dummy)]
    most = max((1, *rows))
    for buckets in ((most,), (most + 1,), case.buckets[-1:], (1, 2)):
        yield replace(case, buckets=buckets)
    for capacity in (64, case.capacity + 1):
        yield replace(case, capacity=capacity)
    for i, event in enumerate(case.events):
        if isinstance(event, Dummy):
            yield _with(case, i, Dummy(1))
        if isinstance(event, Restart):
            yield _with(case, i, Restart())


def _shorter(case: ConnectorCase) -> Iterator[ConnectorCase]:
    """Fewer tokens of a request, in all steps in which it is served, or of all requests."""
    longest = max((len(r.prompt) for _, e in _serves(case) for r in e.requests), default=0)
    size = case.size
    for n in range(1, longest):
        for block_size in range(1, size.block_size):
            cut = replace(_cut(case, n), size=replace(size, block_size=block_size))
            yield _renumbered(cut)
        yield _cut(case, n)
    for i, event in _serves(case):
        for k, r in enumerate(event.requests):
            for changed in _fewer_tokens(case, r):
                requests = (*event.requests[:k], changed, *event.requests[k + 1 :])
                yield _with(case, i, replace(event, requests=requests))
        for n in range(len(event.finished)):
            yield _with(case, i, replace(event, finished=event.finished[:n]))
        for dies in range(-1, event.dies):
            yield _with(case, i, replace(event, dies=dies))


def _cut(case: ConnectorCase, n: int) -> ConnectorCase:
    """No prompt, load, save or damaged entry beyond `n` tokens."""

    def cut(r: Served) -> Served:
        stop = min(r.stop, n)
        return replace(
            r,
            prompt=r.prompt[:n],
            generated=(),
            start=min(r.start, stop - 1),
            stop=stop,
            load=min(r.load, n),
            save=min(r.save, n),
        )

    events: list[Event] = []
    for event in case.events:
        if isinstance(event, Serve):
            event = replace(event, requests=tuple(cut(r) for r in event.requests))
        elif isinstance(event, Damage):
            event = replace(event, tokens=event.tokens[:n])
        events.append(event)
    return replace(case, events=tuple(events))


def _fewer_tokens(case: ConnectorCase, r: Served) -> Iterator[Served]:
    yield replace(r, load=0, save=0)
    yield replace(r, load=0)
    yield replace(r, save=0)
    yield replace(r, generated=(), stop=min(r.stop, len(r.prompt)), start=min(r.start, r.stop - 1))
    for start in range(r.start):
        yield replace(r, start=start)
    for stop in range(r.start + 1, r.stop):
        yield replace(r, stop=stop, save=min(r.save, stop))
    for n in range(max(r.stop, r.load), len(r.prompt)):
        yield replace(r, prompt=r.prompt[:n], generated=())
    yield replace(r, generated=r.generated[: max(0, r.stop - len(r.prompt))])
    for n in range(r.save):
        yield replace(r, save=n)
    for n in range(r.load):
        yield replace(r, load=n)
    b = case.size.block_size
    needed = -(-max(r.stop, r.load) // b)
    yield replace(r, blocks=r.blocks[:needed])


def _smaller_memory(case: ConnectorCase) -> Iterator[ConnectorCase]:
    """Fewer and smaller blocks, lower numbers, plainer tokens and names."""
    size = case.size
    for block_size in range(1, size.block_size):
        sized = replace(size, block_size=block_size)
        yield replace(case, size=sized)
        # As many more blocks as smaller ones take.
        most = -(-size.longest // block_size)
        yield _renumbered(replace(case, size=replace(sized, blocks_per_request=most)))
    requests = [r for _, e in _serves(case) for r in e.requests]
    held = max((len(r.blocks) for r in requests), default=1)
    most = max((max(r.blocks) for r in requests), default=1)
    yield replace(case, size=replace(size, blocks_per_request=held, blocks=most + 1))
    yield _renumbered(case)
    yield _respelled(case)
    for i, event in _serves(case):
        for k, r in enumerate(event.requests):
            for at, block in enumerate(r.blocks):
                for lower in range(1, block):
                    blocks = (*r.blocks[:at], lower, *r.blocks[at + 1 :])
                    changed = (
                        *event.requests[:k],
                        replace(r, blocks=blocks),
                        *event.requests[k + 1 :],
                    )
                    yield _with(case, i, replace(event, requests=changed))
    for i, event in enumerate(case.events):
        if isinstance(event, Damage):
            for how in DAMAGES[: DAMAGES.index(event.how)]:
                yield _with(case, i, Damage(event.tokens, how))
            for n in range(1, len(event.tokens)):
                yield _with(case, i, Damage(event.tokens[:n], event.how))


def _renumbered(case: ConnectorCase) -> ConnectorCase:
    """Blocks numbered from 1 in the order in which they come, as many a request as it needs."""
    order: dict[tuple[int, int], int] = {}
    b = case.size.block_size
    events: list[Event] = []
    for event in case.events:
        if isinstance(event, Serve):
            made: list[Served] = []
            for r in event.requests:
                needed = -(-max(r.stop, r.load) // b)
                held = [(block, 0) for block in r.blocks]
                # Blocks that it does not have yet go by the first that it has.
                held += [(r.blocks[0], i) for i in range(1, needed)]
                numbers = [order.setdefault(key, len(order) + 1) for key in held[:needed]]
                made.append(replace(r, blocks=tuple(numbers)))
            event = replace(event, requests=tuple(made))
        events.append(event)
    most = max(
        (len(r.blocks) for e in events if isinstance(e, Serve) for r in e.requests), default=1
    )
    size = replace(case.size, blocks=max(2, len(order) + 1), blocks_per_request=most)
    return replace(case, size=size, events=tuple(events))


def _respelled(case: ConnectorCase) -> ConnectorCase:
    """Tokens numbered in the order in which they come, requests named likewise."""
    tokens: dict[int, int] = {}
    names: dict[str, str] = {}

    def spelled(sequence: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(tokens.setdefault(token, len(tokens)) for token in sequence)

    def named(name: str) -> str:
        return names.setdefault(name, f"r{len(names)}")

    events: list[Event] = []
    for event in case.events:
        if isinstance(event, Serve):
            requests = tuple(
                replace(
                    r,
                    name=named(r.name),
                    prompt=spelled(r.prompt),
                    generated=spelled(r.generated),
                )
                for r in event.requests
            )
            finished = tuple(named(name) for name in event.finished)
            event = replace(event, requests=requests, finished=finished)
        elif isinstance(event, Damage):
            event = Damage(spelled(event.tokens), event.how)
        events.append(event)
    return replace(case, events=tuple(events))


def _filtered(build: Pass) -> Pass:
    """Only what is simpler, legal, and refused where the case is."""

    def candidates(case: ConnectorCase) -> Iterator[ConnectorCase]:
        before, refused = cost(case), expect_run(case).refused
        for candidate in build(case):
            if cost(candidate) >= before or not legal(candidate):
                continue
            if expect_run(candidate).refused == refused:
                yield candidate

    return candidates


PASSES: tuple[Pass, ...] = tuple(
    _filtered(build)
    for build in (
        _fewer_events,
        _fewer_requests,
        _fewer_calls,
        _plainer_worker,
        _shorter,
        _smaller_memory,
    )
)
"""Kinds of simplification of connector cases, the most rewarding first."""
