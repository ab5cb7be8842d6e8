"""What the trace of a provider can depend on, as a key.

A provider is traced on tensors made from what the key holds, so a trace can see nothing of an
argument that the key does not tell: dtype, device, layout, shape, strides, offset, which
arguments are one tensor and which share a storage. Plain arguments count by type and value.
Symbols count by their place, range and known facts, not by the name a graph gives them.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import Any

import torch
from torch._inductor import config as inductor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from ir.compilation.symbols import Canonical
from ir.provider import IrOpImpl

_BY_VALUE = (
    type(None), bool, int, str, bytes,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip


class Unkeyable(Exception):
    """Something that a trace may depend on and no key can hold. `reason` is a fixed slug."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def ambient() -> tuple[Hashable, ...]:
    """The state of thread and process that tracing reads. Raises Unkeyable.

    Tracing turns the torch wrap on, so nested ops stay calls and no priority is read.
    """
    if any(type(m) is not DeviceContext for m in _get_current_function_mode_stack()):
        raise Unkeyable("torch-function-mode")
    if any(not isinstance(m, FakeTensorMode) for m in _get_current_dispatch_mode_stack()):
        raise Unkeyable("torch-dispatch-mode")
    autocast: tuple[Hashable, ...] = ()
    if torch._C._is_any_autocast_enabled():
        autocast = tuple(
            (device, torch.get_autocast_dtype(device))
            for device in ("cpu", "cuda", "xpu")
            if torch.is_autocast_enabled(device)
        )
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.get_float32_matmul_precision(),
        inductor.emulate_precision_casts,
        autocast,
    )


def make_key(
    impl: IrOpImpl,
    overload: str,
    args: tuple[Any, ...],
    *,
    ambient: tuple[Hashable, ...],
    decomposed: int = 0,
) -> tuple[Hashable, ...]:
    """The key of a provider's trace for these arguments, all positional, tensors fake.

    `decomposed`: a number for the table of decompositions applied; 0 for none.
    Raises Unkeyable, and RegistrationError where the provider depends on what cannot be hashed.
    """
    walk = _Walk()
    parts = tuple([walk.value(a) for a in args])
    facts = walk.symbols.assumptions() if walk.symbols.env is not None else ()
    if overload == "maybe_inplace" and not impl.inplace:
        # A provider that writes nothing runs the same for both.
        overload = "default"
    # The provider itself beside its uuid: what was registered anew is another one.
    return (impl.op.name, overload, impl, impl.uuid(), decomposed, ambient, parts, facts)


class _Walk:
    def __init__(self) -> None:
        self.symbols = Canonical()
        self.tensors: dict[int, int] = {}
        self.storages: dict[int, int] = {}

    def value(self, v: Any) -> Hashable:
        if isinstance(v, torch.Tensor):
            return self._tensor(v)
        kind = type(v)
        if kind in _BY_VALUE:
            return kind, v
        if kind is float:
            # 0.0 == -0.0, and a NaN equals nothing.
            return kind, struct.pack("<d", v)
        if kind is complex:
            return kind, struct.pack("<dd", v.real, v.imag)
        if kind is list or kind is tuple:
            return kind, *map(self.value, v)
        if isinstance(v, torch.SymInt):
            return torch.SymInt, self.symbols.number(v)
        raise Unkeyable(f"argument-of-type-{kind.__name__}")

    def _tensor(self, t: torch.Tensor) -> Hashable:
        if type(t) is not FakeTensor:
            raise Unkeyable(f"tensor-of-type-{type(t).__name__}")
        seen = self.tensors.get(id(t))
        if seen is not None:
            return "again", seen
        self.tensors[id(t)] = len(self.tensors)
        if t.layout is not torch.strided:
            raise Unkeyable(f"layout-{t.layout}")
        if t.is_conj() or t.is_neg():
            raise Unkeyable("lazy-conjugate-or-negative")
        storage = self.storages.setdefault(t.untyped_storage()._cdata, len(self.storages))
        shape, strides, offset = t.shape, t.stride(), t.storage_offset()
        if type(offset) is not int or any(type(s) is not int for s in (*shape, *strides)):
            number = self.symbols.number
            return (
                t.dtype, t.device, storage, number(offset),
                tuple([number(s) for s in shape]), tuple([number(s) for s in strides]),
            )  # fmt: skip
        return t.dtype, t.device, storage, offset, shape, strides
