"""What the registry holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ir.state.lifting import Key
from ir.state.values import tensors_of


@dataclass(slots=True, eq=False)
class StateType:
    """A registered kind of state."""

    name: str
    create: Callable[[], Any]
    per: tuple[str, ...] | None


@dataclass(slots=True, eq=False)
class Layer:
    """Values made by one creation function: the registered one's, or an override's.

    `seen`: for each value that was ever among them, whether it held tensors. A layer above
    begins with what the one below has seen, and leaves no trace there when it goes.
    """

    create: Callable[[], Any]
    values: dict[Key, Any]
    seen: frozenset[bool] = frozenset()

    def saw(self, value: Any) -> None:
        """Note a value that is about to be one of them."""
        self.seen |= {bool(tensors_of(value))}

    @property
    def only_tensors(self) -> bool:
        return self.seen == {True}

    @property
    def only_others(self) -> bool:
        """Whether nothing in it can be a tensor that a graph relies on."""
        return self.seen == {False}


class Cells:
    """The values by slot, as attributes: where traced code finds them as inputs of its graph."""
