"""What descriptors say: which slots of which rank they read and fill, found from addresses alone.

The planner is not asked. Each address is looked up in its rank's memory, so that a plan with a
wrong offset shows a wrong slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oracle.planning.view import Move, Pattern, Read

if TYPE_CHECKING:
    from ir.transfer import EngineGeometry, EngineTransferPlan, TransferRequest, Worker
    from ir.transfer.geometry import Place
    from ir.transfer.groups import CacheGroup, Part
    from ir.transfer.plan import BoundTransfer

Bound = list[tuple["EngineTransferPlan", tuple["BoundTransfer", ...]]]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One rank's memory: its engine, its stage, and where its tensors begin."""

    engine: EngineGeometry
    stage: int
    first_address: int
    lists: tuple[tuple[int, ...], ...]

    def find(self, addresses: NDArray[np.uint64]) -> tuple[Numbers, Numbers, Numbers]:
        """Of each address the tensor, the page (block number) and the byte within it."""
        strides = np.array(self.engine.page_strides(self.stage), dtype=np.int64)
        ends = np.cumsum(strides * self.engine.num_blocks)
        at = (addresses - np.uint64(self.first_address)).astype(np.int64)
        tensor = np.searchsorted(ends, at, side="right")
        within = at - (ends - strides * self.engine.num_blocks)[tensor]
        return tensor, within // strides[tensor], within % strides[tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """The bytes of one part of one layer on one side, for each descriptor that touches it.

    `block` is the entry of the request's list, `kernel` the kernel block within it and `byte` the
    offset in the part's share of that.
    """

    hit: NDArray[np.bool_]
    entry: Numbers
    block: Numbers
    kernel: Numbers
    byte: Numbers


def _landing(
    memory: Memory, g: int, place: Place, where: tuple[Numbers, Numbers, Numbers]
) -> Landing:
    tensor, page, offset = where
    entries = np.full(memory.engine.num_blocks, -1, dtype=np.int64)
    for entry, block in enumerate(memory.lists[g]):
        if block:
            entries[block] = entry
    byte = offset % place.kernel_stride - place.offset
    hit = (tensor == place.tensor) & (entries[page] >= 0) & (byte >= 0) & (byte < place.length)
    return Landing(
        hit=hit, entry=entries[page], block=page, kernel=offset // place.kernel_stride, byte=byte
    )


def _slots(engine: EngineGeometry, group: CacheGroup, part: Part, byte: int, length: int) -> range:
    """The slots that a run of bytes touches, from its offset in a part of a kernel block."""
    slots = _slots_held(engine, part)
    if group.kind.is_state:
        step = part.unit_bytes
    elif engine.layout.value == "HND":
        step = part.unit_bytes * engine.kernel_tokens
    else:
        row = part.unit_bytes * slots
        if byte % row + length > row:
            return range(slots)
        byte, step = byte % row, part.unit_bytes
    return range(byte // step, (byte + length - 1) // step + 1)


def _slots_held(engine: EngineGeometry, part: Part) -> int:
    from ir.transfer.geometry import held

    return held(part, engine.tp)


def _token(engine: EngineGeometry, part: Part, byte: Numbers) -> Numbers:
    """The token of a kernel block at an offset in its share of a part."""
    if engine.layout.value == "HND":
        return byte % (part.unit_bytes * engine.kernel_tokens) // part.unit_bytes
    return byte // (part.unit_bytes * _slots_held(engine, part))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The descriptors of one channel that fill a part of a group's first common layer."""

    source: Worker
    worker: Worker
    layers: int
    part: int
    from_part: int
    ours: Landing
    theirs: Landing
    lengths: Numbers
    offsets: tuple[int, int]
    """Where the producer's and the consumer's parts begin in a kernel block."""


def _contacts(g: int, bound: Bound, request: TransferRequest, start: int) -> Iterator[Contact]:
    from ir.transfer.descriptors import expand

    for plan, transfers in bound:
        channels = {channel.source: channel for channel in plan.channels}
        for transfer in transfers:
            channel, worker, source = channels[transfer.source], plan.worker, transfer.source
            group = plan.producer.model.groups[g]
            ours = Memory(
                engine=plan.consumer,
                stage=worker.stage,
                first_address=start,
                lists=request.consumer_blocks,
            )
            theirs = Memory(
                engine=plan.producer,
                stage=source.stage,
                first_address=start,
                lists=request.producer_blocks,
            )
            their_layers = plan.producer.layers_of(source.stage, group)
            our_layers = plan.consumer.layers_of(worker.stage, group)
            layers = sorted(set(their_layers) & set(our_layers))
            if not layers:
                continue
            to, lengths = expand(channel.consumer_rows, transfer.consumer_ids)
            origin, _ = expand(channel.producer_rows, transfer.producer_ids)
            found, came = ours.find(to), theirs.find(origin)
            targets = plan.consumer.places(worker.stage, g, layers[0])
            sources = plan.producer.places(source.stage, g, layers[0])
            for p, target in enumerate(targets):
                landed = _landing(ours, g, target, found)
                for q, place in enumerate(sources):
                    left = _landing(theirs, g, place, came)
                    both = landed.hit & left.hit
                    if both.any():
                        yield Contact(
                            source=source,
                            worker=worker,
                            layers=len(layers),
                            part=p,
                            from_part=q,
                            ours=_only(landed, both),
                            theirs=_only(left, both),
                            lengths=lengths[both],
                            offsets=(place.offset, target.offset),
                        )


