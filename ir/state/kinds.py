"""What the registry holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ir.state.lifting import Key


@dataclass(slots=True, eq=False)
class StateType:
    """A registered kind of state. `tensors`: whether its values hold tensors, None if unknown."""

    name: str
    create: Callable[[], Any]
    per: tuple[str, ...] | None
    tensors: bool | None = None


@dataclass(slots=True, eq=False)
class Layer:
    """Values made by one creation function: the registered one's, or an override's."""

    create: Callable[[], Any]
    values: dict[Key, Any]


class Cells:
    """The values by slot, as attributes: where traced code finds them as inputs of its graph."""
