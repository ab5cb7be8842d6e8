"""Plainer values: whole storages first, then parts of them, then single elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reference.dtypes import FORMATS, decode, encode, round_to
from reference.model import OpCase, Storage

from .cost import storage_ranks, value_ranks

_PARTS = 16
_SINGLE = 64
"""Storages of at most this many elements are simplified element by element."""

_PLAIN = (0.0, 1.0, 2.0, 0.5, 3.0, -1.0)
_NEAR_ONE = tuple(1.0 + 2.0**-k for k in (1, 2, 3, 4, 5, 8))
"""Where a rounding is at fault these are the plainest numbers that need digits."""


def plainer_values(case: OpCase) -> Iterator[OpCase]:
    """Storages with fewer significant bits, zeros and ones in more places."""
    for i, storage in enumerate(case.storages):
        if storage.numel:
            for values in _whole(storage):
                yield _with_values(case, i, values)
    for i, storage in enumerate(case.storages):
        for values in _partly(storage):
            yield _with_values(case, i, values)


def _whole(storage: Storage) -> Iterator[np.ndarray]:
    numel, whole = storage.numel, FORMATS[storage.dtype].kind != "float"
    yield np.zeros(numel)
    if not whole:
        yield np.ones(numel)
        yield np.arange(numel) % 8 + 1.0
    values = decode(storage.array(), storage.dtype)
    if whole:
        yield values // 2
        return
    with np.errstate(invalid="ignore"):
        yield np.rint(values)
        for bits in (1, 2, 4, 8):
            yield _fewer_bits(values, bits)


def _fewer_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """``values`` with ``bits`` significant bits, to nearest even; what is not finite stays."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)


def _partly(storage: Storage) -> Iterator[np.ndarray]:
    values = decode(storage.array(), storage.dtype)
    numel = storage.numel
    if numel > _SINGLE:
        for parts in (2, 4, _PARTS):
            step = -(-numel // parts)
            for start in range(0, numel, step):
                for target in (0.0, 1.0):
                    changed = values.copy()
                    changed[start : start + step] = target
                    yield changed
        return
    ranks = storage_ranks(storage)
    whole = FORMATS[storage.dtype].kind != "float"
    for i in np.flatnonzero(ranks):
        value = values[i : i + 1]
        for target in _whole_targets(value) if whole else _targets(value):
            if (abs(target) if whole else value_ranks(np.array([target]))[0]) < ranks[i]:
                changed = values.copy()
                changed[i] = target
                yield changed


def _whole_targets(value: np.ndarray) -> list[float]:
    return [0.0, 1.0, float(value[0] // 2), float(value[0] - 1)]


def _targets(value: np.ndarray) -> list[float]:
    with np.errstate(invalid="ignore"):
        rounded = [np.rint(value), *(_fewer_bits(value, bits) for bits in (1, 2, 3, 5, 8, 12))]
        # Where only the digits matter, neither the sign nor the power of two need stay.
        rounded += [np.abs(2.0 * np.frexp(value)[0]), 2.0 * np.frexp(value)[0], np.abs(value)]
    return list(
        dict.fromkeys([*_PLAIN, *_NEAR_ONE, *(float(r[0]) for r in rounded if np.isfinite(r[0]))])
    )


def _with_values(case: OpCase, number: int, values: np.ndarray) -> OpCase:
    storage = case.storages[number]
    form = FORMATS[storage.dtype]
    if form.kind == "float":
        rule = "saturate" if "inf" not in form.overflow else None
        values = round_to(values, storage.dtype, overflow=rule)
    else:
        values = np.clip(np.rint(values), 0, 1 if form.kind == "bool" else None)
    storages = [*case.storages]
    content = encode(values, storage.dtype).tobytes()
    storages[number] = Storage(storage.dtype, storage.numel, content)
    return replace(case, storages=tuple(storages))
