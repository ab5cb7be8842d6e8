"""Memory while a program runs: storages as arrays, tensors as windows, what is known of content.

Floats of every format are held as float64, which has all their values. Each storage tracks the
``unit`` of its content: every value is a multiple of ``2**unit``, and no value is larger than the
format has digits for. So sums and products are exact in every order, and nothing ever rounds.
A storage whose content came out of an op of the IR has no unit: its values are what was observed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..dtypes import FORMATS, encode
from ..model.storage import View, is_self_overlapping, touched_elements
from .answers import NotKnown, Refused
from .strides import Shape, is_dense

_NEVER_ROUNDED = 24
"""Digits of float32, in which sums and products of the narrower formats are formed."""
_LARGEST_INTEGER = 2.0**31


@dataclass(slots=True, eq=False)
class Memory:
    """One storage. ``lost`` marks elements that were given away, None where there are none.

    ``shares`` are storages whose memory this one may be: itself, and those of activations given
    to the ``maybe_inplace`` overload that made it.
    """

    dtype: str
    array: np.ndarray
    unit: int | None
    lost: np.ndarray | None = None
    shares: frozenset[Memory] = field(init=False)

    def __post_init__(self) -> None:
        self.shares = frozenset((self,))

    def may_be(self, other: Memory) -> None:
        self.shares |= other.shares

    def content(self) -> bytes:
        """The storage as little-endian bytes of its dtype."""
        return stored(self.array, self.dtype)


def kind_of(dtype: str) -> np.dtype:
    """The NumPy dtype that values of ``dtype`` are held in."""
    kind = FORMATS[dtype].kind
    return np.dtype(np.float64 if kind == "float" else np.int64 if kind == "int" else np.bool_)


def stored(values: np.ndarray, dtype: str) -> bytes:
    """Held values as bytes of ``dtype``, in index order."""
    if FORMATS[dtype].kind == "float":
        return encode(values, dtype).tobytes()
    return values.astype(FORMATS[dtype].dtype).tobytes()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A window onto a storage; units are elements."""

    memory: Memory
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def dtype(self) -> str:
        return self.memory.dtype

    @property
    def unit(self) -> int | None:
        return self.memory.unit

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def window(self, array: np.ndarray) -> np.ndarray:
        """These elements of an array as long as the storage (no copy)."""
        if 0 in self.shape:
            return np.empty(self.shape, array.dtype)
        size = array.itemsize
        return np.ndarray(
            self.shape,
            array.dtype,
            array,  # type: ignore[arg-type]
            self.offset * size,
            tuple(s * size for s in self.strides),
        )

    def read(self) -> np.ndarray:
        """The values: float64, int64 or bool."""
        return self.window(self.memory.array)

    @property
    def is_lost(self) -> bool:
        """Whether an element was given away."""
        lost = self.memory.lost
        return lost is not None and bool(self.window(lost).any())

    def view(self, shape: Shape, strides: Shape, offset: int | None = None) -> Tensor:
        return Tensor(self.memory, shape, strides, self.offset if offset is None else offset)

    def places(self) -> np.ndarray:
        """The storage positions of the elements, flattened in index order (int64)."""
        return touched_elements(View(0, self.shape, self.strides, self.offset))

    def overlaps_itself(self) -> bool:
        return is_self_overlapping(View(0, self.shape, self.strides, self.offset))

    def bounds(self) -> tuple[int, int]:
        """The first element and one past the last (equal where there is none)."""
        if 0 in self.shape:
            return self.offset, self.offset
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.offset, self.offset + reach + 1


def shares_elements(a: Tensor, b: Tensor) -> bool:
    """Whether an element of the one is an element of the other."""
    if a.memory is not b.memory:
        return False
    (low, high), (first, last) = a.bounds(), b.bounds()
    if low >= last or first >= high:
        return False
    if is_dense(a.shape, a.strides) and is_dense(b.shape, b.strides):
        return True
    return bool(np.isin(a.places(), b.places()).any())


def is_exact(values: np.ndarray, unit: int | None, dtype: str) -> bool:
    """Whether values of that unit have no more digits than ``dtype``, nor than float32, holds."""
    if values.size == 0 or dtype == "bool":
        return True
    form = FORMATS[dtype]
    largest = float(np.abs(values).max())
    if form.kind == "int":
        return largest <= _LARGEST_INTEGER
    return unit is None or (
        unit >= form.emin
        and largest <= form.max
        and largest <= 2.0 ** (unit + min(form.precision, _NEVER_ROUNDED))
    )


def checked(values: np.ndarray, unit: int | None, dtype: str) -> None:
    """Unknown where values are not exact in ``dtype``."""
    if not is_exact(values, unit, dtype):
        raise NotKnown("magnitude-bound")


def new_tensor(
    dtype: str, values: np.ndarray, unit: int | None, shape: Shape, strides: Shape
) -> Tensor:
    """A tensor in a storage of its own, dense in ``strides``, holding ``values`` (broadcast)."""
    checked(values, unit, dtype)
    memory = Memory(dtype, np.zeros(math.prod(shape), kind_of(dtype)), unit)
    made = Tensor(memory, shape, strides)
    made.window(memory.array)[...] = values
    return made


def write(target: Tensor, values: np.ndarray, unit: int | None) -> None:
    """Put values, of the target's kind and known to be exact there, into its elements."""
    memory = target.memory
    target.window(memory.array)[...] = values
    if memory.unit is not None:
        memory.unit = None if unit is None else min(unit, memory.unit)


def give_away(target: Tensor) -> None:
    """From now on nobody knows what the target's elements hold."""
    memory = target.memory
    if memory.lost is None:
        memory.lost = np.zeros(len(memory.array), np.bool_)
    target.window(memory.lost)[...] = True


def check_repeats(target: Tensor) -> None:
    """Refuse to write a tensor that is expanded; unknown where it overlaps itself otherwise."""
    if any(s == 0 and n > 1 for n, s in zip(target.shape, target.strides, strict=True)):
        raise Refused("what is written has each element once")
    if target.overlaps_itself():
        raise NotKnown("written-view-overlaps-itself")


def check_elementwise(target: Tensor, sources: tuple[Tensor, ...]) -> None:
    """What is written element by element is, of each source, all or nothing.

    torch sees only dense tensors that share part of their memory; of the others nobody says what
    is read after it was written.
    """
    check_repeats(target)
    for source in sources:
        if source.memory is not target.memory or source == target:
            continue
        dense = all(is_dense(t.shape, t.strides) for t in (source, target))
        if not shares_elements(source, target) or (
            source.bounds() == target.bounds() and source.strides == target.strides and dense
        ):
            continue
        if dense:
            raise Refused("what is written is a source or shares no memory with it")
        raise NotKnown("reads-what-it-writes")
