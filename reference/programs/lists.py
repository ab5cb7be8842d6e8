"""Steps that write a list of tensors: each in turn, none where one of them is refused."""

from __future__ import annotations

from collections.abc import Callable

from .answers import NotKnown, Refused
from .arguments import Arguments
from .computed import Computed, fitting
from .memory import Tensor, shares_elements, write
from .pointwise import add, copy, multiply


def _each(targets: tuple[Tensor, ...], compute: Callable[[int], Computed]) -> tuple[Tensor, ...]:
    made = [compute(i) for i in range(len(targets))]
    for i, target in enumerate(targets):
        others = (*targets[:i], *(s for j, m in enumerate(made) if j != i for s in m.sources))
        if any(shares_elements(target, other) for other in others):
            # Which element of the list goes first is nobody's promise.
            raise NotKnown("reads-what-it-writes")
    fits = [fitting(m, t, resizes=False) for m, t in zip(made, targets, strict=True)]
    for target, (values, unit) in zip(targets, fits, strict=True):
        write(target, values, unit)
    return ()


def add_number(a: Arguments) -> tuple[Tensor, ...]:
    """One number added to each tensor of a list, in place."""
    targets, number = a.tensors("self"), a.number("scalar")
    return _each(
        targets,
        lambda i: add(Arguments({"self": targets[i], "other": number, "alpha": 1})),
    )


def multiply_pairs(a: Arguments) -> tuple[Tensor, ...]:
    """Each tensor of a list times its partner in the other list, in place."""
    return _pairs(a, "other", multiply)


def copy_pairs(a: Arguments) -> tuple[Tensor, ...]:
    """Each tensor of a list from its partner in the other list."""
    return _pairs(a, "src", copy)


def _pairs(a: Arguments, name: str, compute: Callable[[Arguments], Computed]) -> tuple[Tensor, ...]:
    targets, partners = a.tensors("self"), a.tensors(name)
    if len(partners) != len(targets):
        raise Refused("lists of one length")
    return _each(targets, lambda i: compute(Arguments({"self": targets[i], name: partners[i]})))
