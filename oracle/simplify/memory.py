"""A case rebuilt from the storage positions that its tensors shall keep.

Every change of shape or memory is one thing here: each tensor argument is given as an array of
positions in its storage, and what comes back is a case whose views touch just those. Sharing and
overlaps survive, since positions that were equal stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from reference.model import Fill, OpCase, Storage, View, touched_elements
from reference.model.storage import contiguous_strides


def positions(case: OpCase) -> dict[str, np.ndarray]:
    """Storage positions (int64) of every tensor argument, in the argument's shape."""
    return {name: touched_elements(view).reshape(view.shape) for name, view in case.views().items()}


def squeezed(case: OpCase, kept: Mapping[str, np.ndarray]) -> OpCase | None:
    """``case`` whose tensors are ``kept``, with every untouched element removed.

    None where the positions that are left are no longer those of strided views.
    """
    views = case.views()
    new_views: dict[str, View] = {}
    storages: list[Storage] = []
    numbers: dict[int, int] = {}
    for old in dict.fromkeys(views[name].storage for name in kept):
        storage = case.storages[old]
        used = np.zeros(storage.numel, dtype=bool)
        names = [name for name in kept if views[name].storage == old]
        for name in names:
            used[kept[name]] = True
        rank = np.cumsum(used) - 1
        numbers[old] = len(storages)
        storages.append(_subset(storage, np.flatnonzero(used)))
        for name in names:
            found = strided(rank[kept[name]], storage=numbers[old])
            if found is None:
                return None
            new_views[name] = found
    return with_views(case, new_views, tuple(storages))


def narrowed(case: OpCase, kept: Mapping[str, np.ndarray]) -> OpCase | None:
    """``case`` whose tensors are ``kept``, its storages as they are; None where not strided."""
    new_views: dict[str, View] = {}
    for name, view in case.views().items():
        old = view.strides if len(view.strides) == kept[name].ndim else None
        found = strided(kept[name], storage=view.storage, idle=old)
        if found is None:
            return None
        new_views[name] = found
    return with_views(case, new_views, case.storages)


def with_views(case: OpCase, views: Mapping[str, View], storages: tuple[Storage, ...]) -> OpCase:
    """``case`` with other views and storages; arguments without a view here stay as they are."""
    arguments = tuple(replace(a, value=views.get(a.name, a.value)) for a in case.arguments)
    return replace(case, arguments=arguments, storages=storages)


def strided(
    places: np.ndarray, *, storage: int, idle: tuple[int, ...] | None = None
) -> View | None:
    """The view that touches ``places`` in index order, or None.

    Dimensions of size 1 take their stride from ``idle``, or the one a dense tensor would have.
    """
    if places.size == 0:
        return View(storage, places.shape, contiguous_strides(places.shape), 0)
    origin = int(places.flat[0])
    strides = [0] * places.ndim
    dense = 1
    for axis in reversed(range(places.ndim)):
        if places.shape[axis] > 1:
            second = tuple(int(i == axis) for i in range(places.ndim))
            strides[axis] = int(places[second]) - origin
        else:
            strides[axis] = idle[axis] if idle is not None else dense
        dense = max(dense, strides[axis] * places.shape[axis])
    if min(strides, default=0) < 0:
        return None
    view = View(storage, places.shape, tuple(strides), origin)
    return view if np.array_equal(touched_elements(view), places.reshape(-1)) else None


def _subset(storage: Storage, kept: np.ndarray) -> Storage:
    """The elements ``kept`` of ``storage``; a fill stays one where they are its beginning."""
    if isinstance(storage.content, Fill) and (not len(kept) or kept[-1] == len(kept) - 1):
        return replace(storage, numel=len(kept))
    return Storage(storage.dtype, len(kept), storage.array()[kept].tobytes())


def isolated(case: OpCase, name: str) -> OpCase:
    """``case`` with tensor ``name`` contiguous in a storage of its own, its values the same."""
    view = case.views()[name]
    old = case.storages[view.storage]
    values = np.ascontiguousarray(view.of(old.array()))
    fresh = Storage(old.dtype, view.numel, values.tobytes())
    if isinstance(old.content, Fill) and view.is_contiguous and view.offset == 0:
        fresh = replace(old, numel=view.numel)
    number = len(case.storages)
    changed = case.with_argument(name, View(number, view.shape, contiguous_strides(view.shape), 0))
    return without_unused(replace(changed, storages=(*case.storages, fresh)))


def without_unused(case: OpCase) -> OpCase:
    """``case`` without storages that no tensor views, numbered in order of first use."""
    order = list(dict.fromkeys(view.storage for view in case.views().values()))
    numbers = {old: new for new, old in enumerate(order)}
    views = {
        name: replace(view, storage=numbers[view.storage]) for name, view in case.views().items()
    }
    return with_views(case, views, tuple(case.storages[old] for old in order))
