"""How torch lays out results, and which views exist: arithmetic on shapes and strides alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..model.storage import contiguous_strides

Shape = tuple[int, ...]
Layout = tuple[Shape, Shape]
"""A shape and its strides, in elements."""


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Row-major without gaps; dimensions of size 1 say nothing, empty tensors always are."""
    if 0 in shape:
        return True
    step = 1
    for n, stride in zip(reversed(shape), reversed(strides), strict=True):
        if n > 1:
            if stride != step:
                return False
            step *= n
    return True


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Each element of one stretch of memory exactly once, in whatever order of dimensions."""
    if 0 in shape:
        return True
    step = 1
    for stride, n in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if stride != step:
            return False
        step *= n
    return True


def view_strides(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """Strides that show the same elements, in index order, as ``wanted``; None where none do.

    ``wanted`` has as many elements. Dimensions are walked from the last: those of the old shape
    that step evenly form one run, and a run must be a product of new sizes.
    """
    if 0 in shape:
        return strides if wanted == shape else contiguous_strides(wanted)
    sizes, steps = [1], [1]
    for n, stride in reversed([(n, s) for n, s in zip(shape, strides, strict=True) if n > 1]):
        if sizes[-1] == 1:
            sizes[-1], steps[-1] = n, stride
        elif stride == steps[-1] * sizes[-1]:
            sizes[-1] *= n
        else:
            sizes.append(n)
            steps.append(stride)
    found: list[int] = []
    run, taken = 0, 1
    for n in reversed(wanted):
        if n > 1 and taken == sizes[run]:
            run, taken = run + 1, 1
        found.append(steps[run] * taken)
        taken *= n
        if taken > sizes[run] or sizes[run] % taken:
            return None
    return tuple(reversed(found))


def inferred_shape(wanted: Shape, numel: int) -> Shape | None:
    """``wanted`` with its one -1 worked out; None where the elements do not fit."""
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) > 1 or rest == 0 or numel % rest:
            return None
        wanted = tuple(numel // rest if n == -1 else n for n in wanted)
    return wanted if math.prod(wanted) == numel and min(wanted, default=0) >= 0 else None


def broadcast_shape(shapes: Sequence[Shape]) -> Shape | None:
    """The common shape, sizes of 1 repeated as needed; None where there is none."""
    found: list[int] = []
    for i in range(1, max((len(s) for s in shapes), default=0) + 1):
        sizes = {s[-i] for s in shapes if len(s) >= i} - {1}
        if len(sizes) > 1:
            return None
        found.append(sizes.pop() if sizes else 1)
    return tuple(reversed(found))


def elementwise_strides(shape: Shape, operands: Sequence[Layout]) -> Shape:
    """Strides of a new pointwise result of ``shape``.

    Row-major where all operands are; those of the operands where these are dense and alike; else
    dense in the order of dimensions that the operands, the first one first, agree on.
    Source: torch documentation, "Tensor Views" and TensorIterator's stride rule.
    """
    if all(of == shape for of, _ in operands):
        if all(is_contiguous(*layout) for layout in operands):
            return contiguous_strides(shape)
        last = operands[-1][1]
        if all(strides == last and is_dense(shape, strides) for _, strides in operands):
            return last
    return dense_strides(shape, [_stretched(shape, *layout) for layout in operands])


def dense_strides(shape: Shape, operands: Sequence[Shape]) -> Shape:
    """Dense strides of ``shape`` in the operands' order of dimensions (their strides, as many)."""
    order = list(range(len(shape)))[::-1]
    for i in range(1, len(order)):
        at = i
        for before in range(i - 1, -1, -1):
            compared = _compared(shape, operands, order[before], order[at])
            if compared < 0:
                break
            if compared > 0:
                order[before], order[at] = order[at], order[before]
                at = before
    strides = [0] * len(shape)
    step = 1
    for dim in order:
        strides[dim] = step
        step *= shape[dim]
    if 0 in shape or order == list(range(len(shape)))[::-1]:
        return contiguous_strides(shape)
    return tuple(strides)


def _compared(shape: Shape, operands: Sequence[Shape], a: int, b: int) -> int:
    """Above 0 where dimension ``a`` steps further than ``b``, below where it steps less far."""
    for strides in operands:
        if strides[a] == 0 or strides[b] == 0:
            # A repeated dimension has no place of its own: the next operand decides.
            continue
        if strides[a] != strides[b]:
            return 1 if strides[a] > strides[b] else -1
        if shape[a] > shape[b]:
            return 1
    return 0


def _stretched(shape: Shape, of: Shape, strides: Shape) -> Shape:
    """Strides of an operand repeated to ``shape``: 0 where it is repeated."""
    missing = len(shape) - len(of)
    return (
        *(0 for _ in range(missing)),
        *(
            0 if n == 1 and wanted != 1 else stride
            for n, stride, wanted in zip(of, strides, shape[missing:], strict=True)
        ),
    )
