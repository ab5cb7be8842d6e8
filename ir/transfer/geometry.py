"""How one engine lays its cache out: sharding, blocks, tensors and pages, in bytes.

A rank holds *tensors* of equally long *pages*, one page per logical block. A page of an attention
group is a row of *kernel blocks*; a page of a state group holds the parts of one state, one after
the other. Groups may share tensors: then the i-th layers of all groups lie on the i-th tensor,
told apart by block numbers, and the longest page decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from .errors import GeometryError
from .groups import CacheGroup, ModelCache, Part

ADDRESS_LIMIT = 1 << 64
LARGEST_TP_NAMED = 128
"""The largest TP size that a refusal offers."""


class Layout(StrEnum):
    """Order inside a kernel block: heads, tokens, elements or tokens, heads, elements."""

    HND = "HND"
    NHD = "NHD"


class Placement(StrEnum):
    """K and V in tensors of their own, or one after the other in every kernel block."""

    APART = "K and V apart"
    BLOCKS_FIRST = "blocks first"


@dataclass(frozen=True, slots=True, order=True)
class Worker:
    """One process of an engine: its pipeline stage and its rank within tensor parallelism."""

    stage: int
    rank: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part lies on its rank: block b's kernel block k starts at
    ``base + b * page_stride + k * kernel_stride + offset`` and is `length` bytes long.
    """

    tensor: int
    offset: int
    length: int
    kernel_stride: int


def held(part: Part, tp: int) -> int:
    """Units of `part` on each of `tp` ranks; ranks beyond the units hold one each, as copies."""
    return part.units // tp or 1


def first_held(part: Part, tp: int, rank: int) -> int:
    """The first unit on `rank`: copies lie on neighbouring ranks (0, 0, 1, 1)."""
    return rank * part.units // tp


