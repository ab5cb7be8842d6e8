"""A connector that lets NIXL move blocks between the caches and files, without a copy between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from ir.connector.contract import Finished, GraphPolicy, SchedulerOutput
from ir.connector.errors import ConnectorError, LifecycleError
from ir.connector.nixl.staging import geometry_of
from ir.connector.transfers import StoredPrompts, Transfer, TransferMetadata, bound_metadata
from ir.transfer import EngineGeometry, TransferError, Worker
from ir.transfer.nixl import KvFiles


class NixlFileConnector:
    """KV of prompts in files under `root`, by model name and tokens, as `FileConnector`'s.

    What one engine saved, one with another block size loads. Hooks run in Python: the first layer
    waits for the loads of a step, which bring all layers. There is no deadline: memory of a read
    that was given up could not be used again, and the kernel ends every read of a file.
    """

    graph_policy: GraphPolicy | None = GraphPolicy.PIECEWISE

    def __init__(self, root: Path, *, model: str, block_size: int) -> None:
        self.store = KvFiles(root, seconds=math.inf)
        self._model = model
        self._block_size = block_size
        self._prompts = StoredPrompts(store=self.store, model=model, block_size=block_size)
        self._geometry: EngineGeometry | None = None
        self._bases: Mapping[Worker, tuple[int, ...]] = {}
        self._metadata: TransferMetadata | None = None
        self._due: tuple[Transfer, ...] = ()
        self._failed: dict[str, str] = {}
        self._sent: set[str] = set()
        self._received: set[str] = set()

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        return self._prompts.matched_tokens(prompt)

    def build_connector_meta(self, output: SchedulerOutput) -> TransferMetadata:
        return self._prompts.build(output)

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        """Raises `ConnectorError` for caches that NIXL cannot reach as they are."""
        for layer, cache in caches.items():
            if not cache.is_contiguous() or cache.device.type != "cpu":
                raise ConnectorError(
                    f"the cache of layer {layer!r}",
                    f"{list(cache.stride())} on {cache.device}",
                    "contiguous memory of the host",
                )
        blocks = {cache.shape[1] for cache in caches.values()}
        geometry = geometry_of("caches", caches, model=self._model, tp=1, blocks=max(blocks) - 1)
        if geometry.block_tokens != self._block_size:
            raise ConnectorError("block_size", str(self._block_size), str(geometry.block_tokens))
        self._geometry = geometry
        halves = [half.data_ptr() for cache in caches.values() for half in cache]
        self._bases = {Worker(0, 0): tuple(halves)}

    def bind_connector_metadata(self, metadata: object) -> None:
        if self._metadata is not None:
            raise LifecycleError("bind_connector_metadata", "called twice", "clear in between")
        self._metadata = bound_metadata(metadata, "bind_connector_metadata")

    def clear_connector_metadata(self) -> None:
        self._metadata = None
        self._due = ()
        self._failed, self._sent, self._received = {}, set(), set()

    def start_load_kv(self) -> None:
        self._due = bound_metadata(self._metadata, "start_load_kv").loads

    def wait_for_layer_load(self, layer: str) -> None:
        bound_metadata(self._metadata, "wait_for_layer_load")
        due, self._due = self._due, ()
        for transfer in due:
            try:
                tokens = self.store.load(
                    transfer.key, self._engine(), self._bases, blocks=(self._blocks(transfer),)
                )
            except TransferError as error:
                self._failed[transfer.request] = str(error)
                continue
            if tokens != len(transfer.slots):
                self._failed[transfer.request] = (
                    f"entry {transfer.key[:12]} is of {tokens} tokens; "
                    f"accepted: {len(transfer.slots)}"
                )
                continue
            self._received.add(transfer.request)

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        # All layers go to one file, once the last is there.
        bound_metadata(self._metadata, "save_kv_layer")

    def wait_for_save(self) -> None:
        for transfer in bound_metadata(self._metadata, "wait_for_save").saves:
            if transfer.request in self._failed:
                continue
            try:
                self.store.save(
                    transfer.key,
                    self._engine(),
                    self._bases,
                    tokens=len(transfer.slots),
                    blocks=(self._blocks(transfer),),
                )
            except TransferError as error:
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

    def _engine(self) -> EngineGeometry:
        if self._geometry is None:
            raise LifecycleError("a step", "without caches", "register_kv_caches first")
        return self._geometry

    def _blocks(self, transfer: Transfer) -> tuple[int, ...]:
        """The blocks of an entry, whose tokens fill them whole."""
        return tuple(slot // self._block_size for slot in transfer.slots[:: self._block_size])
