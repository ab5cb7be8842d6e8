"""Route ``proved-split``: the planner's map of ranks, of one topology."""

from __future__ import annotations

from oracle.observation import Declined, Raised
from oracle.observation.split import PartSplit, RankSplit, Split
from reference.model import TransferCase
from reference.transfer import refused_pair

from .convert import as_engines


def split(case: TransferCase) -> Split | Raised | Declined:
    """Who reads which units from whom, or what the planner raised."""
    if refused_pair(case) is not None:
        return Declined("no-plan-to-prove")
    try:
        return _split(case)
    except Exception as error:  # what the subject raises is an observation
        bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
        return Raised(type(error).__name__, bases, str(error))


def _split(case: TransferCase) -> Split:
    from ir.transfer import geometry
    from ir.transfer import plan as planning

    producer, consumer = as_engines(case)
    planning.check_engines(producer, consumer)
    sizes = {"producer_tp": producer.tp, "consumer_tp": consumer.tp}
    ranks = []
    for worker in consumer.workers:
        if worker.stage:
            # The map is the same on every stage.
            continue
        rank = worker.rank
        found = planning.tp_mapping(consumer.model.groups, **sizes, consumer_rank=rank)
        groups = tuple(
            tuple(
                PartSplit(
                    geometry.held(part, producer.tp),
                    geometry.held(part, consumer.tp),
                    tuple((s.rank, s.take, s.put, s.count) for s in sources),
                )
                for part, sources in zip(group.parts, found.sources[g], strict=True)
            )
            for g, group in enumerate(consumer.model.groups)
        )
        ranks.append(RankSplit(groups, found.facing, found.consumers))
    return Split(tuple(ranks))
