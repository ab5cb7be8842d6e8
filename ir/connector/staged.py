"""A connector whose layer hooks are copies on fixed addresses, so that a FULL graph captures them.

Before the forward pass entries are put into staging tensors; in the graph each layer copies from
and to its own, at slots that lie in tensors too. Slot -1 moves nothing: the null block's first
slot is written with what it holds. A dummy run has no other slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ir.connector.contract import Finished, GraphPolicy, SchedulerOutput
from ir.connector.errors import LifecycleError, LoadError
from ir.connector.store import FileStore
from ir.connector.transfers import (
    StoredPrompts,
    Transfer,
    TransferMetadata,
    bound_metadata,
    by_slot,
    checked,
    index,
)


class StagedFileConnector:
    """As `FileConnector`, for FULL graphs; at most `capacity` tokens are moved a step each way."""

    graph_policy: GraphPolicy | None = GraphPolicy.CAPTURED

    def __init__(self, root: Path, *, model: str, block_size: int, capacity: int = 64) -> None:
        self.store = FileStore(root)
        self.capacity = capacity
        self._prompts = StoredPrompts(store=self.store, model=model, block_size=block_size)
        self._metadata: TransferMetadata | None = None
        self._caches: Mapping[str, Tensor] = {}
        self.load_slots = torch.full((capacity,), -1)
        self.save_slots = torch.full((capacity,), -1)
        self.arriving: dict[str, Tensor] = {}
        self.leaving: dict[str, Tensor] = {}
        self.hook_calls: dict[str, Tensor] = {}
        """Loads and saves that ran, for each layer: counted on the device, so at replay too."""
        self._staged: list[tuple[Transfer, int]] = []
        self._failed: dict[str, str] = {}
        self._sent: set[str] = set()
        self._received: set[str] = set()

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        return self._prompts.matched_tokens(prompt)

    def build_connector_meta(self, output: SchedulerOutput) -> TransferMetadata:
        return self._prompts.build(output)

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        self._caches = dict(caches)
        device = next(iter(caches.values())).device
        self.load_slots, self.save_slots = self.load_slots.to(device), self.save_slots.to(device)
        for layer, cache in caches.items():
            shape = (2, self.capacity, *cache.shape[3:])
            self.arriving[layer] = torch.zeros(shape, dtype=cache.dtype, device=device)
            self.leaving[layer] = torch.zeros(shape, dtype=cache.dtype, device=device)
            self.hook_calls[layer] = torch.zeros(2, dtype=torch.int64, device=device)

    def bind_connector_metadata(self, metadata: object) -> None:
        if self._metadata is not None:
            raise LifecycleError("bind_connector_metadata", "called twice", "clear in between")
        self._metadata = bound_metadata(metadata, "bind_connector_metadata")

    def clear_connector_metadata(self) -> None:
        self._metadata = None
        self._staged = []
        self._failed, self._sent, self._received = {}, set(), set()
        self.load_slots.fill_(-1)
        self.save_slots.fill_(-1)

    def start_load_kv(self) -> None:
        metadata = bound_metadata(self._metadata, "start_load_kv")
        used = 0
        for transfer in metadata.loads:
            n = len(transfer.slots)
            try:
                self._check_room(used + n)
                entry = checked(self.store.load(transfer.key), transfer, self._caches)
            except LoadError as error:
                self._failed[transfer.request] = str(error)
                continue
            for layer, staging in self.arriving.items():
                staging[:, used : used + n] = entry[layer]
            self.load_slots[used : used + n] = index(transfer.slots)
            self._received.add(transfer.request)
            used += n
        used = 0
        for transfer in metadata.saves:
            n = len(transfer.slots)
            # What failed to load must not be saved; what has no room is not saved, which is no
            # failure of the request.
            if transfer.request in self._failed or used + n > self.capacity:
                continue
            self.save_slots[used : used + n] = index(transfer.slots)
            self._staged.append((transfer, used))
            used += n

    def _check_room(self, tokens: int) -> None:
        if tokens > self.capacity:
            raise LoadError("tokens to load in a step", str(tokens), f"at most {self.capacity}")

    def wait_for_layer_load(self, layer: str) -> None:
        bound_metadata(self._metadata, "wait_for_layer_load")
        slots = by_slot(self._caches[layer])
        at = self.load_slots.clamp(min=0)
        real = (self.load_slots >= 0)[None, :, None, None]
        slots[:, at] = torch.where(real, self.arriving[layer], slots[:, at])
        self.hook_calls[layer][0].add_(1)

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        bound_metadata(self._metadata, "save_kv_layer")
        self.leaving[layer].copy_(by_slot(cache)[:, self.save_slots.clamp(min=0)])
        self.hook_calls[layer][1].add_(1)

    def wait_for_save(self) -> None:
        bound_metadata(self._metadata, "wait_for_save")
        for transfer, first in self._staged:
            last = first + len(transfer.slots)
            layers = {layer: t[:, first:last].cpu() for layer, t in self.leaving.items()}
            try:
                self.store.save(transfer.key, layers)
            except OSError as error:
                self._failed[transfer.request] = f"saving failed: {error}"
                continue
            self._sent.add(transfer.request)

    def get_finished(self, finished: frozenset[str]) -> Finished:
        bound_metadata(self._metadata, "get_finished")
        return Finished(
            sent=frozenset(self._sent),
            received=frozenset(self._received),
            failed=MappingProxyType(dict(self._failed)),
        )
