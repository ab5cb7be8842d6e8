"""Whether tensors share memory, decided exactly from their addresses, shapes and strides.

An activation of `maybe_inplace` is donated: a provider may write it, so no element of it may be
another element of it, or of another argument. Column slices of one storage (query and key of a
fused projection) interleave without sharing a byte and are legal, so ranges alone do not decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._guards import TracingContext

from ir.errors import InputError

# (distance between steps, number of steps): an axis walks 0, distance, ..., distance*(steps-1).
_Axis = tuple[int, int]


def _axes(t: torch.Tensor) -> list[_Axis]:
    return [(st, n) for st, n in zip(t.stride(), t.shape, strict=True) if n > 1]


def overlaps_itself(t: torch.Tensor) -> bool:
    """Whether two elements of `t` lie at one address."""
    if t.is_contiguous() or t.numel() < 2:
        return False
    axes = sorted(_axes(t))
    reach = 0
    for stride, size in axes:
        if stride <= reach:
            break
        reach += stride * (size - 1)
    else:
        return False
    if axes[0][0] == 0:
        return True
    # Two elements at one address differ by steps that cancel: look for a sum of differences in
    # -(size-1)..size-1 that is 0 with its largest-stride step positive.
    for i in range(len(axes)):
        stride, size = axes[i]
        rest = [(st, n) for st, n in axes[:i]]
        shift = sum(st * (n - 1) for st, n in rest)
        doubled = [(st, 2 * n - 1) for st, n in rest]
        for step in range(1, size):
            if stride * step > shift:
                break
            if _reaches(doubled, shift - stride * step, 0):
                return True
    return False


def _reaches(axes: Sequence[_Axis], target: int, slack: int) -> bool:
    """Whether some steps along `axes` (ascending) sum to a value in target-slack..target."""
    if target < 0:
        return False
    if not axes:
        return target <= slack
    *rest, (stride, size) = axes
    reach = slack + sum(st * (n - 1) for st, n in rest)
    first = max(0, -((reach - target) // stride))
    last = min(size - 1, target // stride)
    return any(_reaches(rest, target - stride * k, slack) for k in range(first, last + 1))


def _start(t: torch.Tensor) -> tuple[int, int]:
    """A memory space and the byte address of the first element in it."""
    if type(t) in (torch.Tensor, torch.nn.Parameter) and t.device.type != "meta":
        return 0, t.data_ptr()
    # Fake and meta tensors have no address; views of one storage are still comparable.
    return t.untyped_storage()._cdata, int(t.storage_offset()) * t.element_size()


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether a byte belongs to an element of `a` and to one of `b`."""
    if a.device != b.device or a.numel() == 0 or b.numel() == 0:
        return False
    (space, low), (other, high) = _start(a), _start(b)
    if space != other:
        return False
    if low > high:
        a, b, low, high = b, a, high, low
    if low + _extent(a) <= high:
        return False
    # An address of a minus one of b: b's steps count down, so start from the far end of b.
    axes = [(st * a.element_size(), n) for st, n in _axes(a) if st]
    axes += [(st * b.element_size(), n) for st, n in _axes(b) if st]
    down = _extent(b) - b.element_size()
    # Elements share a byte where the addresses differ by -(size of a) < d < size of b.
    target = high - low + down + b.element_size() - 1
    return _reaches(_merged(axes), target, a.element_size() + b.element_size() - 2)


def _extent(t: torch.Tensor) -> int:
    return t.element_size() * (1 + sum(st * (n - 1) for st, n in _axes(t)))


def _merged(axes: Sequence[_Axis]) -> list[_Axis]:
    """Axes of one stride as one, ascending: rows of two tensors are then walked together."""
    steps: dict[int, int] = {}
    for stride, size in axes:
        steps[stride] = steps.get(stride, 0) + size - 1
    return sorted((stride, n + 1) for stride, n in steps.items())


def check_donated(
    call: str, names: Sequence[str], donated: Sequence[int], args: Sequence[Any]
) -> None:
    """Refuse activations that overlap themselves or share memory with another tensor argument.

    Raises InputError. Nothing is checked while a graph is being traced: what aliases there is
    settled at run time.
    """
    if TracingContext.try_get() is not None:
        return
    tensors = [(i, t) for i, t in enumerate(args) if isinstance(t, torch.Tensor)]
    if any(not isinstance(n, int) for _, t in tensors for n in (*t.shape, *t.stride())):
        return
    for i, t in tensors:
        if i not in donated:
            continue
        if overlaps_itself(t):
            got = f"of shape {tuple(t.shape)} with strides {t.stride()}"
            raise InputError(call, names[i], got, "a tensor without two elements at one address")
        for j, other in tensors:
            # A pair of donated tensors is looked at once.
            if j != i and (j > i or j not in donated) and share_memory(t, other):
                accepted = "memory of its own, since its content is given away"
                raise InputError(call, names[i], f"sharing memory with {names[j]}", accepted)
