"""A case of the op kind: which op, which call form, which memory. Neither provider nor route."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .storage import Storage, View

Plain = float | int | bool | str | None
Overload = Literal["default", "maybe_inplace"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument given to the op: a view or a plain value. What is left out has its default."""

    name: str
    value: View | Plain
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class CallForm:
    """How the op is called: which overload, and which arguments by keyword."""

    overload: str
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpCase:
    """Inputs of one op call as data: storages, and arguments that are views onto them or plain.

    ``arguments`` are in the op's order; those with ``keyword`` set are passed by name, and after
    the first of them all are.
    """

    op: str
    storages: tuple[Storage, ...]
    arguments: tuple[Argument, ...]
    overload: Overload = "default"

    @property
    def form(self) -> CallForm:
        return CallForm(self.overload, tuple(a.name for a in self.arguments if a.keyword))

    def argument(self, name: str) -> Argument | None:
        for argument in self.arguments:
            if argument.name == name:
                return argument
        return None

    def views(self) -> dict[str, View]:
        """The tensor arguments by name, in order."""
        return {a.name: a.value for a in self.arguments if isinstance(a.value, View)}

    def plain(self) -> dict[str, Plain]:
        """The plain arguments by name, in order."""
        return {a.name: a.value for a in self.arguments if not isinstance(a.value, View)}

    def dtype_of(self, name: str) -> str | None:
        """The dtype of tensor argument ``name``, or None where it is absent or not a tensor."""
        argument = self.argument(name)
        if argument is None or not isinstance(argument.value, View):
            return None
        return self.storages[argument.value.storage].dtype

    def arrays(self) -> list[np.ndarray]:
        """Fresh storage arrays, one per storage: the memory before the call."""
        return [storage.array() for storage in self.storages]

    def with_argument(self, name: str, value: View | Plain) -> OpCase:
        """The same case with one argument's value replaced."""
        arguments = tuple(replace(a, value=value) if a.name == name else a for a in self.arguments)
        return replace(self, arguments=arguments)

    @property
    def largest_input(self) -> int:
        """Elements of the largest tensor argument (0 where there is none)."""
        return max((view.numel for view in self.views().values()), default=0)