@dataclass(frozen=True, kw_only=True)
class EngineGeometry:
    """Everything that a peer must know of an engine's cache, but for addresses.

    `stage_layers` counts the model's layers on each pipeline stage. `block_tokens` is the logical
    block, `kernel_tokens` the block of the attention kernel, which divides it. `num_blocks` counts
    logical blocks; number 0 is the null block and never holds data. `page_padding` are unused
    bytes at the end of every page. Raises `GeometryError`.
    """

    engine_id: str
    model: ModelCache
    tp: int
    num_blocks: int
    block_tokens: int
    kernel_tokens: int
    layout: Layout = Layout.HND
    placement: Placement = Placement.APART
    stage_layers: tuple[int, ...] = ()
    shares_tensors: bool = False
    page_padding: int = 0

    def __post_init__(self) -> None:
        if not self.stage_layers:
            object.__setattr__(self, "stage_layers", (self.model.num_layers,))
        for field in ("tp", "num_blocks", "block_tokens", "kernel_tokens"):
            if getattr(self, field) < 1:
                self._refuse(field, getattr(self, field), "1 or more")
        if self.page_padding < 0:
            self._refuse("page_padding", self.page_padding, "0 or more")
        if self.block_tokens % self.kernel_tokens:
            self._refuse(
                "block_tokens",
                self.block_tokens,
                f"a multiple of kernel_tokens {self.kernel_tokens}",
            )
        if min(self.stage_layers) < 1 or sum(self.stage_layers) != self.model.num_layers:
            self._refuse(
                "stage_layers",
                self.stage_layers,
                f"counts of 1 or more with the sum {self.model.num_layers}",
            )
        parts = {1 if group.kind.is_state else len(group.parts) for group in self.model.groups}
        if self.shares_tensors and self.placement is Placement.APART and len(parts) > 1:
            self._refuse(
                "placement", self.placement.value, "blocks first where unlike groups share tensors"
            )
        self._check_tp()
        self._check_layers()

    def _refuse(self, field: str, got: object, accepted: str) -> None:
        raise GeometryError(self.engine_id, field, got, accepted)

    def _check_tp(self) -> None:
        if self.model.query_heads % self.tp:
            heads = self.model.query_heads
            self._refuse("tp", self.tp, f"a divisor of the {heads} query heads{self._fits}")
        for group in self.model.groups:
            for part in group.parts:
                if part.units < 1 or part.unit_bytes < 1:
                    self._refuse(f"{group.name} {part.name}", part, "at least one unit of one byte")
                if part.units % self.tp == 0:
                    continue
                what = f"tp for {part.name} of group {group.name}"
                if part.always_sharded:
                    self._refuse(what, self.tp, f"a divisor of its {part.units} units{self._fits}")
                if self.tp % part.units:
                    self._refuse(
                        what,
                        self.tp,
                        f"a divisor or a multiple of its {part.units} units{self._fits}",
                    )

    @property
    def _fits(self) -> str:
        return f"; for {self.model.name} {any_of(admitted_tp(self.model))}"

    def _check_layers(self) -> None:
        layers = [layer for group in self.model.groups for layer in group.layers]
        if len(set(layers)) != len(layers) or min(layers) < 0:
            self._refuse("layers of the groups", layers, "each number once, from 0")

    @property
    def grain_per_page(self) -> int:
        """Kernel blocks in a logical block of an attention group."""
        return self.block_tokens // self.kernel_tokens

    @property
    def workers(self) -> tuple[Worker, ...]:
        stages = range(len(self.stage_layers))
        return tuple(Worker(stage, rank) for stage in stages for rank in range(self.tp))

    def layers_of(self, stage: int, group: CacheGroup) -> tuple[int, ...]:
        """The layers of `group` on `stage`, in order."""
        start = sum(self.stage_layers[:stage])
        stop = start + self.stage_layers[stage]
        return tuple(layer for layer in group.layers if start <= layer < stop)

    def kernel_length(self, part: Part) -> int:
        """Bytes of one part of one kernel block on each rank."""
        return held(part, self.tp) * part.unit_bytes * self.kernel_tokens

    def _page_places(self, group: CacheGroup) -> tuple[list[tuple[int, int, int, int]], list[int]]:
        """For each part: component, offset, length, kernel stride; and each component's bytes."""
        if group.kind.is_state:
            lengths = [held(part, self.tp) * part.unit_bytes for part in group.parts]
            offsets = [sum(lengths[:i]) for i in range(len(lengths))]
            page = sum(lengths)
            return [(0, o, n, page) for o, n in zip(offsets, lengths, strict=True)], [page]
        lengths = [self.kernel_length(part) for part in group.parts]
        if self.placement is Placement.APART:
            pages = [length * self.grain_per_page for length in lengths]
            return [(i, 0, length, length) for i, length in enumerate(lengths)], pages
        stride = sum(lengths)
        offsets = [sum(lengths[:i]) for i in range(len(lengths))]
        places = [(0, o, n, stride) for o, n in zip(offsets, lengths, strict=True)]
        return places, [stride * self.grain_per_page]

    @cached_property
    def _stages(
        self,
    ) -> tuple[tuple[dict[tuple[int, int], tuple[Place, ...]], tuple[int, ...]], ...]:
        """Of each stage: the places of the parts by (group, layer), and the tensors' strides."""
        found = []
        for stage in range(len(self.stage_layers)):
            strides: list[int] = []
            places: dict[tuple[int, int], tuple[Place, ...]] = {}
            for g, group in enumerate(self.model.groups):
                parts, pages = self._page_places(group)
                for i, layer in enumerate(self.layers_of(stage, group)):
                    first = i * len(pages) if self.shares_tensors else len(strides)
                    strides += [0] * (first + len(pages) - len(strides))
                    for component, page in enumerate(pages):
                        tensor = first + component
                        strides[tensor] = max(strides[tensor], page + self.page_padding)
                    places[g, layer] = tuple(
                        Place(first + component, offset, length, stride)
                        for component, offset, length, stride in parts
                    )
            found.append((places, tuple(strides)))
        return tuple(found)

    def page_strides(self, stage: int) -> tuple[int, ...]:
        """Bytes from page to page of each tensor of a rank on `stage`."""
        return self._stages[stage][1]

    def places(self, stage: int, group: int, layer: int) -> tuple[Place, ...]:
        """Where each part of a group's layer lies, on any rank of `stage`."""
        return self._stages[stage][0][group, layer]


def admitted_tp(model: ModelCache) -> tuple[int, ...]:
    """The TP sizes, up to `LARGEST_TP_NAMED`, that divide a model's query heads and split or copy
    each of its parts.
    """
    parts = [part for group in model.groups for part in group.parts]
    return tuple(
        tp
        for tp in range(1, min(model.query_heads, LARGEST_TP_NAMED) + 1)
        if model.query_heads % tp == 0
        and all(
            part.units % tp == 0 or not (part.always_sharded or tp % part.units) for part in parts
        )
    )


def any_of(numbers: Sequence[int]) -> str:
    """Numbers as people list a choice."""
    *others, last = [str(number) for number in numbers]
    return f"{', '.join(others)} or {last}" if others else last


def blocks_per_state(model: ModelCache, *, tp: int, kernel_tokens: int) -> int:
    """Kernel blocks that a logical block needs so that a state fits its page.

    The states of all groups are compared with K alone of the first attention group:
    ``ceil((conv_bytes + ssm_bytes) / block_len)``. 1 for a model without states.
    """
    states = [
        sum(held(part, tp) * part.unit_bytes for part in group.parts)
        for group in model.groups
        if group.kind.is_state
    ]
    if not states:
        return 1
    key = next(group.parts[0] for group in model.groups if not group.kind.is_state)
    return -(-max(states) // (held(key, tp) * key.unit_bytes * kernel_tokens))
