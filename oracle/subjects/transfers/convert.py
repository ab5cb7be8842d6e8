"""Transfer cases as the objects of ``ir.transfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference.model import CachedModel, Engine, Transfer, TransferCase

if TYPE_CHECKING:
    from ir.transfer import EngineGeometry, ModelCache, TransferRequest, Worker

GAP = 64
"""Bytes between the tensors of a rank, so that a step too far is seen."""
PRODUCER_START, CONSUMER_START = 1 << 20, 1 << 40


def as_model(model: CachedModel) -> ModelCache:
    from ir.transfer import CacheGroup, Kind, ModelCache, Part

    kinds = {
        "full": Kind.FULL,
        "sliding": Kind.SLIDING,
        "mla": Kind.MLA,
        "mamba1": Kind.MAMBA1,
        "mamba2": Kind.MAMBA2,
        "gdn": Kind.GDN,
    }
    groups = tuple(
        CacheGroup(
            f"group {g}",
            kinds[group.kind],
            group.layers,
            tuple(Part(p.name, p.units, p.unit_bytes, p.always_sharded) for p in group.parts),
            group.window,
        )
        for g, group in enumerate(model.groups)
    )
    return ModelCache("model", model.query_heads, groups)


def as_engine(engine: Engine, model: ModelCache, name: str) -> EngineGeometry:
    """Raises what the engine's own checks raise."""
    from ir.transfer import EngineGeometry, Layout, Placement

    return EngineGeometry(
        engine_id=name,
        model=model,
        tp=engine.tp,
        num_blocks=engine.num_blocks,
        block_tokens=engine.block_tokens,
        kernel_tokens=engine.kernel_tokens,
        layout=Layout(engine.layout),
        placement=Placement.BLOCKS_FIRST if engine.blocks_first else Placement.APART,
        stage_layers=engine.stage_layers,
        shares_tensors=engine.shares_tensors,
        page_padding=engine.page_padding,
    )


def as_engines(case: TransferCase) -> tuple[EngineGeometry, EngineGeometry]:
    """The producer and the consumer. Raises what their own checks raise."""
    model = as_model(case.model)
    other = model if case.consumer_model is None else as_model(case.consumer_model)
    return (
        as_engine(case.producer, model, case.producer_id),
        as_engine(case.consumer, other, case.consumer_id),
    )


def as_request(request: Transfer) -> TransferRequest:
    from ir.transfer import TransferRequest

    return TransferRequest(
        producer_request=request.producer_request,
        consumer_request=request.consumer_request,
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        producer_blocks=request.producer_blocks,
        consumer_blocks=request.consumer_blocks,
    )


def bases_of(engine: EngineGeometry, worker: Worker, start: int) -> tuple[int, ...]:
    """Addresses for the tensors of a rank, with gaps between them."""
    bases = []
    for stride in engine.page_strides(worker.stage):
        bases.append(start)
        start += stride * engine.num_blocks + GAP
    return tuple(bases)
