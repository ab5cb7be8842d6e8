"""What the registry of states holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Scope = tuple[str | None, ...]
"""The values of the keys by which a type is kept, None for a key that is not set; () for all."""


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """One state. `identity`: which object it is, counted from 0 in the order of making.

    kind: "tensor", "tree", "nested" or "handle". `disturbed` counts how often it was resized or
    moved without asking; `shared` says that it lies in memory that others may lie in.
    """

    identity: int
    kind: str = "tensor"
    content: list[int] = field(default_factory=lambda: [0])
    disturbed: int = 0
    shared: bool = False

    @property
    def tensors(self) -> bool:
        return self.kind != "handle"


@dataclass(slots=True, kw_only=True, eq=False)
class Layer:
    """States made by one creation function.

    below: of an override, the layer that it hides. opened: how many objects of any layer had been
    kept before this one began.
    """

    number: int
    holds: str
    needs: str
    below: Layer | None
    opened: int
    states: dict[Scope, Held] = field(default_factory=dict)
    calls: int = 0
    memory: list[int] = field(default_factory=lambda: [0])
    """What "shared" states are views of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A creation function ran, where these keys were set; `identity` None where it raised."""

    name: str
    keys: Mapping[str, str]
    identity: int | None


@dataclass(slots=True, kw_only=True)
class Kind:
    """A registered kind of state; the last of its layers is in force."""

    per: tuple[str, ...] | None
    layers: list[Layer]
