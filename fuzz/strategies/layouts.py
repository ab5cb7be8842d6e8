"""How tensors lie in memory: strides, gaps, offsets, canaries around them, and shared storages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reference.model import Fill, View, is_self_overlapping
from reference.model.storage import contiguous_strides

from ..chooser import Chooser

_KINDS = (
    "contiguous", "contiguous", "contiguous", "permuted", "permuted", "padded", "padded",
    "stepped", "expanded", "permuted-padded", "overlapping",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tensor with its place: ``memory`` numbers a storage of ``numel`` elements."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    memory: int
    numel: int

    @property
    def view(self) -> View:
        return View(self.memory, self.shape, self.strides, self.offset)


def place(
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    memory: int,
    chooser: Chooser,
    *,
    fixed: bool,
    donated: bool,
    dense: bool = False,
) -> Placed:
    """A storage of its own for one tensor. ``donated`` memory never overlaps itself.

    ``dense`` memory is row-major without gaps, as a state is; there may be others around it.
    """
    strides = contiguous_strides(shape)
    offset = tail = 0
    if not fixed:
        strides = contiguous_strides(shape) if dense else draw_strides(shape, chooser)
        if donated and is_self_overlapping(View(memory, shape, strides)):
            strides = contiguous_strides(shape)
        if chooser.chance(0.4):
            offset = chooser.choose((1, 2, 3, 4, 8, 16))
            tail = chooser.choose((0, 1, 5, 16))
    return _grown(
        Placed(
            name=name, dtype=dtype, shape=shape, strides=strides, offset=offset, memory=memory,
            numel=0,
        ),
        tail,
    )  # fmt: skip


def _grown(placed: Placed, tail: int = 0) -> Placed:
    extent = max(placed.offset, placed.view.extent)
    return replace(placed, numel=max(placed.numel, extent + tail))


def draw_strides(shape: tuple[int, ...], chooser: Chooser) -> tuple[int, ...]:
    """Strides of any legal kind: dense or not, permuted, with zero strides, overlapping."""
    kind = chooser.choose(_KINDS)
    order = list(range(len(shape)))
    if "permuted" in kind:
        order = _permutation(order, chooser)
    if kind == "overlapping" and len(shape) >= 2 and shape[-1] >= 2:
        # Rows that slide over each other: each begins inside the one before.
        step = chooser.integer(1, shape[-1] - 1)
        rows = contiguous_strides((*shape[:-1], step))
        return (*rows[:-1], 1)
    zero = chooser.choose(order) if kind == "expanded" and shape else None
    stride = chooser.choose((2, 3)) if kind == "stepped" else 1
    strides = [0] * len(shape)
    for i in reversed(order):
        if i == zero:
            continue
        strides[i] = stride
        stride *= max(shape[i], 1)
        if "padded" in kind:
            stride += chooser.choose((0, 1, 2, 8))
    return tuple(strides)


def _permutation(order: list[int], chooser: Chooser) -> list[int]:
    left = list(order)
    result = []
    while left:
        result.append(left.pop(chooser.integer(0, len(left) - 1)))
    return result


def share(
    tensors: list[Placed],
    contents: dict[int, bytes | Fill],
    donated: Iterable[str],
    chooser: Chooser,
) -> list[Placed]:
    """Put two tensors of one dtype into one storage, where that is legal.

    They become the same tensor, two columns blocks of one row buffer (as q and k of a fused
    projection are), or windows that overlap anyhow. Donated tensors only ever sit side by side.
    """
    pairs = [
        (i, j)
        for i in range(len(tensors))
        for j in range(i + 1, len(tensors))
        if tensors[i].dtype == tensors[j].dtype
        and all(isinstance(contents[tensors[k].memory], Fill) for k in (i, j))
    ]
    if not pairs:
        return tensors
    i, j = chooser.choose(pairs)
    first, second = tensors[i], tensors[j]
    modes = []
    if len(first.shape) >= 2 and len(second.shape) >= 2 and first.shape[0] == second.shape[0]:
        modes += ["packed", "packed"]
    if not {first.name, second.name} & set(donated):
        modes.append("rebased")
        if first.shape == second.shape:
            modes += ["same", "same"]
    if not modes:
        return tensors
    mode = chooser.choose(modes)
    if mode == "packed":
        first, second = _packed(first, second, chooser)
    elif mode == "same":
        second = replace(first, name=second.name)
    else:
        second = _grown(
            replace(
                second,
                memory=first.memory,
                offset=chooser.integer(0, max(0, first.view.extent - 1)),
                numel=first.numel,
            )
        )
    # Both must name the final size of their common storage.
    numel = max(first.numel, second.numel)
    result = list(tensors)
    result[i], result[j] = replace(first, numel=numel), replace(second, numel=numel)
    return result


def _packed(first: Placed, second: Placed, chooser: Chooser) -> tuple[Placed, Placed]:
    """Rows ``| pad | first | second | pad |``, one row per index of the first dimension."""
    before, after = chooser.choose((0, 0, 1, 4)), chooser.choose((0, 0, 3, 8))
    a, b = (math.prod(t.shape[1:]) for t in (first, second))
    row = before + a + b + after

    def strides(placed: Placed) -> tuple[int, ...]:
        return (row, *contiguous_strides(placed.shape[1:]))

    numel = row * first.shape[0]
    common = {"memory": first.memory, "numel": numel}
    return (
        _grown(replace(first, strides=strides(first), offset=before, **common)),
        _grown(replace(second, strides=strides(second), offset=before + a, **common)),
    )
