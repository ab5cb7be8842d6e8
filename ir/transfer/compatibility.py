"""Whether two engines can exchange a cache at all: asked once, when they meet."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import GeometryError, IncompatibleEnginesError
from .geometry import ADDRESS_LIMIT, EngineGeometry, Worker, admitted_tp, any_of
from .groups import CacheGroup, ModelCache


def check_engines(producer: EngineGeometry, consumer: EngineGeometry) -> None:
    """Raise `IncompatibleEnginesError` unless a plan between the two engines exists.

    Layouts, placements, pipeline stages, numbers of blocks and logical blocks may differ.
    """

    def refuse(field: str, producer_has: object, consumer_has: object, accepted: str) -> None:
        raise IncompatibleEnginesError(
            producer=producer.engine_id,
            consumer=consumer.engine_id,
            field=field,
            producer_has=producer_has,
            consumer_has=consumer_has,
            accepted=accepted,
        )

    if producer.engine_id == consumer.engine_id:
        refuse("engine_id", producer.engine_id, consumer.engine_id, "two distinct ids")
    if producer.model != consumer.model:
        refuse("model", *_first_difference(producer.model, consumer.model), "equal models")
    if producer.tp % consumer.tp and consumer.tp % producer.tp:
        refuse("tp", producer.tp, consumer.tp, _accepted_tp(producer, consumer))
    small, large = sorted((producer.kernel_tokens, consumer.kernel_tokens))
    if large % small:
        refuse(
            "kernel_tokens",
            producer.kernel_tokens,
            consumer.kernel_tokens,
            f"one block that divides the other, such as {large} on both",
        )


def _accepted_tp(producer: EngineGeometry, consumer: EngineGeometry) -> str:
    """What either side could change to."""

    def beside(other: int) -> str:
        sizes = admitted_tp(producer.model)
        return any_of([size for size in sizes if size % other == 0 or other % size == 0])

    return (
        f"one size that divides the other; beside producer {producer.tp} a consumer of "
        f"{beside(producer.tp)}, beside consumer {consumer.tp} a producer of {beside(consumer.tp)}"
    )


def _first_difference(producer: ModelCache, consumer: ModelCache) -> tuple[str, str]:
    """What the two sides have where they first differ, with its name."""
    for field in ("name", "query_heads"):
        p, c = getattr(producer, field), getattr(consumer, field)
        if p != c:
            return f"{field} {p}", f"{field} {c}"
    if len(producer.groups) != len(consumer.groups):
        return f"{len(producer.groups)} groups", f"{len(consumer.groups)} groups"
    p, c = next((p, c) for p, c in zip(producer.groups, consumer.groups, strict=True) if p != c)
    for field in ("name", "kind", "window", "layers"):
        if getattr(p, field) != getattr(c, field):
            return _named(p, field), _named(c, field)
    return _parts(p), _parts(c)


def _named(group: CacheGroup, field: str) -> str:
    return f"{field} {getattr(group, field)} of group {group.name}"


def _parts(group: CacheGroup) -> str:
    sizes = ", ".join(f"{p.name} {p.units} x {p.unit_bytes} bytes" for p in group.parts)
    return f"{sizes} of group {group.name}"


def check_bases(engine: EngineGeometry, worker: Worker, bases: Sequence[int]) -> None:
    """Raise `GeometryError` unless `bases` are addresses at which the worker's tensors can lie.

    One address per tensor, without overlap, and with every byte below 2^64.
    """
    strides = engine.page_strides(worker.stage)
    if len(bases) != len(strides):
        raise GeometryError(
            engine.engine_id, f"number of tensors of {worker}", len(bases), str(len(strides))
        )
    end, before = 0, -1
    for tensor in sorted(range(len(bases)), key=lambda i: bases[i]):
        base, size = bases[tensor], strides[tensor] * engine.num_blocks
        if base < end:
            raise GeometryError(
                engine.engine_id,
                f"tensor {tensor} of {worker}",
                f"at {base}, before the end {end} of tensor {before}",
                "tensors that do not overlap",
            )
        end, before = base + size, tensor
        if end > ADDRESS_LIMIT:
            raise GeometryError(
                engine.engine_id, f"end of tensor {tensor} of {worker}", end, "at most 2^64"
            )