def _only(landing: Landing, which: NDArray[np.bool_]) -> Landing:
    return Landing(
        hit=landing.hit[which],
        entry=landing.entry[which],
        block=landing.block[which],
        kernel=landing.kernel[which],
        byte=landing.byte[which],
    )


def patterns_of(g: int, bound: Bound, request: TransferRequest, start: int) -> tuple[Pattern, ...]:
    """The reads of group `g`, once for all pairs of stages between which they are the same."""
    found: dict[tuple[int, int, int], list[Read]] = {}
    for contact in _contacts(g, bound, request, start):
        stages = (contact.source.stage, contact.worker.stage, contact.layers)
        plan = bound[0][0]
        found.setdefault(stages, []).extend(_reads(g, contact, plan.producer, plan.consumer))
    alike: dict[tuple[Read, ...], list[tuple[int, int, int]]] = {}
    for stages, reads in sorted(found.items()):
        alike.setdefault(tuple(sorted(reads)), []).append(stages)
    return tuple(Pattern(stages=tuple(where), reads=reads) for reads, where in alike.items())


def _reads(
    g: int, contact: Contact, producer: EngineGeometry, consumer: EngineGeometry
) -> list[Read]:
    """Runs of slots that neighbour on both sides, with the offsets of their first bytes."""
    group = producer.model.groups[g]
    kinds = np.unique(
        np.stack([contact.ours.byte, contact.theirs.byte, contact.lengths]), axis=1
    ).T.tolist()
    first: dict[tuple[int, int], tuple[int, int, int]] = {}
    for to, origin, length in kinds:
        puts = _slots(consumer, group, group.parts[contact.part], to, length)
        takes = _slots(producer, group, group.parts[contact.from_part], origin, length)
        for put, take in zip(puts, takes, strict=True):
            known = first.get((put, take), (origin, to, length))
            first[put, take] = (min(known[0], origin), min(known[1], to), length)
    found: list[Read] = []
    for (put, take), (origin, to, length) in sorted(first.items()):
        last = found[-1] if found else None
        if last and (put, take) == (last.put + last.count, last.take + last.count):
            found[-1] = replace(last, count=last.count + 1)
            continue
        found.append(
            Read(
                consumer=contact.worker.rank,
                part=contact.part,
                put=put,
                producer=contact.source.rank,
                from_part=contact.from_part,
                take=take,
                count=1,
                source_offset=contact.offsets[0] + origin,
                target_offset=contact.offsets[1] + to,
                piece_bytes=length,
            )
        )
    return found


def moves_of(g: int, bound: Bound, request: TransferRequest, start: int) -> tuple[Move, ...]:
    """The units that the first rank to read group `g` reads of it, in the order of its tokens."""
    plan = bound[0][0]
    producer, consumer = plan.producer, plan.consumer
    group = producer.model.groups[g]
    contact = next(_contacts(g, bound, request, start), None)
    if contact is None:
        return ()
    ours, theirs = contact.ours, contact.theirs
    if group.kind.is_state:
        positions = (ours.entry, theirs.entry)
        tokens = 1
    else:
        tokens = min(producer.kernel_tokens, consumer.kernel_tokens)
        positions = tuple(
            (
                landing.entry * engine.block_tokens
                + landing.kernel * engine.kernel_tokens
                + _token(engine, group.parts[part], landing.byte)
            )
            // tokens
            * tokens
            for landing, engine, part in (
                (ours, consumer, contact.part),
                (theirs, producer, contact.from_part),
            )
        )
    rows = np.stack([positions[0], ours.block, positions[1], theirs.block])
    return tuple(
        Move(
            consumer_at=to,
            consumer_block=our_block,
            producer_at=origin,
            producer_block=their_block,
            tokens=tokens,
        )
        for to, our_block, origin, their_block in np.unique(rows, axis=1).T.tolist()
    )
