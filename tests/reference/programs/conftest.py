"""Programs run by eager torch, to see whether the reference says what torch does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reference.dtypes import numpy_dtype
from reference.model import Name, ProgramCase, ProgramStep, Storage, Value


@dataclass(frozen=True)
class Eager:
    """``error`` is what torch raised; then nothing else is filled."""

    outputs: tuple[torch.Tensor, ...] = ()
    storages: tuple[torch.Tensor, ...] = ()
    results: tuple[tuple[np.ndarray, ...], ...] = ()
    error: Exception | None = None


def to_torch(storage: Storage) -> torch.Tensor:
    flat = torch.empty(storage.numel, dtype=getattr(torch, storage.dtype))
    flat.view(torch.uint8).copy_(
        torch.from_numpy(np.frombuffer(storage.array().tobytes(), np.uint8).copy())
    )
    return flat


def to_bytes(tensor: torch.Tensor) -> bytes:
    packed = tensor.contiguous().clone(memory_format=torch.contiguous_format)
    return packed.reshape(-1).view(torch.uint8).numpy().tobytes()


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    name = str(tensor.dtype).removeprefix("torch.")
    return np.frombuffer(to_bytes(tensor), numpy_dtype(name)).reshape(tuple(tensor.shape))


def function_of(target: str):
    space, op, overload = target.split(".")
    return getattr(getattr(getattr(torch.ops, space), op), overload)


def call(step: ProgramStep, values: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    def operand(found):
        if isinstance(found, Value):
            return values[found.number]
        if isinstance(found, Name):
            return getattr(torch, found.name)
        return [operand(item) for item in found] if isinstance(found, tuple) else found

    keywords = {name: operand(o) for name, o in step.keywords}
    made = function_of(step.target)(*(operand(o) for o in step.operands), **keywords)
    if made is None:
        return ()
    return (made,) if isinstance(made, torch.Tensor) else tuple(made)


def run_eager(case: ProgramCase) -> Eager:
    storages = [to_torch(storage) for storage in case.storages]
    tensors = [
        torch.as_strided(storages[v.storage], v.shape, v.strides, v.offset) for v in case.tensors
    ]
    values = [tensors[number] for number in case.inputs]
    seen = []
    for step in case.steps:
        try:
            made = call(step, values)
        except Exception as error:
            return Eager(error=error)
        if len(made) != step.results:
            return Eager(error=ValueError(f"{step.target} returned {len(made)} tensors"))
        values.extend(made)
        seen.append(tuple(to_numpy(t) for t in made) if step.target.startswith("ir.") else ())
    return Eager(tuple(values[i] for i in case.outputs), tuple(storages), tuple(seen))


def difference(case: ProgramCase, expected, eager: Eager) -> str:
    """How eager torch differs from what is expected, "" where it does not."""
    if eager.error is not None:
        return f"torch raised {eager.error}"
    places = {s.untyped_storage().data_ptr(): i for i, s in enumerate(eager.storages)}
    where = []
    for i, (want, got) in enumerate(zip(expected.outputs, eager.outputs, strict=True)):
        where.append(places.setdefault(got.untyped_storage().data_ptr(), len(places)))
        found = (str(got.dtype).removeprefix("torch."), tuple(got.shape), got.storage_offset())
        if found != (want.dtype, want.shape, want.offset):
            return f"output {i} is {found}, not {(want.dtype, want.shape, want.offset)}"
        if (
            any(
                n > 1 and a != b
                for n, a, b in zip(want.shape, got.stride(), want.strides, strict=True)
            )
            and got.numel()
        ):
            return f"output {i} has strides {got.stride()}, not {want.strides}"
        if got.numel() and to_bytes(got) != want.content:
            return f"output {i} is {got.tolist()}, not as expected"
    for i, here in enumerate(where):
        for j in range(i):
            must = expected.sharing(i, j)
            if must != "may" and (here == where[j]) != (must == "must"):
                return f"outputs {i} and {j} share as they should not"
        for storage in range(len(case.storages)):
            must = expected.sharing_with_storage(i, storage)
            if must != "may" and (here == storage) != (must == "must"):
                return f"output {i} and storage {storage} share as they should not"
    for i, (want, got) in enumerate(zip(expected.storages, eager.storages, strict=True)):
        size = got.element_size()
        a = np.frombuffer(want.content, np.uint8).reshape(-1, size)
        b = np.frombuffer(to_bytes(got), np.uint8).reshape(-1, size)
        differs = (a != b).any(axis=1)
        if want.free is not None:
            differs &= ~want.free
        if differs.any():
            return f"storage {i} differs at {np.flatnonzero(differs)}"
    return ""


@pytest.fixture(scope="session")
def eager() -> Callable[[ProgramCase], Eager]:
    return run_eager


@pytest.fixture(scope="session")
def differs() -> Callable[..., str]:
    return difference
