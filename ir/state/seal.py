"""What sealed graphs rely on: the tensors that existed, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ir.state.errors import SealedError
from ir.state.lifting import Key, slot_of
from ir.state.values import tensors_of

_Address = tuple[int, int, int]
"""Of a tensor: its first byte, its storage's first byte, its storage's size in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The states that one graph uses, with the tensors and addresses it was captured with."""

    graph: str
    tensors: Mapping[Key, tuple[Tensor, ...]]
    addresses: Mapping[Key, tuple[_Address, ...]]

    def check(self, key: Key, value: Any) -> None:
        """Raises SealedError where a state's tensors are not those of the capture."""
        before = self.tensors.get(key)
        if before is None:
            return
        now = tensors_of(value)
        if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
            raise self.refusal(key, "was replaced by another tensor")
        for was, tensor in zip(self.addresses[key], now, strict=True):
            found = address(tensor)
            if found[2] != was[2]:
                raise self.refusal(key, f"was resized from {was[2]} to {found[2]} bytes")
            if found != was:
                raise self.refusal(key, f"was moved from {was[0]:#x} to {found[0]:#x}")

    def verify(self, held: Mapping[Key, Any]) -> None:
        """Raises SealedError where a state of the capture is not what and where it was."""
        for key in self.tensors:
            if key not in held:
                raise self.refusal(key, "is gone")
            self.check(key, held[key])

    def refusal(self, key: Key, what: str) -> SealedError:
        return SealedError(
            f"state {slot_of(key)} {what}, which breaks the captured graph {self.graph!r}; "
            "accepted: creating and growing states before seal, or unseal and a new capture"
        )


def seal_of(graph: str, values: Mapping[Key, Any]) -> Seal:
    tensors = {k: tuple(tensors_of(v)) for k, v in values.items()}
    tensors = {k: ts for k, ts in tensors.items() if ts}
    addresses = {k: tuple(address(t) for t in ts) for k, ts in tensors.items()}
    return Seal(graph=graph, tensors=tensors, addresses=addresses)


def address(t: Tensor) -> _Address:
    storage = t.untyped_storage()
    return t.data_ptr(), storage.data_ptr(), storage.nbytes()
