"""Smaller and flatter tensors: named sizes and batch dimensions shrink in all tensors at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reference.declaration import Binding, OpDeclaration
from reference.dtypes import encode
from reference.model import OpCase, Plain, Storage

from .memory import isolated, narrowed, positions, squeezed, strided, with_views

_FEW = 9
"""Sizes of at most this many are searched for the element that matters, one by one."""


def smaller(declaration: OpDeclaration, case: OpCase, binding: Binding) -> Iterator[OpCase]:
    """Every size to a few elements, then one size at a time: few elements first, one less last."""
    names = [*_batch_names(binding), *_free_sizes(declaration, binding)]
    for size in (1, 2, 3):
        joint = {}
        for name in names:
            lowest = _minimum(declaration, name)
            target = max(size, lowest) + (_even(declaration, name) and max(size, lowest) % 2)
            if target < _size(binding, name):
                joint[name] = range(target)
        if len(joint) > 1:
            yield from _sliced(declaration, case, binding, joint)
    for name in names:
        for kept in _windows(declaration, name, _size(binding, name)):
            yield from _sliced(declaration, case, binding, {name: kept})


def flatter(declaration: OpDeclaration, case: OpCase, binding: Binding) -> Iterator[OpCase]:
    """Without a batch dimension that says nothing, and with the shapes of fewer dimensions."""
    places = positions(case)
    axes_of = _axes(declaration, case, binding)
    for i, size in enumerate(binding.batch):
        # Of several sizes of 0 one is enough to keep a tensor empty.
        if size == 1 or (size == 0 and binding.batch.count(0) > 1):
            dropped = {
                name: _without(place, i) if axes_of[name][:1] == ("...",) else place
                for name, place in places.items()
            }
            yield from _rebuilt(case, dropped)
    for several in (declaration.activations, *((spec.name,) for spec in declaration.tensors)):
        reshaped = dict(places)
        for name in several:
            if name in places:
                shapes = _specs(declaration, name)
                fewest = min(shapes, key=lambda axes: (len(axes), axes))
                if "..." not in fewest:
                    reshaped[name] = places[name].reshape(binding.shape(fewest))
        yield from _rebuilt(case, reshaped)


def _without(place: np.ndarray, axis: int) -> np.ndarray:
    return place.reshape(place.shape[:axis] + place.shape[axis + 1 :])


def _specs(declaration: OpDeclaration, name: str) -> tuple[tuple[str, ...], ...]:
    return next(spec.shapes for spec in declaration.tensors if spec.name == name)


def _rebuilt(case: OpCase, places: Mapping[str, np.ndarray]) -> Iterator[OpCase]:
    builds = [squeezed]
    if any(not view.is_contiguous or view.offset for view in case.views().values()):
        # Only then may the gaps be what matters.
        builds.append(narrowed)
    for build in builds:
        found = build(case, places)
        if found is not None:
            yield found


def _batch_names(binding: Binding) -> list[str]:
    return [f"batch {i}" for i in range(len(binding.batch))]


def _free_sizes(declaration: OpDeclaration, binding: Binding) -> list[str]:
    return [dim.name for dim in declaration.dims if dim.name in binding.sizes] + [
        size
        for size in declaration.scalar_names
        if size in binding.sizes and declaration.dim(size) is None
    ]


def _size(binding: Binding, name: str) -> int:
    if name.startswith("batch "):
        return binding.batch[int(name[6:])]
    return binding.sizes[name]


def _minimum(declaration: OpDeclaration, name: str) -> int:
    dim = declaration.dim(name)
    if dim is not None:
        return dim.minimum
    return 0 if name.startswith("batch ") else 2


def _even(declaration: OpDeclaration, name: str) -> bool:
    dim = declaration.dim(name)
    if dim is not None:
        return dim.even
    return not name.startswith("batch ")


def _windows(declaration: OpDeclaration, name: str, size: int) -> Iterator[Sequence[int]]:
    lowest = _minimum(declaration, name)
    fractions = (size // 2, size - size // 4, size - size // 8)
    # Vector widths: a fault may need a multiple of one.
    wanted = dict.fromkeys((lowest, 1, 2, 3, 4, 8, 16, 32, *fractions, size - 2, size - 1))
    for length in wanted:
        if not lowest <= length < size or (_even(declaration, name) and length % 2):
            continue
        last = size - length
        # The beginning and the end first, faults like edges; every place only among few.
        starts = range(size) if size <= _FEW else (0, last, last // 2)
        for start in dict.fromkeys((0, last, *starts)):
            if start <= last and (length or not start):
                yield range(start, start + length)


def _axes(declaration: OpDeclaration, case: OpCase, binding: Binding) -> dict[str, tuple[str, ...]]:
    """Which of its declared shapes each tensor has."""
    return {
        name: next(axes for axes in _specs(declaration, name) if binding.shape(axes) == view.shape)
        for name, view in case.views().items()
    }


def _sliced(
    declaration: OpDeclaration,
    case: OpCase,
    binding: Binding,
    kept: Mapping[str, Sequence[int]],
) -> Iterator[OpCase]:
    """``case`` keeping only these indices of these sizes, in every tensor that has them."""
    kept = dict(kept)
    sizes = dict(binding.sizes)
    for name, indices in kept.items():
        if name in sizes:
            sizes[name] = len(indices)
    scalars: dict[str, Plain] = {}
    for size, parameter in declaration.scalar_names.items():
        given = declaration.values(case)[parameter]
        follows = declaration.scalar_defaults.get(size)
        if given is None and follows is not None:
            # The size is another one's equal: its elements go with that one's.
            kept.pop(size, None)
            length = sizes[follows]
        else:
            # Where it is a part of another size it cannot stay the larger.
            limit = _limit(declaration, parameter)
            length = min(sizes[size], sizes[limit]) if limit else sizes[size]
            scalars[parameter] = length
        if length != binding.sizes[size]:
            kept[size] = kept.get(size, range(length))[:length]
            sizes[size] = length
    for spec in declaration.scalars:
        value = case.plain().get(spec.name)
        if spec.at_most and spec.name not in scalars and isinstance(value, int):
            scalars[spec.name] = min(value, sizes[spec.at_most])
    for name, value in scalars.items():
        if case.argument(name) is not None:
            case = case.with_argument(name, value)
    axes_of = _axes(declaration, case, binding)
    places = {
        name: place[np.ix_(*_indices(axes_of[name], binding, kept))] if place.ndim else place
        for name, place in positions(case).items()
    }
    for spec in declaration.tensors:
        if spec.index_below in kept and spec.name in places:
            case, places[spec.name] = _reindexed(
                case, spec.name, places[spec.name], kept[spec.index_below]
            )
    yield from _rebuilt(case, places)


def _limit(declaration: OpDeclaration, parameter: str) -> str | None:
    return next(spec.at_most for spec in declaration.scalars if spec.name == parameter)


def _indices(
    axes: tuple[str, ...], binding: Binding, kept: Mapping[str, Sequence[int]]
) -> list[np.ndarray]:
    indices: list[np.ndarray] = []
    for axis in axes:
        if axis == "...":
            for i, size in enumerate(binding.batch):
                indices.append(np.asarray(kept.get(f"batch {i}", range(size)), dtype=np.int64))
            continue
        index = np.zeros(1, dtype=np.int64)
        for part in axis.split("*"):
            size = int(part) if part.isdigit() else binding.sizes[part]
            chosen = np.asarray(_halved(part, size, kept), dtype=np.int64)
            index = (index[:, None] * size + chosen[None, :]).reshape(-1)
        indices.append(index)
    return indices


def _halved(part: str, size: int, kept: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """The indices kept of one factor of an axis; a rotary cache row is cosines, then sines."""
    if part not in kept:
        return range(size)
    chosen = kept[part]
    if part == "rotary_dim":
        half = len(chosen) // 2
        return [*range(half), *range(size // 2, size // 2 + half)]
    return chosen


def _reindexed(
    case: OpCase, name: str, places: np.ndarray, rows: Sequence[int]
) -> tuple[OpCase, np.ndarray]:
    """Indices into ``rows`` of what they pointed at: their own row, or the last that is kept."""
    lone = isolated(case, name)
    view = lone.views()[name]
    storage = lone.storages[view.storage]
    # ``places`` are positions in the old storage; the values are read there.
    old = case.storages[case.views()[name].storage]
    wanted = old.array()[places]
    table = {row: i for i, row in enumerate(rows)}
    values = np.array([table.get(int(row), len(rows) - 1) for row in wanted.reshape(-1)])
    content = encode(values, storage.dtype).tobytes()
    storages = [*lone.storages]
    storages[view.storage] = Storage(storage.dtype, len(values), content)
    fresh = np.arange(len(values), dtype=np.int64).reshape(places.shape)
    whole = strided(fresh, storage=view.storage)
    views = {name: whole} if whole is not None else {}
    return with_views(replace(lone, storages=tuple(storages)), views, tuple(storages)), fresh
