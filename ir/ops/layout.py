"""Where an output's elements lie: dense, in the dimension order of an input.

`torch.empty_like` documents that order for dense inputs only. The rule here is the one that
torch's elementwise ops follow, so that a native made of such ops, a fake and a kernel agree for
padded, sliced, permuted and expanded inputs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import guard_or_false


def _outer_first(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Dimensions, outermost first, as the first tensor of `strides` that can tell orders them.

    A stride of 0 says nothing about a dimension. What a symbolic size leaves open keeps its
    index order, and adds no guard.
    """

    def is_outside(a: int, b: int) -> bool | None:
        for s in strides:
            if guard_or_false(s[a] == 0) or guard_or_false(s[b] == 0):
                continue
            if guard_or_false(s[a] > s[b]):
                return True
            if guard_or_false(s[a] < s[b]):
                return False
            if guard_or_false(sizes[a] < sizes[b]):
                return False
        return None

    order = list(range(len(sizes)))
    # Insertion from the inside out: the relation is not transitive where a stride of 0 is met.
    for start in range(len(order) - 2, -1, -1):
        at = start
        for inner in range(start + 1, len(order)):
            outside = is_outside(order[at], order[inner])
            if outside:
                break
            if outside is False:
                order[at], order[inner] = order[inner], order[at]
                at = inner
    return order


def dense_strides(sizes: Sequence[int], x: Tensor, *others: Tensor) -> list[int]:
    """Strides of a dense tensor of `sizes` (x's rank) in x's dimension order.

    Where x does not tell the order of two dimensions (it overlaps itself there), `others` do.
    """
    strides = [0] * len(sizes)
    step: Any = 1
    for dim in reversed(_outer_first(sizes, [t.stride() for t in (x, *others)])):
        strides[dim] = step
        step = step * torch.sym_max(sizes[dim], 1)
    return strides


def empty_dense(
    x: Tensor, *others: Tensor, last: int | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """An uninitialized dense tensor in x's dimension order, on x's device.

    Its shape is x's, with `last` in place of the last size; its dtype is x's or `dtype`.
    """
    sizes = list(x.shape)
    if last is not None:
        sizes[-1] = last
    dtype = x.dtype if dtype is None else dtype
    if x.is_contiguous():
        return torch.empty(sizes, dtype=dtype, device=x.device)
    strides = dense_strides(sizes, x, *others)
    return torch.empty_strided(sizes, strides, dtype=dtype, device=x.device)


def empty_contiguous(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialized row-major tensor of x's shape, on x's device."""
    return torch.empty(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device)


def is_dense(x: Tensor) -> bool:
    """Whether x fills its memory without gap or overlap, in whatever order of dimensions."""
    return x.is_contiguous() or all(
        size == 1 or have == want
        for size, have, want in zip(x.shape, x.stride(), dense_strides(x.shape, x), strict=True)
    )
