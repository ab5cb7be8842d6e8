"""The memory of all ranks of a stage as one array: tensors one after the other, gaps between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .convert import GAP

Cells = NDArray[np.uint64]


@dataclass(frozen=True, eq=False, slots=True)
class FlatStage:
    """`cells` and `writes` are (ranks, bytes from the first tensor's address); `held` marks bytes
    of tensors. `shapes` are those of the tensors of one rank.
    """

    cells: Cells
    writes: NDArray[np.int32]
    held: NDArray[np.bool_]
    starts: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tensors: Sequence[Cells]) -> FlatStage:
        """From tensors (ranks, blocks, page bytes), laid out as `bases_of` lays them out."""
        ranks = tensors[0].shape[0]
        shapes = tuple((tensor.shape[1], tensor.shape[2]) for tensor in tensors)
        starts, at = [], 0
        for blocks, size in shapes:
            starts.append(at)
            at += blocks * size + GAP
        cells = np.zeros((ranks, at), dtype=np.uint64)
        held = np.zeros(at, dtype=np.bool_)
        for start, tensor in zip(starts, tensors, strict=True):
            flat = tensor.reshape(ranks, -1)
            cells[:, start : start + flat.shape[1]] = flat
            held[start : start + flat.shape[1]] = True
        writes = np.zeros((ranks, at), dtype=np.int32)
        return cls(cells, writes, held, tuple(starts), shapes)

    def tensors(self) -> tuple[Cells, ...]:
        """The cells by tensor, (ranks, blocks, page bytes)."""
        return tuple(self._cut(self.cells))

    def counts(self) -> tuple[NDArray[np.int32], ...]:
        """How often each cell was written, by tensor."""
        return tuple(self._cut(self.writes))

    def _cut(self, flat: NDArray) -> list[NDArray]:
        ranks = flat.shape[0]
        return [
            flat[:, start : start + blocks * size].reshape(ranks, blocks, size)
            for start, (blocks, size) in zip(self.starts, self.shapes, strict=True)
        ]


def expanded(rows: NDArray[np.uint64], ids: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """First byte and length of the blocks that `ids` name, as NIXL numbers them: row by row.

    Rows are (address, length, device, stride, count). Raises `IndexError` for an id of no row.
    """
    table = rows.astype(np.int64)
    ends = np.cumsum(table[:, 4])
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < int(ends[-1]):
        raise IndexError(f"id {int(ids.min())} to {int(ids.max())}; accepted: 0 to {ends[-1] - 1}")
    row = np.searchsorted(ends, ids, side="right")
    step = ids - (ends[row] - table[row, 4])
    return table[row, 0] + step * table[row, 3], table[row, 1]


def bytes_of(first: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every byte of every block, block by block."""
    if not len(first):
        return first
    size = int(lengths[0])
    if (lengths == size).all():
        return (first[:, None] + np.arange(size)).ravel()
    ends = np.cumsum(lengths)
    return np.repeat(first - (ends - lengths), lengths) + np.arange(int(ends[-1]))
