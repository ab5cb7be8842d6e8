"""A connector whose hooks run in Python, layer by layer: it loads in the background, saves to disk.

The load of an entry begins with the step, and each layer waits for it only when its attention is
due. It therefore forces PIECEWISE graphs: a replay of the whole forward would run no hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

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


class FileConnector:
    """KV of prompts in safetensors files under `root`, by model name and tokens."""

    graph_policy: GraphPolicy | None = GraphPolicy.PIECEWISE

    def __init__(self, root: Path, *, model: str, block_size: int) -> None:
        self.store = FileStore(root)
        self._prompts = StoredPrompts(store=self.store, model=model, block_size=block_size)
        self._caches: Mapping[str, Tensor] = {}
        self._metadata: TransferMetadata | None = None
        self._loading: list[tuple[Transfer, Future[dict[str, Tensor]]]] = []
        self._saving: dict[Transfer, dict[str, Tensor]] = {}
        self._failed: dict[str, str] = {}
        self._sent: set[str] = set()
        self._received: set[str] = set()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kv-load")

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        return self._prompts.matched_tokens(prompt)

    def build_connector_meta(self, output: SchedulerOutput) -> TransferMetadata:
        return self._prompts.build(output)

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        self._caches = dict(caches)

    def bind_connector_metadata(self, metadata: object) -> None:
        if self._metadata is not None:
            raise LifecycleError("bind_connector_metadata", "called twice", "clear in between")
        self._metadata = bound_metadata(metadata, "bind_connector_metadata")

    def clear_connector_metadata(self) -> None:
        self._metadata = None
        self._loading, self._saving = [], {}
        self._failed, self._sent, self._received = {}, set(), set()

    def start_load_kv(self) -> None:
        metadata = bound_metadata(self._metadata, "start_load_kv")
        self._loading = [(t, self._reader.submit(self.store.load, t.key)) for t in metadata.loads]

    def wait_for_layer_load(self, layer: str) -> None:
        bound_metadata(self._metadata, "wait_for_layer_load")
        for transfer, entry in self._loading:
            if transfer.request in self._failed:
                continue
            try:
                loaded = checked(entry.result(), transfer, self._caches)[layer]
            except LoadError as error:
                self._failed[transfer.request] = str(error)
                self._received.discard(transfer.request)
                continue
            by_slot(self._caches[layer])[:, index(transfer.slots)] = loaded
            self._received.add(transfer.request)

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        metadata = bound_metadata(self._metadata, "save_kv_layer")
        for transfer in metadata.saves:
            if transfer.request not in self._failed:
                # Indexing copies: the next step may overwrite the blocks.
                taken = by_slot(cache)[:, index(transfer.slots)]
                self._saving.setdefault(transfer, {})[layer] = taken

    def wait_for_save(self) -> None:
        bound_metadata(self._metadata, "wait_for_save")
        for transfer, layers in self._saving.items():
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

    def close(self) -> None:
        """Wait for the reader; nothing is to be loaded any more."""
        self._reader.shutdown(wait=True)
