"""Plans of ``ir.transfer`` as data to show, made by really planning for every consumer rank."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fuzz.catalogue.geometries import GroupGeometry, ModelGeometry
from oracle.errors import UsageError
from oracle.planning.options import EngineOptions, PlanOptions, even_stages, find_model
from oracle.planning.view import EngineView, GroupView, PartView, PlanView, RankView, SourceView

from .plan_reads import moves_of, patterns_of

if TYPE_CHECKING:
    from ir.transfer import (
        CacheGroup,
        EngineGeometry,
        EngineTransferPlan,
        ModelCache,
        TransferRequest,
        Worker,
    )
    from ir.transfer.channel import Channel

SHOWN = 96
"""Units of a request whose moves are listed: its last ones, so that its end is seen."""
FEWEST_BLOCKS = 4096
FIRST_ADDRESS = 1 << 40


def view_of(options: PlanOptions) -> PlanView:
    """Plan for every consumer rank and show it. Raises `UsageError` with what was refused."""
    from ir.transfer import TransferError, notifications_per_producer

    model = find_model(options.model)
    producer, consumer = _engines(model, options)
    try:
        request = _request(producer, consumer, options)
        plans = _plans(producer, consumer)
        ranks = tuple(_rank_view(plan, request) for plan in plans)
        tail = _tail(producer, consumer, request)
        bound = [(plan, plan.bind(tail)) for plan in plans]
    except TransferError as error:
        raise UsageError(f"{_pair(model, options)}: {error}") from None
    awaited = notifications_per_producer(producer, consumer)
    groups = tuple(
        GroupView(
            name=group.name,
            kind=group.kind.value,
            is_state=group.kind.is_state,
            layers=len(group.layers),
            window=group.window,
            parts=_part_views(group, producer, consumer),
            patterns=patterns_of(g, bound, tail, FIRST_ADDRESS),
            moves=moves_of(g, bound, tail, FIRST_ADDRESS),
            units=_units(plans[0], request)[g],
        )
        for g, group in enumerate(producer.model.groups)
    )
    return PlanView(
        model=model.name,
        source=model.source,
        query_heads=model.query_heads,
        producer=_engine_view(producer),
        consumer=_engine_view(consumer),
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        unit_tokens=min(producer.kernel_tokens, consumer.kernel_tokens),
        groups=groups,
        ranks=ranks,
        awaited=tuple(sorted(awaited.items())),
    )


def check_pair(options: PlanOptions) -> None:
    """Raise `UsageError` unless the two engines can be planned for; plans nothing."""
    from ir.transfer import TransferError, check_engines

    model = find_model(options.model)
    engines = _engines(model, options)
    try:
        check_engines(*engines)
    except TransferError as error:
        raise UsageError(f"{_pair(model, options)}: {error}") from None


def _pair(model: ModelGeometry, options: PlanOptions) -> str:
    return f"{model.name} from prefill TP {options.prefill.tp} to decode TP {options.decode.tp}"


def _engines(model: ModelGeometry, options: PlanOptions) -> tuple[EngineGeometry, EngineGeometry]:
    """Both engines. Raises one `UsageError` for all that is wrong with either."""
    from ir.transfer import GeometryError

    made: list[EngineGeometry] = []
    refused: list[GeometryError] = []
    for engine in (options.prefill, options.decode):
        try:
            made.append(_engine(engine, model, options.prompt_tokens))
        except GeometryError as error:
            refused.append(error)
    if refused:
        # Two that fail alike are told once what both could be.
        alike = len({error.accepted for error in refused}) == 1
        got = [f"engine {error.engine!r}: {error.field} is {error.got}" for error in refused]
        why = f"{', '.join(got)}; accepted: {refused[0].accepted}"
        raise UsageError(
            f"{_pair(model, options)}: {why if alike else '; '.join(map(str, refused))}"
        )
    return made[0], made[1]


def _cache(model: ModelGeometry) -> ModelCache:
    from ir.transfer import ModelCache

    groups = tuple(_group(group) for group in model.groups)
    return ModelCache(model.name, model.query_heads, groups)


def _group(group: GroupGeometry) -> CacheGroup:
    from ir.transfer import groups as make

    constructors = {
        "full": make.attention,
        "sliding": make.attention,
        "mla": make.latent,
        "mamba1": make.mamba1,
        "mamba2": make.mamba2,
        "gdn": make.gated_delta_net,
    }
    return constructors[group.kind](group.layers, **group.sizes)


def _engine(options: EngineOptions, model: ModelGeometry, prompt_tokens: int) -> EngineGeometry:
    """The engine with its model's defaults: pages that hold a state, blocks for the request."""
    from ir.transfer import EngineGeometry, Layout, Placement, blocks_per_state

    cache = _cache(model)
    kernel, shares = options.kernel_tokens, cache.has_states
    ratio = blocks_per_state(cache, tp=options.tp, kernel_tokens=kernel)
    block = options.block_tokens or kernel * ratio
    lists = _block_lists(cache, block, prompt_tokens, shares_tensors=shares)
    together = options.placement == "blocks-first" or (shares and not options.placement)
    return EngineGeometry(
        engine_id=options.name,
        model=cache,
        tp=options.tp,
        num_blocks=options.num_blocks or max(FEWEST_BLOCKS, 1 + max(max(b) for b in lists)),
        block_tokens=block,
        kernel_tokens=kernel,
        layout=Layout(options.layout),
        placement=Placement.BLOCKS_FIRST if together else Placement.APART,
        stage_layers=_cached_stages(model, cache, options),
        shares_tensors=shares,
    )


