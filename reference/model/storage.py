"""Storages and the views onto them: inputs as memory, so that sharing is part of a case.

    storage 0   | e0 | e1 | e2 | e3 | e4 | e5 | e6 | ...        numel elements of one dtype
                       ^ offset 1        shape (2, 3), strides (3, 1)

Strides, offsets and sizes count elements. Bytes outside every view are canaries: a provider that
writes them is seen because whole storages are compared, not views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..dtypes import FORMATS, encode, numpy_dtype
from .fill import Fill, fill_values


@dataclass(frozen=True, slots=True)
class Storage:
    """``numel`` elements of ``dtype`` whose content is literal little-endian bytes or a fill."""

    dtype: str
    numel: int
    content: bytes | Fill

    def __post_init__(self) -> None:
        if self.dtype not in FORMATS:
            raise ValueError(f"storage dtype {self.dtype!r}; accepted: {', '.join(FORMATS)}")
        wanted = self.numel * FORMATS[self.dtype].size
        if isinstance(self.content, bytes) and len(self.content) != wanted:
            raise ValueError(
                f"storage of {self.numel} {self.dtype} has {len(self.content)} bytes; "
                f"accepted: {wanted}"
            )

    @property
    def nbytes(self) -> int:
        return self.numel * FORMATS[self.dtype].size

    def array(self) -> np.ndarray:
        """A fresh, writable 1-D array of ``numel`` elements in the storage's own NumPy dtype."""
        if isinstance(self.content, bytes):
            return np.frombuffer(self.content, dtype=numpy_dtype(self.dtype)).copy()
        return encode(fill_values(self.content, self.dtype, self.numel), self.dtype)


@dataclass(frozen=True, slots=True)
class View:
    """A strided window onto storage number ``storage``; units are elements."""

    storage: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements of the storage that must exist: one past the last element touched."""
        if self.numel == 0:
            return self.offset
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.offset + reach + 1

    def of(self, array: np.ndarray) -> np.ndarray:
        """This window onto the storage's 1-D ``array`` (no copy)."""
        if self.numel == 0:
            return np.empty(self.shape, dtype=array.dtype)
        if self.extent > len(array):
            raise ValueError(
                f"view {self.shape} strides {self.strides} offset {self.offset} needs "
                f"{self.extent} elements; accepted: at most {len(array)}"
            )
        step = array.itemsize
        return np.lib.stride_tricks.as_strided(
            array[self.offset :], self.shape, tuple(s * step for s in self.strides)
        )

    @property
    def is_contiguous(self) -> bool:
        return self.strides == contiguous_strides(self.shape)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides of ``shape`` in elements; sizes of zero count as one, as in torch."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def touched_elements(view: View) -> np.ndarray:
    """The storage positions of the view's elements, flattened in index order (int64)."""
    positions = np.full((), view.offset, dtype=np.int64)
    for n, stride in zip(view.shape, view.strides, strict=True):
        positions = positions[..., None] + np.arange(n, dtype=np.int64) * stride
    return positions.reshape(-1)


def is_self_overlapping(view: View) -> bool:
    """Whether two indices of the view name the same element."""
    if view.numel <= 1:
        return False
    sized = sorted((abs(s), n) for n, s in zip(view.shape, view.strides, strict=True) if n > 1)
    reach = 0
    nested = True
    for stride, n in sized:
        if stride <= reach:
            nested = False
            break
        reach += stride * (n - 1)
    if nested:
        return False
    positions = touched_elements(view)
    return len(np.unique(positions)) < len(positions)
