"""A program's memory in torch, and what is read back of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.observation import ObservedTensor
from oracle.subjects.torch_memory import dtype_name, from_numpy, to_numpy
from reference.model import ProgramCase

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ProgramMemory:
    """One program's storages as 1-D tensors, and its inputs: views onto them."""

    storages: tuple[torch.Tensor, ...]
    inputs: tuple[torch.Tensor, ...]

    def after(self, case: ProgramCase) -> tuple[np.ndarray, ...]:
        """The storages' present contents as arrays in their storage dtypes."""
        return tuple(
            to_numpy(tensor, storage.dtype)
            for tensor, storage in zip(self.storages, case.storages, strict=True)
        )


def build(case: ProgramCase, arrays: list[np.ndarray] | None = None) -> ProgramMemory:
    """Fresh memory for ``case``, filled with ``arrays`` in place of its own content if given."""
    contents = case.arrays() if arrays is None else arrays
    storages = tuple(
        from_numpy(content, storage.dtype, "cpu")
        for content, storage in zip(contents, case.storages, strict=True)
    )
    tensors = [
        storages[view.storage].as_strided(view.shape, view.strides, view.offset)
        for view in case.tensors
    ]
    return ProgramMemory(storages, tuple(tensors[number] for number in case.inputs))


def observed(
    tensors: tuple[torch.Tensor, ...], memory: ProgramMemory
) -> tuple[ObservedTensor, ...]:
    """Tensors as data; storages are named by the case's number or, below 0, as fresh."""
    names = {t.untyped_storage()._cdata: i for i, t in enumerate(memory.storages)}
    found: list[ObservedTensor] = []
    fresh = 0
    for tensor in tensors:
        address = tensor.untyped_storage()._cdata
        if address not in names:
            fresh -= 1
            names[address] = fresh
        dtype = dtype_name(tensor)
        found.append(
            ObservedTensor(
                dtype=dtype,
                shape=tuple(tensor.shape),
                strides=tuple(tensor.stride()),
                offset=int(tensor.storage_offset()),
                device=str(tensor.device),
                storage=names[address],
                values=to_numpy(tensor, dtype),
            )
        )
    return tuple(found)


def reached(
    outputs: tuple[torch.Tensor, ...], memory: ProgramMemory
) -> tuple[tuple[str, ...], ...]:
    """For each output, the other outputs and the storages that change when it is written.

    The memory is spoilt afterwards.
    """
    found: list[tuple[str, ...]] = []
    for i, output in enumerate(outputs):
        if not output.numel():
            found.append(())
            continue
        before = [_bytes(t) for t in (*outputs, *memory.storages)]
        _flip(output)
        after = [_bytes(t) for t in (*outputs, *memory.storages)]
        names = [f"output {k}" for k in range(len(outputs))]
        names += [f"storage {k}" for k in range(len(memory.storages))]
        found.append(
            tuple(
                name
                for k, (name, one, two) in enumerate(zip(names, before, after, strict=True))
                if k != i and one != two
            )
        )
    return tuple(found)


def _bytes(tensor: torch.Tensor) -> bytes:
    return to_numpy(tensor, dtype_name(tensor)).tobytes()


def _flip(tensor: torch.Tensor) -> None:
    """Change every element, each address once."""
    import torch

    view = tensor.detach()
    for dim, stride in enumerate(view.stride()):
        if stride == 0:
            view = view.narrow(dim, 0, 1)
    elements = {p for p in _places(view)}
    size = view.element_size()
    raw = torch.empty(0, dtype=torch.uint8).set_(view.untyped_storage())
    places = [p * size + k for p in sorted(elements) for k in range(size)]
    index = torch.tensor(places, dtype=torch.int64)
    # A bool of another byte than 0 or 1 would not survive a copy.
    raw[index] = raw[index] ^ (0x01 if view.dtype is torch.bool else 0xFF)


def _places(tensor: torch.Tensor) -> list[int]:
    found = np.array(tensor.storage_offset())
    for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = found[..., None] + np.arange(n) * stride
    return [int(p) for p in found.reshape(-1)]


def tensors_of(result: Any) -> list[Any]:
    """The tensors of a call's result, in a list or alone."""
    if result is None:
        return []
    return list(result) if isinstance(result, list | tuple) else [result]
