"""The memory a program starts from: storages, views onto them, which are given, which donated."""

from __future__ import annotations

from dataclasses import dataclass

from reference.model import Storage, View
from reference.model.storage import contiguous_strides

from ...chooser import Chooser
from .data import draw_indices, draw_storage

SHAPES = ((2, 3), (2, 3), (3, 4), (4, 2), (3, 3), (4,), (6,), (2, 2, 3), (1, 4), (2, 3, 2))
_DTYPES = ("float32",) * 6 + ("bfloat16", "float16")


@dataclass(slots=True)
class Given:
    """Storages, tensors, inputs (numbers of tensors), donated positions among the inputs."""

    storages: list[Storage]
    tensors: list[View]
    inputs: list[int]
    donated: list[int]


def draw_memory(chooser: Chooser, *, aliased: float = 0.3, donated: float = 0.2) -> Given:
    """One to three tensors of related shapes; ``aliased``: how often two share a storage."""
    shape = chooser.choose(SHAPES)
    dtype = chooser.choose(_DTYPES)
    given = Given([], [], [], [])
    for i in range(chooser.choose((1, 2, 2, 3))):
        if i and chooser.chance(aliased):
            _add_sharing(given, chooser)
        else:
            other = dtype if chooser.chance(0.85) else chooser.choose((*_DTYPES, "int64"))
            _add_tensor(given, other, shape if chooser.chance(0.75) else shape[-1:], chooser)
    if chooser.chance(0.15):
        given.storages.append(draw_storage("bool", _numel(shape), chooser))
        given.tensors.append(View(len(given.storages) - 1, shape, contiguous_strides(shape)))
        given.inputs.append(len(given.tensors) - 1)
    if chooser.chance(0.12):
        limit = chooser.choose(shape)
        given.storages.append(draw_indices(limit, 2, chooser))
        given.tensors.append(View(len(given.storages) - 1, (2,), (1,)))
        given.inputs.append(len(given.tensors) - 1)
    if chooser.chance(0.1):
        # The same tensor object once more.
        given.inputs.append(chooser.choose(given.inputs))
    draw_donated(given, chooser, donated)
    return given


def _numel(shape: tuple[int, ...]) -> int:
    numel = 1
    for n in shape:
        numel *= n
    return numel


def _add_tensor(given: Given, dtype: str, shape: tuple[int, ...], chooser: Chooser) -> None:
    """A tensor in a storage of its own: packed, at an offset, with padded rows, or transposed."""
    layout = chooser.choose(("packed", "packed", "packed", "offset", "padded", "transposed"))
    strides, offset = contiguous_strides(shape), 0
    if layout == "transposed":
        strides = contiguous_strides(shape[::-1])[::-1]
    elif layout == "padded" and len(shape) > 1:
        row = shape[-1] + chooser.choose((1, 2))
        strides = (*(s // shape[-1] * row for s in strides[:-1]), 1)
    elif layout == "offset":
        offset = chooser.choose((1, 2, 3))
    view = View(len(given.storages), shape, strides, offset)
    spare = chooser.choose((0, 0, 2)) if layout != "packed" else 0
    given.storages.append(draw_storage(dtype, view.extent + spare, chooser))
    given.tensors.append(view)
    given.inputs.append(len(given.tensors) - 1)


def _add_sharing(given: Given, chooser: Chooser) -> None:
    """Another view of a storage that is there: the same, part of it, flat, or transposed."""
    of = given.tensors[chooser.integer(0, len(given.tensors) - 1)]
    kind = chooser.choose(("same", "row", "flat", "transposed", "tail"))
    view = of
    rank = len(of.shape)
    if kind == "row" and rank > 1:
        index = chooser.integer(0, of.shape[0] - 1)
        view = View(of.storage, of.shape[1:], of.strides[1:], of.offset + index * of.strides[0])
    elif kind == "flat":
        numel = given.storages[of.storage].numel
        view = View(of.storage, (numel,), (1,), 0)
    elif kind == "transposed":
        view = View(of.storage, of.shape[::-1], of.strides[::-1], of.offset)
    elif kind == "tail" and rank and of.shape[0] > 1:
        shape = (of.shape[0] - 1, *of.shape[1:])
        view = View(of.storage, shape, of.strides, of.offset + of.strides[0])
    given.tensors.append(view)
    given.inputs.append(len(given.tensors) - 1)


def draw_donated(given: Given, chooser: Chooser, chance: float) -> None:
    """Donate inputs that share their storage with no other input."""
    for position, number in enumerate(given.inputs):
        storage = given.tensors[number].storage
        alone = sum(given.tensors[n].storage == storage for n in given.inputs) == 1
        if alone and chooser.chance(chance):
            given.donated.append(position)
