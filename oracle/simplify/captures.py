"""How a captured function gets simpler: fewer events, steps and inputs, plainer memory and owners.

The body gets simpler as programs do; contents that replays give follow its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from reference.dtypes import FORMATS, encode
from reference.expectation import Unknown
from reference.model import ProgramCase, Storage
from reference.model.capture import (
    HOW,
    MOVES,
    OWNERS,
    CaptureCase,
    CaptureEvent,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Reseed,
    Seal,
    Write,
)
from reference.replays import CaptureExpectation, expect_capture, for_rows, is_legal

from .cost import storage_ranks
from .program_calls import plainer_calls
from .program_cost import program_cost
from .program_memory import (
    plainer_contents,
    plainer_memory,
    smaller_memory,
    without_inputs,
)
from .program_steps import fewer_steps

Pass = Callable[[CaptureCase], Iterator[CaptureCase]]

_EVENTS = (Replay, Write, Move, Misfit, Poison, Churn, Seal, Create, Reseed)
_PLAIN_OWNERS = ("attribute", *(owner for owner in OWNERS if owner != "attribute"))


def capture_cost(case: CaptureCase) -> tuple[int, ...]:
    """How simple a case is, the more telling first: tuples of numbers that only get smaller."""
    contents = list(_contents(case))
    return (
        len(case.events),
        len(case.body.steps),
        len(case.body.inputs),
        case.body.values + len(case.body.outputs),
        len(case.sizes) + sum(case.sizes),
        int(case.noise) + case.at,
        *program_cost(case.body)[3:],
        sum(_PLAIN_OWNERS.index(owner) for owner in case.owners),
        sum(content.numel for content in contents),
        sum(_event_cost(event) for event in case.events),
        sum(abs(pad or 0) for pad in case.padding),
        sum(int(storage_ranks(content).sum()) for content in contents),
    )


def _event_cost(event: CaptureEvent) -> int:
    kind = 100 * _EVENTS.index(type(event))
    match event:
        case Replay():
            literal = sum(1 + g for g in event.given if isinstance(g, int))
            return kind + HOW.index(event.how) + literal
        case Move():
            return kind + MOVES.index(event.how)
        case Poison() | Churn():
            return kind + (event.byte != 0xC3)
        case Reseed():
            return kind + event.seed
    return kind


def _contents(case: CaptureCase) -> Iterator[Storage]:
    for event in case.events:
        if isinstance(event, Replay):
            yield from (g for g in event.given if isinstance(g, Storage))
        elif isinstance(event, Write):
            yield event.content


def _fewer_events(case: CaptureCase) -> Iterator[CaptureCase]:
    """The first events alone, the last alone, without one, without a pair."""
    events = case.events
    count = len(events)
    for kept in dict.fromkeys((count // 2, count - count // 4, count - 1)):
        if kept < count:
            yield replace(case, events=events[:kept])
            yield replace(case, events=events[count - kept :])
    for i in reversed(range(count)):
        yield replace(case, events=(*events[:i], *events[i + 1 :]))
    for i in reversed(range(count)):
        for k in reversed(range(i)):
            kept = tuple(e for n, e in enumerate(events) if n not in (i, k))
            yield replace(case, events=kept)


def _of_body(build: Callable[[ProgramCase], Iterator[ProgramCase]]) -> Pass:
    """A pass over programs that keeps inputs and outputs what they are."""

    def candidates(case: CaptureCase) -> Iterator[CaptureCase]:
        for body in build(case.body):
            if len(body.inputs) != len(case.body.inputs):
                continue
            fitted = _fitted(case, body)
            if fitted is not None:
                yield fitted

    return candidates


def _fewer_steps(case: CaptureCase) -> Iterator[CaptureCase]:
    for body in fewer_steps(case.body):
        # Of a batch it is said output by output which have rows.
        if not case.sizes or len(body.outputs) == len(case.body.outputs):
            yield replace(case, body=body, at=min(case.at, len(body.steps)))


def _fewer_outputs(case: CaptureCase) -> Iterator[CaptureCase]:
    outputs = case.body.outputs
    for i in range(len(outputs)):
        for kept in ((i,), tuple(k for k in range(len(outputs)) if k != i)):
            yield replace(
                case,
                body=replace(case.body, outputs=tuple(outputs[k] for k in kept)),
                batched=tuple(case.batched[k] for k in kept) if case.sizes else (),
            )


def _returned_instead(case: CaptureCase) -> Iterator[CaptureCase]:
    """An input that is returned, instead of all the steps that use it."""
    body = case.body
    for i in range(len(body.inputs) if body.steps else 0):
        has_rows = bool(case.sizes) and i < case.static and case.padding[i] is not None
        yield replace(
            case,
            body=replace(body, steps=(), outputs=(i,)),
            batched=(has_rows,) if case.sizes else (),
            at=0,
        )


def _not_padded(case: CaptureCase) -> Iterator[CaptureCase]:
    """One graph on the static inputs as they are, instead of those of some batch sizes."""
    if case.sizes:
        events = tuple(replace(e, given=()) if isinstance(e, Replay) else e for e in case.events)
        yield replace(case, sizes=(), padding=(), batched=(), events=events)


def _fitted(case: CaptureCase, body: ProgramCase) -> CaptureCase | None:
    """The case with a body whose inputs have other shapes or dtypes: contents cut to fit."""
    events: list[CaptureEvent] = []
    for event in case.events:
        match event:
            case Replay():
                given = tuple(
                    g if isinstance(g, int) else _cut(case, body, i, g)
                    for i, g in enumerate(event.given)
                )
                events.append(replace(event, given=given))
            case Write():
                cut = _cut(case, body, event.position, event.content)
                events.append(replace(event, content=cut))
            case _:
                events.append(event)
    at = min(case.at, len(body.steps))
    return replace(case, body=body, events=tuple(events), at=at)


def _cut(case: CaptureCase, body: ProgramCase, position: int, content: Storage) -> Storage:
    was, now = case.body.input_view(position), body.input_view(position)
    dtype = body.storages[now.storage].dtype
    values = content.array()
    if was.shape != now.shape and was.shape:
        # Of a batch there may be fewer rows than the input has.
        shaped = values.reshape(-1, *was.shape[1:])
        if len(was.shape) == len(now.shape):
            shaped = shaped[tuple(slice(n) for n in now.shape)]
        values = np.ascontiguousarray(shaped).reshape(-1)
    if dtype != content.dtype:
        values = _converted(values, dtype)
    return Storage(dtype, values.size, values.tobytes())


def _converted(values: np.ndarray, dtype: str) -> np.ndarray:
    wide = values.astype(np.float64)
    if FORMATS[dtype].kind == "float":
        return encode(wide, dtype)
    return wide.astype(FORMATS[dtype].dtype)


def _fewer_inputs(case: CaptureCase) -> Iterator[CaptureCase]:
    """Without an input that no step uses, and without what happens to it."""
    body = case.body
    used = set(body.outputs).union(*(step.values() for step in body.steps))
    for gone in reversed(range(len(body.inputs))):
        if gone in used or (case.sizes and gone == 0):
            continue
        static = gone < case.static
        owner = gone - case.static
        yield replace(
            case,
            body=without_inputs(body, [gone]),
            owners=case.owners if static else (*case.owners[:owner], *case.owners[owner + 1 :]),
            padding=tuple(p for i, p in enumerate(case.padding) if i != gone),
            events=tuple(_events_without(case.events, gone)),
        )


def _events_without(events: tuple[CaptureEvent, ...], gone: int) -> Iterator[CaptureEvent]:
    def number(found: int) -> int:
        return found - (found > gone)

    for event in events:
        match event:
            case Replay():
                given = tuple(
                    number(g) if isinstance(g, int) else g
                    for i, g in enumerate(event.given)
                    if i != gone
                )
                yield replace(event, given=given)
            case Write() | Move() | Create():
                if event.position != gone:
                    yield replace(event, position=number(event.position))
            case _:
                yield event


def _plainer_owners(case: CaptureCase) -> Iterator[CaptureCase]:
    """An owner that is an attribute, or else of an earlier kind."""
    for i, owner in enumerate(case.owners):
        for plainer in _PLAIN_OWNERS[: _PLAIN_OWNERS.index(owner)]:
            yield replace(case, owners=(*case.owners[:i], plainer, *case.owners[i + 1 :]))


def _owned_instead(case: CaptureCase) -> Iterator[CaptureCase]:
    """The last static input as an attribute."""
    if case.static and not case.sizes:
        last = case.static - 1
        given = tuple(
            replace(e, given=e.given[:last]) if isinstance(e, Replay) else e for e in case.events
        )
        yield replace(case, owners=("attribute", *case.owners), events=given)


def _smaller_batches(case: CaptureCase) -> Iterator[CaptureCase]:
    """One graph alone, all for fewer rows, then batches of fewer rows."""
    for size in case.sizes if len(case.sizes) > 1 else ():
        if size == max(case.sizes):
            yield replace(case, sizes=(size,))
    if case.sizes and max(case.sizes) > 1:
        yield from _with_rows(case, max(case.sizes) - 1)
    for i, event in enumerate(case.events):
        if case.sizes and isinstance(event, Replay):
            fewer = _one_row_less(case, event)
            if fewer is not None:
                yield replace(case, events=(*case.events[:i], fewer, *case.events[i + 1 :]))


def _with_rows(case: CaptureCase, rows: int) -> Iterator[CaptureCase]:
    body = for_rows(case, rows)
    sizes = tuple(sorted({min(size, rows) for size in case.sizes}))
    events = tuple(
        _one_row_less(case, event, rows) or event if isinstance(event, Replay) else event
        for event in case.events
    )
    yield replace(case, body=body, sizes=sizes, events=events)


def _one_row_less(case: CaptureCase, event: Replay, most: int | None = None) -> Replay | None:
    """The batch without its last row, or with no more than ``most``."""
    given: list[Storage | int] = []
    for i, content in enumerate(event.given):
        pad = case.padding[i]
        if pad is None or isinstance(content, int):
            given.append(content)
            continue
        view = case.body.input_view(i)
        row = view.numel // max(view.shape[0], 1)
        rows = content.numel // max(row, 1)
        wanted = rows - 1 if most is None else min(rows, most)
        if wanted < 1:
            return None
        values = content.array()[: wanted * row]
        given.append(Storage(content.dtype, values.size, values.tobytes()))
    return replace(event, given=tuple(given))


def _plainer_events(case: CaptureCase) -> Iterator[CaptureCase]:
    """Replays that copy and are given literals; other moves; no noise, nothing before a trap."""
    if case.noise:
        yield replace(case, noise=False)
    if case.at:
        yield replace(case, at=0)
    for i, event in enumerate(case.events):
        for plainer in _plainer_event(case, event):
            yield replace(case, events=(*case.events[:i], plainer, *case.events[i + 1 :]))
    for i, pad in enumerate(case.padding):
        if pad:
            padding = (*case.padding[:i], 0, *case.padding[i + 1 :])
            yield replace(case, padding=padding)


def _plainer_event(case: CaptureCase, event: CaptureEvent) -> Iterator[CaptureEvent]:
    match event:
        case Replay():
            if event.how != "copied":
                yield replace(event, how="copied")
            for k, g in enumerate(event.given):
                for content in _plain_contents(case, k, g):
                    yield replace(event, given=(*event.given[:k], content, *event.given[k + 1 :]))
        case Write():
            for content in _plain_contents(case, event.position, event.content):
                yield replace(event, content=content)
        case Move():
            for how in MOVES[: MOVES.index(event.how)]:
                yield replace(event, how=how)
        case Poison() | Churn():
            yield replace(event, byte=0xC3)
        case Reseed():
            yield Reseed(seed=0)


def _plain_contents(case: CaptureCase, position: int, now: Storage | int) -> Iterator[Storage]:
    """Ones, then 1, 2, 3, ...: of the number of elements that are given now."""
    view = case.body.input_view(position)
    dtype = case.body.storages[view.storage].dtype
    numel = view.numel if isinstance(now, int) else now.numel
    for period in (1, 2, 6):
        values = np.arange(numel) % period + 1.0
        plain = _converted(values if dtype != "bool" else values % 2, dtype)
        yield Storage(dtype, numel, plain.tobytes())


def _kept(found: CaptureExpectation, wanted: CaptureExpectation) -> bool:
    """Whether the reference says the same kind of thing of a candidate as of the case."""
    if isinstance(wanted, Unknown) or isinstance(found, Unknown):
        return found == wanted
    # What a contract leaves open may become exact, never the other way.
    return found.refused == wanted.refused and found.exact >= wanted.exact


def _filtered(build: Pass) -> Pass:
    def candidates(case: CaptureCase) -> Iterator[CaptureCase]:
        wanted, limit = expect_capture(case), capture_cost(case)
        for candidate in build(case):
            if not is_legal(candidate) or not capture_cost(candidate) < limit:
                continue
            if _kept(expect_capture(candidate), wanted):
                yield candidate

    return candidates


CAPTURE_PASSES: tuple[Pass, ...] = tuple(
    _filtered(build)
    for build in (
        _fewer_events,
        _not_padded,
        _returned_instead,
        _fewer_steps,
        _fewer_outputs,
        _fewer_inputs,
        _smaller_batches,
        _of_body(smaller_memory),
        _of_body(plainer_memory),
        _of_body(plainer_calls),
        _owned_instead,
        _plainer_owners,
        _of_body(plainer_contents),
        _plainer_events,
    )
)
"""Kinds of simplification, the most rewarding first."""