def _cached_stages(
    model: ModelGeometry, cache: ModelCache, options: EngineOptions
) -> tuple[int, ...]:
    """All the model's layers in even stages, less those after the last that caches something."""
    idle = model.num_layers - cache.num_layers
    most = model.num_layers // (idle + 1)
    if options.pp > most:
        raise UsageError(f"{options.name} pp {options.pp}; accepted: 1 to {most} for {model.name}")
    *others, last = even_stages(model.num_layers, options.pp)
    return (*others, last - idle)


def _block_lists(
    cache: ModelCache, block_tokens: int, prompt_tokens: int, *, shares_tensors: bool
) -> tuple[tuple[int, ...], ...]:
    """The blocks of one request on an engine that has no other, from number 1 on.

    A window has no blocks for tokens that it has left behind.
    """
    lists, start = [], 1
    for group in cache.groups:
        count = 1 if group.kind.is_state else max(1, -(-prompt_tokens // block_tokens))
        gone = 0 if group.window is None else max(0, prompt_tokens - group.window) // block_tokens
        lists.append((*([0] * gone), *range(start, start + count - gone)))
        start += count if shares_tensors else 0
    return tuple(lists)


def _request(
    producer: EngineGeometry, consumer: EngineGeometry, options: PlanOptions
) -> TransferRequest:
    from ir.transfer import TransferRequest

    theirs, ours = (
        _block_lists(
            engine.model,
            engine.block_tokens,
            options.prompt_tokens,
            shares_tensors=engine.shares_tensors,
        )
        for engine in (producer, consumer)
    )
    return TransferRequest(
        producer_request="shown",
        consumer_request="shown",
        prompt_tokens=options.prompt_tokens,
        cached_tokens=options.cached_tokens,
        producer_blocks=theirs,
        consumer_blocks=ours,
    )


def _tail(
    producer: EngineGeometry, consumer: EngineGeometry, request: TransferRequest
) -> TransferRequest:
    """The request as if all but its last `SHOWN` units were cached: few enough to look at."""
    unit = min(producer.kernel_tokens, consumer.kernel_tokens)
    start = (-(-request.prompt_tokens // unit) - SHOWN) * unit
    return replace(request, cached_tokens=max(request.cached_tokens, start))


def _plans(producer: EngineGeometry, consumer: EngineGeometry) -> list[EngineTransferPlan]:
    from ir.transfer import plan_transfer

    theirs = {worker: bases_of(producer, worker) for worker in producer.workers}
    return [
        plan_transfer(
            producer,
            consumer,
            worker,
            producer_bases=theirs,
            consumer_bases=bases_of(consumer, worker),
        )
        for worker in consumer.workers
    ]


def bases_of(engine: EngineGeometry, worker: Worker) -> tuple[int, ...]:
    """Addresses for a worker's tensors, one after the other."""
    sizes = [stride * engine.num_blocks for stride in engine.page_strides(worker.stage)]
    return tuple(FIRST_ADDRESS + sum(sizes[:i]) for i in range(len(sizes)))


def _units(plan: EngineTransferPlan, request: TransferRequest) -> tuple[int, ...]:
    """How many units of each group the request moves in a layer."""
    from ir.transfer.request import pair_units

    pairs = pair_units(plan.producer, plan.consumer, request)
    return tuple(len(ours) for ours, _ in pairs)


def _rank_view(plan: EngineTransferPlan, request: TransferRequest) -> RankView:
    units = _units(plan, request)
    return RankView(
        consumer=(plan.worker.stage, plan.worker.rank),
        sources=tuple(_source_view(channel, units) for channel in plan.channels),
        notifies=tuple((source.stage, source.rank) for source in plan.facing),
    )


def _source_view(channel: Channel, units: tuple[int, ...]) -> SourceView:
    """Bytes and descriptors of a request, from the rows that it uses and how often it does."""
    moved = blocks = row = 0
    for rows in channel.groups:
        inner = len(rows.consumer_grid.inner)
        lengths = channel.consumer_rows[row : row + rows.pieces * inner, 1]
        moved += units[rows.group] * int(lengths.sum()) // inner
        blocks += units[rows.group] * rows.pieces
        row += rows.pieces * inner
    return SourceView(
        producer=(channel.source.stage, channel.source.rank),
        bytes=moved,
        descriptors=blocks,
        rows=len(channel.consumer_rows),
        producer_rows=len(channel.producer_rows),
    )


def _engine_view(engine: EngineGeometry) -> EngineView:
    return EngineView(
        name=engine.engine_id,
        tp=engine.tp,
        stage_layers=engine.stage_layers,
        layout=engine.layout.value,
        placement=engine.placement.value,
        block_tokens=engine.block_tokens,
        kernel_tokens=engine.kernel_tokens,
        num_blocks=engine.num_blocks,
        shares_tensors=engine.shares_tensors,
    )


def _part_views(
    group: CacheGroup, producer: EngineGeometry, consumer: EngineGeometry
) -> tuple[PartView, ...]:
    from ir.transfer.geometry import first_held, held

    return tuple(
        PartView(
            name=part.name,
            units=part.units,
            unit_bytes=part.unit_bytes,
            producer_slots=held(part, producer.tp),
            consumer_slots=held(part, consumer.tp),
            producer_first=tuple(
                first_held(part, producer.tp, rank) for rank in range(producer.tp)
            ),
        )
        for part in group.parts
    )
