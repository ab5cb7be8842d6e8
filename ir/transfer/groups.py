"""What a model caches: groups of layers whose pages have the same parts, before any sharding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    FULL = "full attention"
    SLIDING = "sliding window"
    MLA = "latent attention"
    MAMBA1 = "Mamba-1"
    MAMBA2 = "Mamba-2"
    GDN = "gated delta net"

    @property
    def is_state(self) -> bool:
        """A page holds the state of one request, not the keys of some tokens."""
        return self in (Kind.MAMBA1, Kind.MAMBA2, Kind.GDN)


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-tensor of a page that tensor parallelism splits along one axis of `units`.

    `unit_bytes` is what one unit takes: for one token in attention groups, at all in state
    groups. Ranks beyond the number of units hold copies, unless the part is `always_sharded`.
    """

    name: str
    units: int
    unit_bytes: int
    always_sharded: bool = False


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """Layers (numbers in the whole model) that share one list of blocks per request.

    `window` is in tokens and given for `Kind.SLIDING` alone: what lies further back than the last
    `window` tokens need not be there.
    """

    name: str
    kind: Kind
    layers: tuple[int, ...]
    parts: tuple[Part, ...]
    window: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCache:
    """The cache of a model: its groups, and the query heads that any TP size must divide."""

    name: str
    query_heads: int
    groups: tuple[CacheGroup, ...]

    @property
    def num_layers(self) -> int:
        """One more than the largest layer number: layers without a cache count too."""
        return 1 + max(layer for group in self.groups for layer in group.layers)

    @property
    def has_states(self) -> bool:
        return any(group.kind.is_state for group in self.groups)


def attention(
    layers: Iterable[int],
    *,
    kv_heads: int,
    head_size: int,
    itemsize: int,
    window: int | None = None,
    name: str | None = None,
) -> CacheGroup:
    """Keys and values of `kv_heads` heads; with a `window` (tokens) a sliding-window group."""
    kind = Kind.FULL if window is None else Kind.SLIDING
    parts = tuple(Part(half, kv_heads, head_size * itemsize) for half in ("k", "v"))
    return CacheGroup(name or kind.value, kind, tuple(layers), parts, window)


def latent(layers: Iterable[int], *, width: int, itemsize: int, name: str = "latent") -> CacheGroup:
    """One row of `width` elements per token, the same on every rank."""
    return CacheGroup(name, Kind.MLA, tuple(layers), (Part("latent", 1, width * itemsize),))


def mamba1(
    layers: Iterable[int],
    *,
    channels: int,
    state_size: int,
    conv_columns: int,
    conv_itemsize: int,
    ssm_itemsize: int,
    name: str = "mamba-1",
) -> CacheGroup:
    """A convolution window (channels, columns) and a state (channels, state_size)."""
    parts = (
        Part("conv.x", channels, conv_columns * conv_itemsize, always_sharded=True),
        Part("ssm", channels, state_size * ssm_itemsize, always_sharded=True),
    )
    return CacheGroup(name, Kind.MAMBA1, tuple(layers), parts)


def mamba2(
    layers: Iterable[int],
    *,
    heads: int,
    head_size: int,
    state_size: int,
    n_groups: int,
    conv_columns: int,
    conv_itemsize: int,
    ssm_itemsize: int,
    name: str = "mamba-2",
) -> CacheGroup:
    """The window has three sub-projections: x by heads, B and C by groups of `state_size`."""
    column = conv_columns * conv_itemsize
    parts = (
        Part("conv.x", heads, head_size * column, always_sharded=True),
        Part("conv.B", n_groups, state_size * column),
        Part("conv.C", n_groups, state_size * column),
        Part("ssm", heads, head_size * state_size * ssm_itemsize, always_sharded=True),
    )
    return CacheGroup(name, Kind.MAMBA2, tuple(layers), parts)


def gated_delta_net(
    layers: Iterable[int],
    *,
    key_heads: int,
    key_size: int,
    value_heads: int,
    value_size: int,
    conv_columns: int,
    conv_itemsize: int,
    ssm_itemsize: int,
    name: str = "gated-delta-net",
) -> CacheGroup:
    """The window holds queries and keys by key heads and values by value heads."""
    column = conv_columns * conv_itemsize
    parts = (
        Part("conv.q", key_heads, key_size * column, always_sharded=True),
        Part("conv.k", key_heads, key_size * column, always_sharded=True),
        Part("conv.v", value_heads, value_size * column, always_sharded=True),
        Part("ssm", value_heads, value_size * key_size * ssm_itemsize, always_sharded=True),
    )
    return CacheGroup(name, Kind.GDN, tuple(layers), parts)
