"""The operands of a step by name, and what a rule may ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..model import Name, Plain, ProgramOperand, ProgramStep, Value
from .answers import NotKnown, Refused
from .memory import Tensor

Held: TypeAlias = "Tensor | Name | Plain | tuple[Held, ...]"
REQUIRED = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameter names in order with their defaults; from ``only_by_name`` on, by name only."""

    defaults: Mapping[str, object]
    only_by_name: int

    def bind(self, step: ProgramStep, values: Sequence[Tensor]) -> Arguments:
        """The operands of ``step`` by name, defaults filled in. Refuses what does not fit."""
        names = tuple(self.defaults)
        if len(step.operands) > self.only_by_name:
            raise Refused("takes no more operands than it has parameters")
        given = dict(zip(names, (held(o, values) for o in step.operands), strict=False))
        for name, operand in step.keywords:
            if name in given or name not in self.defaults:
                raise Refused("takes each parameter once and no other")
            given[name] = held(operand, values)
        for name, default in self.defaults.items():
            if name not in given:
                if default is REQUIRED:
                    raise Refused("gets every parameter without a default")
                given[name] = default  # type: ignore[assignment]
        return Arguments(given)


def parameters(*positional: str | tuple[str, object], **by_name: object) -> Parameters:
    """Parameters given by place or name (with a default where it is a pair), then by name only."""
    defaults = dict(p if isinstance(p, tuple) else (p, REQUIRED) for p in positional)
    return Parameters({**defaults, **by_name}, len(positional))


def held(operand: ProgramOperand, values: Sequence[Tensor]) -> Held:
    """An operand with the tensors that its numbers name."""
    if isinstance(operand, Value):
        return values[operand.number]
    if isinstance(operand, tuple):
        return tuple(held(item, values) for item in operand)
    return operand


@dataclass(frozen=True, slots=True)
class Arguments:
    """Operands by parameter name. Each reader is unknown on what this reference does not model."""

    given: Mapping[str, Held]

    def tensor(self, name: str) -> Tensor:
        found = self.given[name]
        if not isinstance(found, Tensor):
            raise NotKnown("operand-not-modelled")
        return found

    def tensors(self, name: str) -> tuple[Tensor, ...]:
        found = self.given[name]
        if not isinstance(found, tuple):
            raise NotKnown("operand-not-modelled")
        tensors = tuple(item for item in found if isinstance(item, Tensor))
        if not tensors or len(tensors) != len(found):
            raise NotKnown("operand-not-modelled")
        return tensors

    def tensor_or_number(self, name: str) -> Tensor | bool | int | float:
        found = self.given[name]
        if not isinstance(found, Tensor | bool | int | float):
            raise NotKnown("operand-not-modelled")
        return found

    def number(self, name: str) -> bool | int | float:
        found = self.given[name]
        if not isinstance(found, bool | int | float):
            raise NotKnown("operand-not-modelled")
        return found

    def integer(self, name: str) -> int:
        found = self.given[name]
        if not isinstance(found, int) or isinstance(found, bool):
            raise NotKnown("operand-not-modelled")
        return found

    def integer_or_none(self, name: str) -> int | None:
        return None if self.given[name] is None else self.integer(name)

    def integers(self, name: str) -> tuple[int, ...]:
        found = self.given[name]
        if not isinstance(found, tuple):
            raise NotKnown("operand-not-modelled")
        numbers = tuple(i for i in found if isinstance(i, int) and not isinstance(i, bool))
        if len(numbers) != len(found):
            raise NotKnown("operand-not-modelled")
        return numbers

    def flag(self, name: str) -> bool:
        found = self.given[name]
        if not isinstance(found, bool):
            raise NotKnown("operand-not-modelled")
        return found

    def named(self, name: str, default: str) -> str:
        """The name given for a dtype or memory format; ``default`` where None is."""
        found = self.given[name]
        if found is None:
            return default
        if not isinstance(found, Name):
            raise NotKnown("operand-not-modelled")
        return found.name


def dimension(number: int, rank: int) -> int:
    """A dimension counted from the front; a tensor without dimensions has 0 and -1 all the same."""
    limit = max(rank, 1)
    if not -limit <= number < limit:
        raise Refused("a dimension that the tensor has")
    return number % limit
