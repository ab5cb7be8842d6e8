"""The bytes that a tensor's elements lie in: whether two sets of them meet, or one holds the other.

A region is a set {start + sum_k i_k * stride_k + b} with 0 <= i_k < size_k and 0 <= b < chunk, so
column slices of one storage interleave without meeting. A region that is not `exact` holds more
than the tensor does: it may meet another in vain, and holds none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

Axis = tuple[int, int]
"""(bytes from one step to the next, number of steps)"""

_ENDLESS = 1 << 48
# Views that people write need one or two comparisons an axis; what needs more is taken to meet.
_MOST_STEPS = 64


@dataclass(frozen=True, slots=True)
class Region:
    """`axes`: the longest step first. All in bytes."""

    start: int
    chunk: int
    axes: tuple[Axis, ...]
    exact: bool = True

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + _reach(self.axes, self.chunk)

    def moved(self, shift: int) -> Region:
        return Region(self.start + shift, self.chunk, self.axes, self.exact) if shift else self

    def meets(self, other: Region) -> bool:
        """Whether a byte lies in both, as far as can be told; then True."""
        if self.end <= other.start or other.end <= self.start:
            return False
        if not self.chunk or not other.chunk:
            return False
        if not self.axes and not other.axes:
            return True
        steps = [_MOST_STEPS]
        ahead = other.start - self.start
        return _meet(self.axes, self.chunk, other.axes, other.chunk, ahead, steps)

    def covers(self, other: Region) -> bool:
        """Whether every byte of the other certainly lies in this one."""
        if not self.exact or other.start < self.start or other.end > self.end:
            return False
        return _hold(self.axes, self.chunk, other.axes, other.chunk, other.start - self.start)


EVERYTHING = Region(-_ENDLESS * _ENDLESS, 2 * _ENDLESS * _ENDLESS, (), exact=False)
"""All of a storage, where nothing narrower is known."""


def region_of(value: Any) -> Region:
    """The bytes of a tensor in its storage. A symbolic size counts as endless."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return EVERYTHING
    offset, strides = value.storage_offset(), value.stride()
    if type(offset) is not int or any(type(s) is not int for s in strides):
        return EVERYTHING
    itemsize = value.element_size()
    start, chunk, exact = offset * itemsize, itemsize, True
    found: list[Axis] = []
    for size, stride in zip(value.shape, strides, strict=True):
        if type(size) is not int:
            size, exact = _ENDLESS, False
        if size == 0:
            return Region(start, 0, ())
        if size != 1 and stride != 0:
            found.append((stride * itemsize, size))
    axes: list[Axis] = []
    # From the shortest step: what adjoins the bytes so far lengthens them or the axis before.
    for stride, size in sorted(found):
        if not axes and stride == chunk:
            chunk *= size
        elif axes and stride == axes[0][0] * axes[0][1]:
            axes[0] = (axes[0][0], axes[0][1] * size)
        else:
            axes.insert(0, (stride, size))
    return Region(start, chunk, tuple(axes), exact)


def _reach(axes: tuple[Axis, ...], chunk: int) -> int:
    return sum(stride * (size - 1) for stride, size in axes) + chunk


def _meet(
    a: tuple[Axis, ...], p: int, b: tuple[Axis, ...], q: int, ahead: int, steps: list[int]
) -> bool:
    """Whether axes `a` of chunks p meet `b` of chunks q that begin `ahead` bytes further on."""
    if not a and not b:
        return -q < ahead < p
    stride = max(axes[0][0] for axes in (a, b) if axes)
    n = m = 1
    if a and a[0][0] == stride:
        n, a = a[0][1], a[1:]
    if b and b[0][0] == stride:
        m, b = b[0][1], b[1:]
    # Only the difference d of the two step numbers counts: -(n-1) .. m-1. What is left of both
    # meets only if -right < ahead + d*stride < left.
    left, right = _reach(a, p), _reach(b, q)
    first = max(-(n - 1), (-right - ahead) // stride + 1)
    last = min(m - 1, -((ahead - left) // stride) - 1)
    for d in range(first, last + 1):
        steps[0] -= 1
        if steps[0] < 0 or _meet(a, p, b, q, ahead + d * stride, steps):
            return True
    return False


def _hold(a: tuple[Axis, ...], p: int, b: tuple[Axis, ...], q: int, ahead: int) -> bool:
    """Whether `a` holds `b` that begins `ahead` bytes further on; False where it is not plain."""
    if not a:
        return ahead >= 0 and ahead + _reach(b, q) <= p
    stride, n = a[0]
    inner = a[1:]
    if _reach(inner, p) > stride or ahead < 0:
        return False
    step, m = 0, 1
    if b and b[0][0] >= stride:
        if b[0][0] % stride:
            return False
        step, m, b = b[0][0] // stride, b[0][1], b[1:]
    at = ahead // stride
    return at + step * (m - 1) < n and _hold(inner, p, b, q, ahead - at * stride)
