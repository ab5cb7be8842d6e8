"""Cases as torch memory and back: storages stay whole, views stay views, bits stay bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oracle.observation import FakeTensorInfo, ObservedTensor
from reference.dtypes import numpy_dtype
from reference.legal import DECLARATIONS
from reference.model import OpCase, View

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Memory:
    """One case in memory: its storages as 1-D tensors, its arguments in call form.

    ``states``: the tensors that the op finds in its states, by parameter; they are no arguments.
    """

    storages: tuple[torch.Tensor, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    states: dict[str, torch.Tensor]

    def after(self, case: OpCase) -> tuple[np.ndarray, ...]:
        """The storages' present contents as arrays in their storage dtypes."""
        return tuple(
            to_numpy(tensor, storage.dtype)
            for tensor, storage in zip(self.storages, case.storages, strict=True)
        )


def build(case: OpCase, device: str) -> Memory:
    """Fresh memory for ``case`` on ``device``."""
    storages = tuple(
        from_numpy(storage.array(), storage.dtype, device) for storage in case.storages
    )
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    states: dict[str, Any] = {}
    found_in_states = {spec.name for spec in DECLARATIONS[case.op].states}
    for argument in case.arguments:
        value: Any = argument.value
        if isinstance(value, View):
            value = storages[value.storage].as_strided(value.shape, value.strides, value.offset)
        if argument.name in found_in_states:
            states[argument.name] = value
        elif argument.keyword:
            kwargs[argument.name] = value
        else:
            args.append(value)
    return Memory(storages, tuple(args), kwargs, states)


def from_numpy(array: np.ndarray, dtype: str, device: str) -> torch.Tensor:
    """A 1-D tensor that owns a copy of ``array``'s bytes."""
    import torch

    tensor = torch.empty(array.size, dtype=getattr(torch, dtype))
    if array.size:
        tensor.view(torch.uint8).copy_(torch.from_numpy(array.view(np.uint8)))
    return tensor.to(device)


def to_numpy(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    """The tensor's elements in index order as an array of the storage dtype, same shape."""
    import torch

    if tensor.is_meta:
        # No elements to read: that it lies there is what will be judged.
        return np.zeros(tuple(tensor.shape), numpy_dtype(dtype))
    dense = tensor.detach().cpu().contiguous()
    # A tensor of one element counts as contiguous whatever its stride.
    flat = dense.as_strided((dense.numel(),), (1,))
    raw = flat.view(torch.uint8).numpy().copy()
    return raw.view(numpy_dtype(dtype)).reshape(tuple(tensor.shape))


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def flatten(result: Any) -> tuple[Any, ...]:
    """The outputs of a call as a tuple, whether it returned one or several."""
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def observe_outputs(result: Any, memory: Memory) -> tuple[ObservedTensor, ...]:
    """The outputs as data; storages are named by the case's number or as fresh."""
    names = {t.untyped_storage().data_ptr(): i for i, t in enumerate(memory.storages) if t.numel()}
    observed: list[ObservedTensor] = []
    fresh = 0
    for tensor in flatten(result):
        address = tensor.untyped_storage().data_ptr()
        if tensor.numel() == 0 or address not in names:
            fresh -= 1
            number = fresh
            if tensor.numel():
                names[address] = number
        else:
            number = names[address]
        name = dtype_name(tensor)
        observed.append(
            ObservedTensor(
                dtype=name,
                shape=tuple(tensor.shape),
                strides=tuple(tensor.stride()),
                offset=tensor.storage_offset(),
                device=str(tensor.device),
                storage=number,
                values=to_numpy(tensor, name),
            )
        )
    return tuple(observed)


def shared_positions(earlier: tuple[Any, ...], later: tuple[Any, ...]) -> tuple[int, ...]:
    """Which of ``later``'s outputs lie in the storage of one of ``earlier``'s, still held."""
    # Address 0 is memory that is not there: an empty tensor's, or a meta tensor's.
    held = {t.untyped_storage().data_ptr() for t in earlier} - {0}
    return tuple(i for i, t in enumerate(later) if t.untyped_storage().data_ptr() in held)


def observe_fake(result: Any) -> tuple[FakeTensorInfo, ...]:
    """The metadata of a fake run's outputs."""
    return tuple(
        FakeTensorInfo(
            dtype=dtype_name(tensor),
            shape=tuple(int(n) for n in tensor.shape),
            strides=tuple(int(n) for n in tensor.stride()),
            offset=int(tensor.storage_offset()),
            device=str(tensor.device),
        )
        for tensor in flatten(result)
    )
