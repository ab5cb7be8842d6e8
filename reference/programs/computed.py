"""A result before it has a place: made anew, written to the first operand, or to ``out``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..dtypes import FORMATS
from ..model.storage import contiguous_strides
from .answers import NotKnown, Refused
from .arguments import Arguments
from .memory import (
    Tensor,
    check_elementwise,
    check_repeats,
    checked,
    kind_of,
    new_tensor,
    shares_elements,
    write,
)
from .promotion import KINDS, can_store
from .strides import Shape, elementwise_strides


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Values of ``dtype``, held as its kind. ``sources`` are the tensors that they were made of.

    ``elementwise``: each value depends on the same element of every source, and the layout of a
    new result follows theirs; else it is row-major. ``out`` says which dtypes take the result:
    any of a kind that holds it, only ``dtype``, or others too but in ways not modelled here.
    """

    dtype: str
    values: np.ndarray
    unit: int | None
    sources: tuple[Tensor, ...]
    elementwise: bool = True
    out: Literal["castable", "same", "same-modelled"] = "castable"

    @property
    def strides(self) -> Shape:
        shape = self.values.shape
        if not self.elementwise:
            return contiguous_strides(shape)
        return elementwise_strides(shape, [(t.shape, t.strides) for t in self.sources])


Compute = Callable[[Arguments], Computed]
Rule = Callable[[Arguments], tuple[Tensor, ...]]


def anew(compute: Compute) -> Rule:
    """The rule that gives the result a storage of its own."""

    def rule(a: Arguments) -> tuple[Tensor, ...]:
        made = compute(a)
        return (new_tensor(made.dtype, made.values, made.unit, made.values.shape, made.strides),)

    return rule


def into(parameter: str, compute: Compute) -> Rule:
    """The rule that writes the result to the tensor given as ``parameter`` and returns that."""

    def rule(a: Arguments) -> tuple[Tensor, ...]:
        target = a.tensor(parameter)
        made = compute(a)
        place(made, target, resizes=parameter != "self")
        return (target,)

    return rule


def place(made: Computed, target: Tensor, *, resizes: bool) -> None:
    """Write a result to a tensor that was there before; torch resizes one given as ``out``."""
    write(target, *fitting(made, target, resizes=resizes))


def fitting(made: Computed, target: Tensor, *, resizes: bool) -> tuple[np.ndarray, int | None]:
    """A result's values and unit as ``target`` takes them, all that forbids it looked at."""
    if target.shape != made.values.shape:
        if resizes:
            raise NotKnown("out-is-resized")
        raise Refused("what is written has the result's shape")
    if made.out != "castable" and target.dtype != made.dtype:
        if made.out == "same":
            raise Refused("what is written has the result's dtype")
        raise NotKnown("operand-not-modelled")
    if not can_store(made.dtype, target.dtype):
        raise Refused("what is written is of a kind that holds the result")
    if made.elementwise:
        check_elementwise(target, made.sources)
    else:
        check_repeats(target)
        if any(shares_elements(target, source) for source in made.sources):
            raise NotKnown("reads-what-it-writes")
    values, unit = converted(made.values, made.unit, made.dtype, target.dtype)
    checked(values, unit, target.dtype)
    return values, unit


def converted(
    values: np.ndarray, unit: int | None, found: str, wanted: str
) -> tuple[np.ndarray, int | None]:
    """Held values of ``found`` as ``wanted`` holds them, and their unit.

    To integers towards zero, to bool what is not 0. What was observed is never rounded here.
    """
    if KINDS.get(wanted, 2) == 2:
        if unit is None and not _holds(wanted, found):
            raise NotKnown("rounds-what-was-observed")
        return values.astype(np.float64, copy=False), unit
    if found == wanted:
        return values, 0
    return (values != 0 if wanted == "bool" else values.astype(kind_of(wanted))), 0


def _holds(wider: str, narrower: str) -> bool:
    """Whether every value of the one float format is a value of the other."""
    a, b = FORMATS[wider], FORMATS[narrower]
    return a.precision >= b.precision and a.emin <= b.emin and a.max >= b.max
