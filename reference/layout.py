"""Output layouts as the ops declare them: which strides an output must have, and where it is free.

Strides are judged on dimensions of size > 1 and only where there are elements. ``like`` means
dense in the dimension order of an input: for a dense input its own strides, for a padded or
sliced one the strides that remain when the gaps are closed.
"""

from __future__ import annotations

from .model.storage import View, contiguous_strides, is_self_overlapping


def dense_like(view: View, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of a dense ``shape`` in the dimension order of ``view`` (same rank).

    None where the input overlaps itself: its dimension order is then not defined, and the layout
    is free.
    """
    if is_self_overlapping(view):
        return None
    # Descending stride is outermost first; index order breaks ties, which only sizes <= 1 can have.
    order = sorted(range(len(shape)), key=lambda i: (-_effective(view, i), i))
    strides = [0] * len(shape)
    step = 1
    for i in reversed(order):
        strides[i] = step
        step *= max(shape[i], 1)
    return tuple(strides)


def _effective(view: View, i: int) -> int:
    # A dimension of size 1 has a stride that says nothing: keep it where its index puts it.
    if view.shape[i] > 1:
        return view.strides[i]
    later = [view.strides[j] * view.shape[j] for j in range(i + 1, len(view.shape))]
    return max(later, default=0)


def swapped_last_two(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of ``shape`` stored with its last two dimensions exchanged (column-major)."""
    stored = (*shape[:-2], shape[-1], shape[-2])
    strides = contiguous_strides(stored)
    return (*strides[:-2], strides[-1], strides[-2])


def same_strides(
    shape: tuple[int, ...], observed: tuple[int, ...], expected: tuple[int, ...]
) -> bool:
    """Whether two strides mean the same memory: sizes of 1 and empty tensors say nothing."""
    if any(n == 0 for n in shape):
        return True
    return all(a == b for n, a, b in zip(shape, observed, expected, strict=True) if n > 1)
