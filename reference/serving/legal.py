"""Which connector cases are sound: sizes that fit, and no two requests that write one block."""

from __future__ import annotations

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
    PagedSize,
    Restart,
    Serve,
    Served,
)

from .model import VOCABULARY


def legal(case: ConnectorCase) -> bool:
    """Whether a worker may be given this case at all."""
    size = case.size
    sizes = (size.layers, size.heads, size.block_size, size.blocks_per_request, case.capacity)
    return (
        min(sizes) >= 1
        and size.blocks >= 2
        and case.connector in CONNECTORS
        and case.mode in MODES
        and case.dtype in DTYPES
        and bool(case.buckets)
        and min(case.buckets) >= 1
        and list(case.buckets) == sorted(set(case.buckets))
        and all(_event_is_legal(case, event) for event in case.events)
    )


def _event_is_legal(case: ConnectorCase, event: Event) -> bool:
    has_connector = case.connector != "none"
    match event:
        case Serve():
            return (
                all(_request_is_legal(case.size, r) for r in event.requests)
                and sum(r.stop - r.start for r in event.requests) <= case.buckets[-1]
                and len({r.name for r in event.requests}) == len(event.requests)
                and _blocks_are_apart(case.size, event.requests)
                and (has_connector or all(not r.load and not r.save for r in event.requests))
                and (event.dies == -1 or (has_connector and event.dies >= 0))
            )
        case Dummy():
            return 1 <= event.rows <= case.buckets[-1]
        case Damage():
            return (
                has_connector
                and bool(event.tokens)
                and all(0 <= token < VOCABULARY for token in event.tokens)
                and event.how in DAMAGES
            )
        case Restart():
            return event.model in MODELS
        case ByHand():
            return has_connector and all(
                call in CALLS and 0 <= layer < case.size.layers for call, layer in event.calls
            )


def _request_is_legal(size: PagedSize, r: Served) -> bool:
    blocks = r.blocks
    held = len(blocks) * size.block_size
    return (
        0 <= r.start < r.stop <= len(r.prompt) + len(r.generated)
        and max(r.stop, r.load) <= min(held, size.longest)
        and len(blocks) <= size.blocks_per_request
        and len(set(blocks)) == len(blocks)
        and all(1 <= block < size.blocks for block in blocks)
        and 0 <= r.load <= len(r.prompt)
        and 0 <= r.save <= min(r.stop, len(r.prompt))
        and all(0 <= token < VOCABULARY for token in (*r.prompt, *r.generated))
        and bool(r.name)
    )


def _blocks_are_apart(size: PagedSize, requests: tuple[Served, ...]) -> bool:
    """Who writes a block in a step is alone with it."""
    for r in requests:
        written = {
            r.blocks[p // size.block_size] for p in (*range(r.load), *range(r.start, r.stop))
        }
        if any(written & set(other.blocks) for other in requests if other is not r):
            return False
    return True
