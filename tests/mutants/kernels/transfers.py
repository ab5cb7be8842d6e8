"""Faults that transfer code really had, planted one by one into ``ir.transfer``.

Loaded by tests, and by a run's ``--import``: then ``TRANSFER_FAULT`` names the fault to plant for
good, where ``MUTANT_FAULTS`` is 1.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ir.transfer import (
    EngineGeometry,
    EngineTransferPlan,
    IncompatibleEnginesError,
    ProducerLeases,
    TransferRequest,
)
from ir.transfer import channel as channel_module
from ir.transfer import descriptors as descriptors_module
from ir.transfer import mapping as mapping_module
from ir.transfer import pair as pair_module
from ir.transfer import plan as planning
from ir.transfer import request as request_module

Patch = pytest.MonkeyPatch

_sources_of = mapping_module.sources_of
_pair_units = planning.pair_units
_plan_transfer = planning.plan_transfer
_notifications = EngineTransferPlan.notifications


def _replicas_by_modulo(patch: Patch) -> None:
    """Ranks beyond the heads hold 0, 1, 0, 1 instead of 0, 0, 1, 1."""

    def first_held(part, tp, rank):
        return rank % part.units if tp > part.units else rank * part.units // tp

    patch.setattr(mapping_module, "first_held", first_held)


def _head_slot_off_by_one(patch: Patch) -> None:
    def sources_of(part, **sizes):
        return tuple(replace(s, put=s.put + 1) for s in _sources_of(part, **sizes))

    patch.setattr(mapping_module, "sources_of", sources_of)


def _head_offset_off_by_one(patch: Patch) -> None:
    def sources_of(part, **sizes):
        return tuple(
            replace(s, take=(s.take + 1) % max(1, part.units // sizes["producer_tp"]))
            for s in _sources_of(part, **sizes)
        )

    patch.setattr(mapping_module, "sources_of", sources_of)


def _head_offset_by_tp_ratio(patch: Patch) -> None:
    """Offsets that follow the ratio of the TP sizes, not that of the heads held."""

    def sources_of(part, **sizes):
        p, d = sizes["producer_tp"], sizes["consumer_tp"]
        found = _sources_of(part, **sizes)
        if d <= p:
            return found
        return tuple(replace(s, take=sizes["consumer_rank"] % (d // p)) for s in found)

    patch.setattr(mapping_module, "sources_of", sources_of)


def _replicated_means_whole(patch: Patch) -> None:
    """With copies on the producer, only its first rank is read."""

    def sources_of(part, **sizes):
        found = _sources_of(part, **sizes)
        return found[:1] if sizes["producer_tp"] > part.units else found

    patch.setattr(mapping_module, "sources_of", sources_of)


def _copies_read_too(patch: Patch) -> None:
    def sources_of(part, **sizes):
        found = _sources_of(part, **sizes)
        facing = mapping_module.ranks_facing(**sizes)
        copies = len(facing) // len(found)
        return tuple(replace(s, rank=s.rank + i) for s in found for i in range(copies))

    patch.setattr(mapping_module, "sources_of", sources_of)


def _states_follow_attention(patch: Patch) -> None:
    """One list of source ranks for all groups, that of the first."""

    def tp_mapping(groups, **sizes):
        found = mapping_module.tp_mapping(groups, **sizes)
        ranks = found.ranks_read(0)
        return replace(
            found,
            sources=tuple(
                tuple(tuple(s for s in part if s.rank in ranks) for part in group)
                for group in found.sources
            ),
        )

    patch.setattr(planning, "tp_mapping", tp_mapping)


def _convolution_as_one_block(patch: Patch) -> None:
    """B and C sliced like x, by heads, instead of by their own groups."""

    def sources_of(part, **sizes):
        found = _sources_of(part, **sizes)
        p, d, rank = sizes["producer_tp"], sizes["consumer_tp"], sizes["consumer_rank"]
        if part.name not in ("conv.B", "conv.C") or d <= p:
            return found
        return tuple(replace(s, take=(rank % (d // p)) * s.count) for s in found)

    patch.setattr(mapping_module, "sources_of", sources_of)


def _mutate_grids(patch: Patch, change: Callable) -> None:
    def plan_transfer(*engines, **bases):
        plan = _plan_transfer(*engines, **bases)
        channels = tuple(
            replace(channel, groups=tuple(change(rows) for rows in channel.groups))
            for channel in plan.channels
        )
        return replace(plan, channels=channels)

    patch.setattr(planning, "plan_transfer", plan_transfer)


def _block_counts_swapped(patch: Patch) -> None:
    """Each side's ids are computed with the other side's number of blocks."""

    def change(rows):
        ours, theirs = rows.consumer_grid, rows.producer_grid
        return replace(
            rows,
            consumer_grid=replace(ours, pages=theirs.pages),
            producer_grid=replace(theirs, pages=ours.pages),
        )

    _mutate_grids(patch, change)


def _own_blocks_for_both(patch: Patch) -> None:
    _mutate_grids(patch, lambda rows: replace(rows, producer_grid=rows.consumer_grid))


def _mutate_units(patch: Patch, change: Callable) -> None:
    def pair_units(producer, consumer, request):
        pairs = _pair_units(producer, consumer, request)
        groups = producer.model.groups
        return tuple(
            change(group, ours, theirs, (producer, consumer, request))
            for group, (ours, theirs) in zip(groups, pairs, strict=True)
        )

    patch.setattr(planning, "pair_units", pair_units)


def _tail_dropped(patch: Patch) -> None:
    """A last unit that the prompt does not fill is not sent."""

    def change(group, ours, theirs, case):
        producer, consumer, request = case
        unit = min(producer.kernel_tokens, consumer.kernel_tokens)
        if group.kind.is_state or request.prompt_tokens % unit == 0:
            return ours, theirs
        return ours[:-1], theirs[:-1]

    _mutate_units(patch, change)


def _full_tail_dropped(patch: Patch) -> None:
    """A prompt that ends with a block loses that block."""

    def change(group, ours, theirs, case):
        _, consumer, request = case
        if group.kind.is_state or request.prompt_tokens % consumer.block_tokens:
            return ours, theirs
        return ours[:-1], theirs[:-1]

    _mutate_units(patch, change)


def _logical_numbers_as_kernel_numbers(patch: Patch) -> None:
    def change(group, ours, theirs, case):
        producer, _, _ = case
        if group.kind.is_state:
            return ours, theirs
        return ours, theirs // producer.grain_per_page

    _mutate_units(patch, change)


def _permuted_within_a_page(patch: Patch) -> None:
    """The same bytes in the same page, two of its units exchanged: no checksum sees it."""

    def change(group, ours, theirs, case):
        _, consumer, _ = case
        page = ours // consumer.grain_per_page
        twin = np.flatnonzero(np.diff(page) == 0)
        if group.kind.is_state or not len(twin):
            return ours, theirs
        ours = ours.copy()
        i = twin[0]
        ours[[i, i + 1]] = ours[[i + 1, i]]
        return ours, theirs

    _mutate_units(patch, change)


def _state_kind_forgotten(patch: Patch) -> None:
    def change(group, ours, theirs, case):
        return (ours[:0], theirs[:0]) if group.kind.is_state else (ours, theirs)

    _mutate_units(patch, change)


def _prefix_hit_trims_from_the_front(patch: Patch) -> None:
    """Trimmed by count from the wrong end: as many units, of earlier tokens."""

    def change(group, ours, theirs, case):
        producer, consumer, request = case
        if group.kind.is_state or not request.cached_tokens or not len(theirs):
            return ours, theirs
        whole = _pair_units(producer, consumer, replace(request, cached_tokens=0))
        g = producer.model.groups.index(group)
        return ours, whole[g][1][: len(theirs)]

    _mutate_units(patch, change)


def _prefix_hit_ignored(patch: Patch) -> None:
    def pair_units(producer, consumer, request):
        return _pair_units(producer, consumer, replace(request, cached_tokens=0))

    patch.setattr(planning, "pair_units", pair_units)


def _null_block_is_data(patch: Patch) -> None:
    patch.setattr(request_module, "NULL_BLOCK", -1)


def _keys_and_values_confused(patch: Patch) -> None:
    """The two halves of a block exchanged on the consumer."""
    places = EngineGeometry.places

    def swapped(self, stage, group, layer):
        found = places(self, stage, group, layer)
        return found[::-1] if len(found) == 2 and self.engine_id == "D" else found

    patch.setattr(EngineGeometry, "places", swapped)


def _half_a_block_is_half_the_heads(patch: Patch) -> None:
    """Where K and V share a block, heads are looked for in steps of the whole of it."""
    steps = pair_module._steps

    def doubled(engine, part):
        head, token = steps(engine, part)
        return (2 * head, token) if engine.placement.name == "BLOCKS_FIRST" else (head, token)

    patch.setattr(pair_module, "_steps", doubled)


def _layouts_ignored(patch: Patch) -> None:
    def steps(engine, part):
        return engine.kernel_tokens * part.unit_bytes, part.unit_bytes

    patch.setattr(pair_module, "_steps", steps)


def _full_hit_sends_nothing(patch: Patch) -> None:
    def notifications(self, request: TransferRequest):
        full = request.cached_tokens == request.prompt_tokens
        return () if full else _notifications(self, request)

    patch.setattr(EngineTransferPlan, "notifications", notifications)


def _only_ranks_read_are_notified(patch: Patch) -> None:
    def notifications(self, request: TransferRequest):
        read = {channel.source for channel in self.channels}
        return tuple(n for n in _notifications(self, request) if n.source in read)

    patch.setattr(EngineTransferPlan, "notifications", notifications)


def _consumers_own_request_id(patch: Patch) -> None:
    def notifications(self, request: TransferRequest):
        found = _notifications(self, request)
        return tuple(replace(n, request=request.consumer_request) for n in found)

    patch.setattr(EngineTransferPlan, "notifications", notifications)


def _freed_after_the_first(patch: Patch) -> None:
    """The first of several notifications frees the blocks."""
    notify = ProducerLeases.notify

    def first(self, request, consumer):
        held = self._held.get(request)
        if held is not None:
            self._held[request] = (1, held[1])
        return notify(self, request, consumer)

    patch.setattr(ProducerLeases, "notify", first)


def _engines_meet_unchecked(patch: Patch) -> None:
    patch.setattr(planning, "check_engines", lambda producer, consumer: None)


def _blocks_may_repeat(patch: Patch) -> None:
    patch.setattr(request_module, "_check_distinct", lambda *given: None)


def _refused_by_value_error(patch: Patch) -> None:
    def check_engines(producer, consumer):
        small, large = sorted((producer.kernel_tokens, consumer.kernel_tokens))
        if large % small:
            raise ValueError("kernel blocks differ")
        _check_engines(producer, consumer)

    patch.setattr(planning, "check_engines", check_engines)


_check_engines = planning.check_engines


def _refused_without_names(patch: Patch) -> None:
    patch.setattr(IncompatibleEnginesError, "__str__", lambda self: f"{self.field} differ")


def _asserts_instead(patch: Patch) -> None:
    """Uneven stages, which are legal, meet an assertion."""
    facing = planning.stages_share

    def stages_share(producer, stage, consumer, ours):
        assert producer.stage_layers == consumer.stage_layers
        return facing(producer, stage, consumer, ours)

    patch.setattr(planning, "stages_share", stages_share)


def _padding_not_counted(patch: Patch) -> None:
    strides = EngineGeometry.page_strides

    def unpadded(self, stage):
        return tuple(stride - self.page_padding for stride in strides(self, stage))

    patch.setattr(EngineGeometry, "page_strides", unpadded)


def _shifted_rows(patch: Patch, side: int) -> None:
    """All rows of one side a block late, past every check."""
    build = channel_module.ChannelBuilder.build

    def shifted(self, mapping):
        channel = build(self, mapping)
        if channel is None:
            return None
        name = ("consumer_rows", "producer_rows")[side]
        rows = getattr(channel, name).copy()
        rows[:, 0] += rows[:, 3]
        return replace(channel, **{name: rows})

    patch.setattr(channel_module.ChannelBuilder, "build", shifted)


def _writes_a_block_late(patch: Patch) -> None:
    _shifted_rows(patch, 0)


def _reads_a_block_late(patch: Patch) -> None:
    _shifted_rows(patch, 1)


def _notified_twice(patch: Patch) -> None:
    patch.setattr(
        EngineTransferPlan,
        "notifications",
        lambda self, request: 2 * _notifications(self, request),
    )


def _sliding_windows_not_sent(patch: Patch) -> None:
    """A kind of group that nobody thought of falls through to nothing."""

    def change(group, ours, theirs, case):
        return (ours[:0], theirs[:0]) if group.window is not None else (ours, theirs)

    _mutate_units(patch, change)


def _last_piece_dropped(patch: Patch) -> None:
    """The tail of a unit: the last of its pieces, where there are several."""

    def pieces_of(*given, **offsets):
        found = descriptors_module.pieces_of(*given, **offsets)
        return found[:-1] if len(found) > 1 else found

    patch.setattr(pair_module, "pieces_of", pieces_of)


def _last_page_dropped(patch: Patch) -> None:
    """Rows that end a page before their tensor does."""

    def unit_grid(*, pages, **sizes):
        return descriptors_module.unit_grid(pages=pages - 1, **sizes)

    patch.setattr(pair_module, "unit_grid", unit_grid)


def _overlapping_pieces(patch: Patch) -> None:
    """Every piece as long as the first and the next together."""

    def pieces_of(*given, **offsets):
        found = descriptors_module.pieces_of(*given, **offsets)
        return tuple(replace(piece, length=2 * piece.length) for piece in found)

    patch.setattr(pair_module, "pieces_of", pieces_of)


def _ids_begin_one_late(patch: Patch) -> None:
    def plan_transfer(*engines, **bases):
        plan = _plan_transfer(*engines, **bases)
        channels = tuple(
            replace(
                channel,
                groups=tuple(
                    replace(rows, consumer_first=rows.consumer_first + 1) for rows in channel.groups
                ),
            )
            for channel in plan.channels
        )
        return replace(plan, channels=channels)

    patch.setattr(planning, "plan_transfer", plan_transfer)


FAULTS: dict[str, Callable[..., object]] = {
    name.removeprefix("_"): value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__annotations__", {}).get("patch") is Patch
    and value.__code__.co_argcount == 1
}
"""Every fault by name."""

if os.environ.get("MUTANT_FAULTS") == "1" and "TRANSFER_FAULT" in os.environ:
    FAULTS[os.environ["TRANSFER_FAULT"]](pytest.MonkeyPatch())
