"""Faults that only sizes show, planted one by one into ``ir.transfer``: for its proofs."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ir.transfer import EngineGeometry, IncompatibleEnginesError
from ir.transfer import channel as channel_module
from ir.transfer import descriptors as descriptors_module
from ir.transfer import mapping as mapping_module
from ir.transfer import pair as pair_module
from ir.transfer import plan as planning

Patch = pytest.MonkeyPatch

_check_engines = planning.check_engines


def _reads_more_than_it_writes(patch: Patch) -> None:
    """The producer's blocks are twice as long as those that they are to fill."""
    build = channel_module.ChannelBuilder.build

    def longer(self, mapping):
        channel = build(self, mapping)
        if channel is None:
            return None
        rows = channel.producer_rows.copy()
        rows[:, 1] = rows[:, 1] + rows[:, 1]
        return replace(channel, producer_rows=rows)

    patch.setattr(channel_module.ChannelBuilder, "build", longer)


def _rows_past_the_end(patch: Patch) -> None:
    """Rows with two pages more than there are, which nobody checks."""

    def unit_grid(*, pages, **sizes):
        return descriptors_module.unit_grid(pages=pages + 2, **sizes)

    patch.setattr(pair_module, "unit_grid", unit_grid)
    patch.setattr(descriptors_module, "check_rows", lambda rows, bounds, *, what: None)


def _paddings_must_agree(patch: Patch) -> None:
    """Pages that end in unlike padding, which is legal, are refused."""

    def check_engines(producer, consumer):
        if producer.page_padding != consumer.page_padding:
            raise IncompatibleEnginesError(
                producer=producer.engine_id,
                consumer=consumer.engine_id,
                field="page_padding",
                producer_has=0,
                consumer_has=1,
                accepted="equal paddings",
            )
        _check_engines(producer, consumer)

    patch.setattr(planning, "check_engines", check_engines)


def _told_too_often(patch: Patch) -> None:
    """A rank notifies its neighbour's producers too."""
    facing = mapping_module.ranks_facing

    def ranks_facing(producer_tp, consumer_tp, consumer_rank):
        found = facing(producer_tp, consumer_tp, consumer_rank)
        return range(found.start, min(found.stop + 1, producer_tp))

    patch.setattr(mapping_module, "ranks_facing", ranks_facing)


def _last_rank_forgotten(patch: Patch) -> None:
    """The consumer's last rank gets no plan."""
    workers = EngineGeometry.workers.fget
    assert workers is not None

    def all_but_the_last(engine):
        found = workers(engine)
        # What a case calls its consumer, where it does not say.
        return found[:-1] if engine.engine_id == "D" else found

    patch.setattr(EngineGeometry, "workers", property(all_but_the_last))


def _layers_swapped(patch: Patch) -> None:
    """Layers of the producer are taken from the last one on."""
    find = pair_module.EnginePair._find

    def backwards(self, *where):
        found = find(self, *where)
        for alike in found:
            alike.places[1].reverse()
        return found

    patch.setattr(pair_module.EnginePair, "_find", backwards)


FAULTS: dict[str, Callable[[Patch], None]] = {
    "reads_more_than_it_writes": _reads_more_than_it_writes,
    "rows_past_the_end": _rows_past_the_end,
    "told_too_often": _told_too_often,
    "last_rank_forgotten": _last_rank_forgotten,
    "layers_swapped": _layers_swapped,
    "paddings_must_agree": _paddings_must_agree,
}
"""Every fault by name."""
