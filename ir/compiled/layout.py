"""What of a tensor's layout compiled code depends on, apart from the number of tokens.

Dimension 0 of a token tensor is the number of tokens. Where it is not outermost, the strides of
the dimensions outside it grow with it, and at 0 or 1 tokens its own stride says nothing. So
compiled code takes each dense token tensor as a row-major one with its dimensions in memory
order, and sees them in their own order only inside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Ints = tuple[int, ...]


def row_major(sizes: Sequence[int]) -> Ints:
    strides: list[int] = []
    step = 1
    for size in reversed(sizes):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def order_of(shape: Ints, strides: Ints) -> Ints | None:
    """The dimensions of a dense tensor, outermost first; None where it is not dense.

    A dimension of size 1 stands in index order where the others do, else outside them.
    """
    if 0 in shape:
        return tuple(range(len(shape)))
    long = [d for d, size in enumerate(shape) if size > 1]
    by_stride = sorted(long, key=lambda d: -strides[d])
    step = 1
    for d in reversed(by_stride):
        if strides[d] != step:
            return None
        step *= shape[d]
    if by_stride == long:
        return tuple(range(len(shape)))
    return (*(d for d, size in enumerate(shape) if size == 1), *by_stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLayout:
    """How the elements of a token tensor lie, for every number of tokens.

    `order`: its dimensions, outermost first, where it is dense; else `strides` are literal.
    """

    order: Ints | None
    strides: Ints | None

    @classmethod
    def of(cls, shape: Ints, strides: Ints) -> TokenLayout:
        # Without tokens the strides are those that one token would have.
        order = order_of((max(shape[0], 1), *shape[1:]), strides)
        return cls(order=order, strides=None if order is not None else strides)

    def canonical(self, shape: Ints) -> tuple[Ints, Ints]:
        """Sizes and strides of the view that compiled code takes of a tensor of `shape`."""
        if self.order is None:
            if self.strides is None:
                raise ValueError("a layout needs an order or strides")
            return shape, self.strides
        sizes = tuple(shape[d] for d in self.order)
        if shape[0] or self.order[0] == 0:
            return sizes, row_major(sizes)
        # Compiled code takes the stride of a dimension outside the tokens as a multiple of
        # their number: 0 where there are none.
        at = self.order.index(0)
        inside = row_major(sizes)[at:]
        return sizes, (0,) * at + inside

    def without_tokens(self, shape: Ints) -> tuple[Ints | None, Ints]:
        """What remains of the layout at one token: all that can be told there, and at none."""
        if self.order is not None:
            order, strides = tuple(d for d in self.order if d != 0), row_major(shape[1:])
            if order == tuple(range(1, len(shape))):
                return order, ()
            return tuple(d for d in order if shape[d] > 1), ()
        rest, strides = shape[1:], (self.strides or ())[1:]
        order = order_of(rest, strides)
        if order is None:
            return None, tuple(0 if n == 1 else st for n, st in zip(rest, strides, strict=True))
        if order == tuple(range(len(rest))):
            return tuple(range(1, len(shape))), ()
        return tuple(d + 1 for d in order if rest[d] > 1), ()


def inverse(order: Ints) -> Ints:
    """The permutation that undoes `order`."""
    found = [0] * len(order)
    for at, d in enumerate(order):
        found[d] = at
    return tuple(found)


def same_layout(shape: Ints, got: Ints, wanted: Ints) -> bool:
    """Whether two strides put the elements of a tensor of `shape` in the same places."""
    if 0 in shape:
        return True
    return all(n == 1 or a == b for n, a, b in zip(shape, got, wanted, strict=True))
