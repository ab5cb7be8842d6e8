"""Sequences of a paged cache with fewer rows: table, lengths and cache change together.

Changed alone, each of them points beyond the others, and what then happens is undefined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from reference.declaration import OpDeclaration
from reference.expectation import tensor_arrays
from reference.model import OpCase, Storage, View
from reference.model.storage import contiguous_strides

from .memory import with_views

_RULES = ("cache", "tables", "lengths")


def shorter_sequences(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """Without the first or last rows of every sequence, without blocks that nobody has.

    Also with all rows of a sequence in one block, where single rows can be left out.
    """
    names = {spec.content: spec.name for spec in declaration.tensors if spec.content in _RULES}
    views = case.views()
    owners = [view.storage for view in views.values()]
    if len(names) < len(_RULES) or any(owners.count(views[n].storage) > 1 for n in names.values()):
        return
    arrays = tensor_arrays(case, case.arrays())
    cache, tables, lengths = (arrays[names[rule]] for rule in _RULES)
    for changed in _changes(cache, tables, lengths):
        yield _with(case, {names[rule]: array for rule, array in changed.items()})


def _changes(
    cache: np.ndarray, tables: np.ndarray, lengths: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    _, blocks, size, *_ = cache.shape
    sequences, entries = tables.shape
    for fewer in _steps(entries):
        left = (entries - fewer) * size
        cut = np.maximum(lengths - fewer * size, 0).astype(lengths.dtype)
        yield {"tables": tables[:, fewer:], "lengths": cut}
        yield {"tables": tables[:, :-fewer], "lengths": np.minimum(lengths, left)}
    used = np.arange(entries) * size < lengths[:, None]
    held = np.where(used, tables, 0)
    kept = np.unique(held[used])
    if 0 < len(kept) < blocks:
        places = np.where(used, np.searchsorted(kept, held), 0).astype(tables.dtype)
        yield {"cache": cache[:, kept], "tables": places}
    if entries > 1 and sequences:
        # (2, sequences, entries, size, ...) as one block a sequence.
        rows = cache[:, held].reshape(2, sequences, entries * size, *cache.shape[3:])
        yield {"cache": rows, "tables": np.arange(sequences, dtype=tables.dtype)[:, None]}
    for fewer in _steps(size) if entries == 1 else ():
        cut = np.maximum(lengths - fewer, 0).astype(lengths.dtype)
        yield {"cache": cache[:, :, fewer:], "lengths": cut}
        yield {"cache": cache[:, :, :-fewer], "lengths": np.minimum(lengths, size - fewer)}


def _steps(size: int) -> list[int]:
    return [
        n for n in dict.fromkeys((size // 2, size // 4, size // 8, size // 16, 1)) if 0 < n < size
    ]


def _with(case: OpCase, changed: Mapping[str, np.ndarray]) -> OpCase:
    """``case`` with these tensors, dense. Their memory must be their own."""
    storages = [*case.storages]
    views: dict[str, View] = {}
    for name, array in changed.items():
        number = case.views()[name].storage
        storages[number] = Storage(storages[number].dtype, array.size, array.tobytes())
        views[name] = View(number, array.shape, contiguous_strides(array.shape))
    return with_views(case, views, tuple(storages))
