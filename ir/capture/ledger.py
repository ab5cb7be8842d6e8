"""The address ledger of a graph: who owns each tensor that it reads or writes, and where it lay.

A replay uses recorded addresses. It is right only while every owner still holds the memory that
was recorded; values may change freely. Checked before each replay: first that no step of any
place leads elsewhere (identity, a few tens of nanoseconds each) and that no storage has moved;
only where a step does is the whole place followed again and its memory compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ir.capture.errors import StaleAddress
from ir.capture.owners import Place, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where a tensor lies: enough for equal extents to mean the same elements."""

    address: int
    nbytes: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: str
    storage_address: int
    storage_nbytes: int

    def serves(self, was: Extent) -> bool:
        """Whether a graph recorded with `was` reads and writes the same elements here.

        A storage that has grown where it lies still holds them.
        """
        here = (self.address, self.shape, self.stride, self.dtype, self.device)
        return (
            here == (was.address, was.shape, was.stride, was.dtype, was.device)
            and self.storage_address == was.storage_address
            and self.storage_nbytes >= was.storage_nbytes
        )

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype}{list(self.shape)} with strides {list(self.stride)} at {self.address:#x}"


def extent(t: Tensor) -> Extent:
    storage = t.untyped_storage()
    return Extent(
        address=t.data_ptr(),
        nbytes=t.numel() * t.element_size(),
        shape=tuple(t.shape),
        stride=tuple(t.stride()),
        dtype=t.dtype,
        device=str(t.device),
        storage_address=storage.data_ptr(),
        storage_nbytes=storage.nbytes(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a graph: its owner's name and kind, where it lay, and how it is reached."""

    owner: str
    kind: str
    extent: Extent
    tensor: Tensor
    place: Place | None = None


def _describe(found: Extent, was: Extent) -> str:
    storage = found.storage_nbytes, found.storage_address
    if found.storage_nbytes < was.storage_nbytes:
        return f"{found} in a storage of {storage[0]} bytes, {was.storage_nbytes} before"
    return str(found)


class AddressLedger:
    """Entries in the order inputs, owners, outputs; `check` raises StaleAddress.

    Tensors that nothing reachable owns are kept alive by the graph itself and named after the
    call that used them; only their storage can move.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._prepare()

    def _prepare(self) -> None:
        steps: dict[tuple[int, object], Step] = {}
        for entry in self.entries:
            if entry.place is not None:
                for step in entry.place.steps:
                    try:
                        steps.setdefault((id(step.holder), step.key), step)
                    except TypeError:  # a key without a hash cannot have been a key
                        continue
        self._steps = tuple((s.get, s.holder, s.key, s.value) for s in steps.values())
        seen: dict[int, Entry] = {}
        for entry in self.entries:
            seen.setdefault(id(entry.tensor), entry)
        # Strides change with nearly every change of shape made in place, and cost less to read;
        # the address covers the storage and the offset into it.
        self._tensors = tuple(
            (e.tensor, e.tensor.untyped_storage(), x.address, x.storage_nbytes, x.stride)
            for e in seen.values()
            for x in [e.extent]
        )

    def check(self) -> None:
        """Raise StaleAddress, naming the first owner whose memory is no longer the recorded one."""
        try:
            for get, holder, key, value in self._steps:
                if get(holder, key) is not value:
                    break
            else:
                for t, storage, address, size, stride in self._tensors:
                    if t.data_ptr() != address or storage.nbytes() < size or t.stride() != stride:
                        break
                else:
                    return
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            pass
        self.compare()

    def compare(self) -> None:
        """The whole comparison, place by place; what `check` does where something has moved."""
        for entry in self.entries:
            now = entry.tensor if entry.place is None else entry.place.resolve()
            if now is None:
                raise StaleAddress(entry.owner, str(entry.extent), "gone")
            # Both: the owner's tensor, and the recorded one through which the replay writes.
            for tensor in (now, entry.tensor):
                found = extent(tensor)
                if not found.serves(entry.extent):
                    raise StaleAddress(
                        entry.owner, str(entry.extent), _describe(found, entry.extent)
                    )

    def lines(self) -> tuple[str, ...]:
        """One line for each entry: owner, kind, memory."""
        return tuple(f"{e.owner} ({e.kind}): {e.extent}" for e in self.entries)
