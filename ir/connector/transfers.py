"""Which entries a step loads and saves, and where their tokens lie in the caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ir.connector.contract import ScheduledRequest, SchedulerOutput
from ir.connector.errors import LifecycleError, LoadError
from ir.connector.store import entry_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One entry and the slots of its tokens: slot = block * block size + offset."""

    request: str
    key: str
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferMetadata:
    """What a step moves; nothing in a dummy run."""

    loads: tuple[Transfer, ...] = ()
    saves: tuple[Transfer, ...] = ()


class Entries(Protocol):
    """A store, as far as the scheduler asks it."""

    def has(self, key: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrompts:
    """The scheduler side over a store: prompts by their longest prefix of whole blocks."""

    store: Entries
    model: str
    block_size: int

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        whole = len(prompt) // self.block_size * self.block_size
        for n in range(whole, 0, -self.block_size):
            if self.store.has(entry_key(self.model, prompt[:n])):
                return n
        return 0

    def build(self, output: SchedulerOutput) -> TransferMetadata:
        loads = [self._transfer(r, r.load) for r in output.requests if r.load]
        whole = [(r, r.save // self.block_size * self.block_size) for r in output.requests]
        saves = [self._transfer(r, n) for r, n in whole if n]
        return TransferMetadata(loads=tuple(loads), saves=tuple(saves))

    def _transfer(self, r: ScheduledRequest, tokens: int) -> Transfer:
        slots = tuple(
            r.blocks[i // self.block_size] * self.block_size + i % self.block_size
            for i in range(tokens)
        )
        return Transfer(
            request=r.request, key=entry_key(self.model, r.prompt[:tokens]), slots=slots
        )


def bound_metadata(metadata: object, call: str) -> TransferMetadata:
    """The metadata of the step. Raises LifecycleError where none is bound."""
    if not isinstance(metadata, TransferMetadata):
        raise LifecycleError(call, f"called with {metadata!r} bound", "bound TransferMetadata")
    return metadata


def by_slot(cache: Tensor) -> Tensor:
    """A cache (2, blocks, block size, heads, head size) as (2, slots, heads, head size)."""
    return cache.flatten(1, 2)


def checked(
    entry: Mapping[str, Tensor], transfer: Transfer, caches: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """An entry that fits the caches. Raises LoadError."""
    for layer, cache in caches.items():
        got = entry.get(layer)
        shape = (2, len(transfer.slots), *cache.shape[3:])
        if got is None or tuple(got.shape) != shape or got.dtype is not cache.dtype:
            shown = "missing" if got is None else f"{got.dtype}{list(got.shape)}"
            raise LoadError(f"layer {layer} of the entry", shown, f"{cache.dtype}{list(shape)}")
    return entry


def index(slots: tuple[int, ...]) -> Tensor:
    return torch.tensor(slots, dtype=torch.int64)
