"""Strided descriptors: rows (address, length, device, stride, count), and the ids they expand to.

A list of rows names blocks: block k of a row lies at ``address + k * stride``, and ids number the
blocks row by row. Everything is 64 bits wide, so that no product of a block number and a stride
can wrap where the row itself does not; `check_rows` refuses rows that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .errors import DescriptorError
from .geometry import ADDRESS_LIMIT

Rows = NDArray[np.uint64]
Ids = NDArray[np.int64]
Row = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of a copy: `count` steps, each so many bytes at the source and the target."""

    count: int
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes that is contiguous on both sides."""

    source: int
    target: int
    length: int


def pieces_of(run: int, axes: Sequence[Axis], *, source: int, target: int) -> tuple[Piece, ...]:
    """The fewest contiguous pieces of a copy of `run` bytes along `axes`, from two offsets.

    An axis whose steps abut on both sides lengthens the run; the others are enumerated, the first
    of them slowest.
    """
    rest = [axis for axis in axes if axis.count > 1]
    while True:
        joined = next((a for a in rest if a.source == run and a.target == run), None)
        if joined is None:
            break
        run *= joined.count
        rest.remove(joined)
    return tuple(
        Piece(
            source + sum(i * axis.source for i, axis in zip(steps, rest, strict=True)),
            target + sum(i * axis.target for i, axis in zip(steps, rest, strict=True)),
            run,
        )
        for steps in product(*(range(axis.count) for axis in rest))
    )


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the units of a page lie: the blocks that one side's rows name.

    Units ``page * per_page + sub`` are spread over ``len(inner)`` rows, which begin at the offsets
    `inner`: unit q is block ``q // len(inner)`` of row ``q % len(inner)``, and the blocks of a row
    are `stride` bytes apart.
    """

    pages: int
    per_page: int
    inner: tuple[int, ...]
    stride: int

    @property
    def count(self) -> int:
        """Blocks of each row."""
        return self.pages * self.per_page // len(self.inner)

    @property
    def blocks_per_piece(self) -> int:
        return self.count * len(self.inner)


