"""Smaller cases that stay illegal: sizes have no names where nothing binds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reference.declaration import OpDeclaration
from reference.model import OpCase

from .memory import narrowed, positions, squeezed


def smaller_refused(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """Equal sizes shrink together in all tensors, then each axis alone; axes of size 1 go."""
    places = positions(case)
    for parameter in declaration.scalar_names.values():
        unit = case.plain().get(parameter)
        if not isinstance(unit, int) or unit < 2:
            continue
        for fewer in dict.fromkeys((1, 2, unit // 2)):
            # A size that a plain argument names goes with it in every axis that it divides.
            cut = {name: _scaled(place, unit, fewer) for name, place in places.items()}
            yield from _built(case.with_argument(parameter, fewer), cut)
    sizes = sorted({n for place in places.values() for n in place.shape if n}, reverse=True)
    for size in sizes:
        for length in dict.fromkeys((0, 1, 2, size // 2, size - 1)):
            if length < size:
                yield from _built(case, {n: _cut(p, size, length) for n, p in places.items()})
    for name, place in places.items():
        for axis, size in enumerate(place.shape):
            for length in dict.fromkeys((0, 1, 2, 3, size // 2, size - 2, size - 1)):
                if 0 <= length < size:
                    cut = np.take(place, range(length), axis=axis)
                    yield from _built(case, places | {name: cut})
    dropped = {n: p[0] if p.ndim > 1 and len(p) == 1 else p for n, p in places.items()}
    yield from _built(case, dropped)
    for name, place in places.items():
        for axis, size in enumerate(place.shape):
            if size == 1:
                yield from _built(case, places | {name: np.squeeze(place, axis)})


def _cut(place: np.ndarray, size: int, length: int) -> np.ndarray:
    for axis, n in enumerate(place.shape):
        if n == size:
            place = np.take(place, range(length), axis=axis)
    return place


def _scaled(place: np.ndarray, unit: int, fewer: int) -> np.ndarray:
    for axis, n in enumerate(place.shape):
        if n % unit == 0:
            place = np.take(place, range(n // unit * fewer), axis=axis)
    return place


def _built(case: OpCase, places: dict[str, np.ndarray]) -> Iterator[OpCase]:
    for build in (squeezed, narrowed):
        found = build(case, places)
        if found is not None:
            yield found