def unit_grid(
    *,
    pages: int,
    page_stride: int,
    kernels: int,
    kernel_stride: int,
    subs: int,
    sub_stride: int,
) -> Grid:
    """The grid of `pages` pages of `kernels` kernel blocks of `subs` units, in as few rows.

    Units that are evenly spaced over all pages take one row, kernel blocks that are, one for each
    unit of a block; in a padded page every unit takes a row of its own.
    """
    per_page = kernels * subs
    dense_pages = kernels == 1 or kernels * kernel_stride == page_stride
    if not dense_pages:
        inner = tuple(
            kernel * kernel_stride + sub * sub_stride
            for kernel in range(kernels)
            for sub in range(subs)
        )
        return Grid(pages, per_page, inner, page_stride)
    block_stride = page_stride // kernels
    if subs == 1 or subs * sub_stride == block_stride:
        return Grid(pages, per_page, (0,), block_stride // subs)
    return Grid(pages, per_page, tuple(sub * sub_stride for sub in range(subs)), block_stride)


def ids_of(grid: Grid, units: Ids, *, first: int, pieces: int, out: Ids | None = None) -> Ids:
    """The ids of `units` (page * per_page + sub) for each of `pieces` pieces, piece by piece.

    `first` is the id of the first block of the first piece. `out` is where to put them: int64,
    contiguous, with room for just these.
    """
    rows = len(grid.inner)
    within = units if rows == 1 else units % rows * grid.count + units // rows
    starts = np.arange(pieces, dtype=np.int64) * grid.blocks_per_piece + first
    if out is None:
        out = np.empty(pieces * len(units), dtype=np.int64)
    np.add(starts[:, None], within, out=out.reshape(pieces, len(units)))
    return out


def all_ids(lists: Iterable[tuple[Grid, Ids, int, int]]) -> Ids:
    """The ids of several (grid, units, first, pieces), one after the other.

    Written once and in place: with a million ids a copy costs as much as the sums.
    """
    lists = tuple(lists)
    ends = np.cumsum([pieces * len(units) for _, units, _, pieces in lists]).tolist()
    ids = np.empty(ends[-1], dtype=np.int64)
    for (grid, units, first, pieces), start, end in zip(lists, (0, *ends[:-1]), ends, strict=True):
        ids_of(grid, units, first=first, pieces=pieces, out=ids[start:end])
    return ids


Span = tuple[int, int, int]
"""Where a part of a layer starts, and the bounds of the tensor that it lies on.

A bare tuple: a large plan has thousands, and making them was a third of its time.
"""


def block_rows(
    spans: Sequence[Span],
    offsets: Sequence[int],
    grid: Grid,
    *,
    length: int,
    device: int,
    what: str,
) -> Rows:
    """The rows of equally long pieces at the same `offsets` in every span, for a grid of units.

    Ordered by span, offset and inner row, so that ids follow `ids_of`. Raises `DescriptorError`.
    """
    first, last = min(offsets) + min(grid.inner), max(offsets) + max(grid.inner)
    end, wrap = last + grid.stride * (grid.count - 1) + length, last + grid.stride * grid.count
    sound = length > 0 and grid.count > 0
    for start, low, high in spans:
        # Plainly inside, as all are in a sound plan; else in the words of `check_rows`.
        inside = start + first >= low and start + end <= high
        if not (sound and inside and start + wrap <= ADDRESS_LIMIT and high <= ADDRESS_LIMIT):
            ends = [(start + at, length, device, grid.stride, grid.count) for at in (first, last)]
            check_rows(ends, [(low, high)] * 2, what=what)
    rows = np.empty((len(spans), len(offsets), len(grid.inner), 5), dtype=np.uint64)
    starts = np.array([start for start, _, _ in spans], dtype=np.uint64)
    within = np.add.outer(np.array(offsets, dtype=np.uint64), np.array(grid.inner, dtype=np.uint64))
    rows[..., 0] = np.add.outer(starts, within)
    rows[..., 1:] = (length, device, grid.stride, grid.count)
    return rows.reshape(-1, 5)


def pack(rows: Sequence[Row]) -> Rows:
    """Rows as an (N, 5) uint64 array."""
    return np.array(rows, dtype=np.uint64).reshape(-1, 5)


def expand(rows: Rows, ids: Ids) -> tuple[NDArray[np.uint64], Ids]:
    """Addresses (uint64) and lengths in bytes (int64) of the blocks that `ids` name.

    Raises `DescriptorError` for an id that no row has.
    """
    counts = rows[:, 4].astype(np.int64)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= total):
        raise DescriptorError(
            "a descriptor id", f"{int(ids.min())} to {int(ids.max())}", f"0 to {total - 1}"
        )
    row = np.searchsorted(ends, ids, side="right")
    step = (ids - (ends - counts)[row]).astype(np.uint64)
    addresses = rows[row, 0] + step * rows[row, 3]
    return addresses, rows[row, 1].astype(np.int64)


def check_rows(rows: Sequence[Row], bounds: Sequence[tuple[int, int]], *, what: str) -> None:
    """Refuse a row without bytes, one that wraps 2^64, and one that leaves its bounds.

    `bounds` gives for each row the first address of its tensor and the one past its last. Exact:
    computed on Python's integers.
    """
    for row, (low, high) in zip(rows, bounds, strict=True):
        address, length, _device, stride, count = row
        if length < 1 or count < 1:
            raise DescriptorError(f"length and count of a row of {what}", row, "1 or more each")
        end = address + stride * (count - 1) + length
        if stride * count + address > ADDRESS_LIMIT or end > ADDRESS_LIMIT:
            raise DescriptorError(f"the end of a row of {what}", f"{end} for {row}", "below 2^64")
        if address < low or end > high:
            raise DescriptorError(
                f"a row of {what}", f"{address} to {end}", f"addresses from {low} to {high}"
            )
