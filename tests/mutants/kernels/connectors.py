"""Faults that KV connectors really had, planted one by one into ``ir.connector``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from weakref import WeakKeyDictionary

import pytest
import torch

import ir.connector as connectors
from ir.capture import BucketedGraphs
from ir.connector import (
    FileConnector,
    Finished,
    LoadError,
    store,
    transfers,
)
from ir.connector import batch as batches
from ir.connector import runner as runners
from ir.connector.runner import Forward
from ir.connector.transfers import (
    StoredPrompts,
    TransferMetadata,
    bound_metadata,
    by_slot,
    checked,
    index,
)

Patch = pytest.MonkeyPatch

_build = StoredPrompts.build


def _kv_is_never_loaded(patch: Patch) -> None:
    """vllm#29608: attention reads KV that is still on its way."""

    def wait_for_layer_load(self: FileConnector, layer: str) -> None:
        for transfer, _ in self._loading:
            self._received.add(transfer.request)

    patch.setattr(FileConnector, "wait_for_layer_load", wait_for_layer_load)


def _slots_are_those_of_the_capture(patch: Patch) -> None:
    """vllm#44868, flashinfer#2185: context that is rebuilt each step is not copied for a replay."""

    def place(self: BucketedGraphs, i: int, given, own, pad) -> None:
        if i != 2 or len(self._padding) != 4:
            own[: given.shape[0]].copy_(given)
            own[given.shape[0] :].fill_(pad)

    patch.setattr(BucketedGraphs, "_place", place)


def _loads_go_to_the_first_block(patch: Patch) -> None:
    build = StoredPrompts._transfer

    def transfer(self: StoredPrompts, r, tokens: int):
        made = build(self, r, tokens)
        if tokens != r.load:
            return made
        first = r.blocks[0] * self.block_size
        return replace(made, slots=tuple(first + i % self.block_size for i in range(tokens)))

    patch.setattr(StoredPrompts, "_transfer", transfer)


def _slots_of_a_larger_batch_stay(patch: Patch) -> None:
    """vllm#13418, vllm#13922, vllm#21196: rows that pad keep what the last batch left there."""

    def place(self: BucketedGraphs, i: int, given, own, pad) -> None:
        own[: given.shape[0]].copy_(given)

    patch.setattr(BucketedGraphs, "_place", place)


def _rows_that_pad_write_to_the_null_block(patch: Patch) -> None:
    """vllm#36939, TensorRT-LLM#13278: a replay's padding has a slot like any row."""
    patch.setattr(runners, "PADDING", (0, 0, 0, 0))


def _dummy_rows_have_slot_zero(patch: Patch) -> None:
    """vllm#38719"""
    patch.setattr(batches, "PADDING", (0, 0, 0, 0))


def _prompts_of_whole_blocks_lose_their_last(patch: Patch) -> None:
    """LMCache#5151: a prompt that ends at a block boundary is stored without its last block."""

    def build(self: StoredPrompts, output: connectors.SchedulerOutput) -> TransferMetadata:
        b = self.block_size
        shorter = tuple(replace(r, save=max(0, (r.save - 1) // b * b)) for r in output.requests)
        return _build(self, replace(output, requests=shorter))

    patch.setattr(StoredPrompts, "build", build)


def _what_failed_to_load_is_saved(patch: Patch) -> None:
    def save_kv_layer(self: FileConnector, layer: str, cache: torch.Tensor) -> None:
        metadata = bound_metadata(self._metadata, "save_kv_layer")
        for transfer in metadata.saves:
            taken = by_slot(cache)[:, index(transfer.slots)]
            self._saving.setdefault(transfer, {})[layer] = taken

    patch.setattr(FileConnector, "save_kv_layer", save_kv_layer)


def _entries_are_written_in_place(patch: Patch) -> None:
    def write(path, data: bytes) -> None:
        with open(path, "wb") as file:
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                file.write(part)
                file.flush()
                os.fsync(file.fileno())

    patch.setattr(store, "write_atomically", write)


def _kv_is_saved_before_attention(patch: Patch) -> None:
    def forward(self: Forward, tokens, position, slot, table) -> object:
        self.hooks.begin()
        x, *qkv = runners._tensors(self.pieces[0](tokens, position))
        attended = x
        for i, layer in enumerate(self.model.layers):
            self.hooks.before(layer)
            self.hooks.after(layer, self.model.caches[layer])
            attended = self.model.attend(i, tuple(qkv), position, slot, table)
            if i + 1 < len(self.model.layers):
                x, *qkv = runners._tensors(self.pieces[i + 1](x, attended, position))
        return self.pieces[-1](x, attended)

    patch.setattr(Forward, "__call__", forward)


def _what_was_written_stays_beside_the_entry(patch: Patch) -> None:
    def write(path, data: bytes) -> None:
        beside = path.with_name(f".{path.name}.tmp")
        beside.write_bytes(data)
        for _ in range(2):
            with beside.open("rb") as file:
                os.fsync(file.fileno())
        shutil.copyfile(beside, path)

    patch.setattr(store, "write_atomically", write)


def _entries_of_all_models_are_one(patch: Patch) -> None:
    """A key of the tokens alone: who shares a store finds the KV of another model."""

    def entry_key(model: str, tokens: tuple[int, ...]) -> str:
        return store.entry_key("m", tokens)

    patch.setattr(transfers, "entry_key", entry_key)


def _last_block_is_never_matched(patch: Patch) -> None:
    """vllm#18632's neighbour: a whole hit is none."""
    matched = StoredPrompts.matched_tokens

    def matched_tokens(self: StoredPrompts, prompt: tuple[int, ...]) -> int:
        found = matched(self, prompt)
        return found if found < len(prompt) else matched(self, prompt[:-1])

    patch.setattr(StoredPrompts, "matched_tokens", matched_tokens)


def _a_dying_save_goes_on(patch: Patch) -> None:
    def wait_for_save(self: FileConnector) -> None:
        for transfer, layers in self._saving.items():
            with contextlib.suppress(BaseException):
                self.store.save(transfer.key, layers)
            self._sent.add(transfer.request)

    patch.setattr(FileConnector, "wait_for_save", wait_for_save)


def _waited(tell: Callable[[FileConnector, object, LoadError], None]):
    """`wait_for_layer_load` that tells of a failure in its own way."""

    def wait_for_layer_load(self: FileConnector, layer: str) -> None:
        for transfer, entry in self._loading:
            try:
                loaded = checked(entry.result(), transfer, self._caches)[layer]
            except LoadError as error:
                tell(self, transfer, error)
                continue
            by_slot(self._caches[layer])[:, index(transfer.slots)] = loaded
            self._received.add(transfer.request)

    return wait_for_layer_load


def _failed_loads_are_kept_quiet(patch: Patch) -> None:
    patch.setattr(FileConnector, "wait_for_layer_load", _waited(lambda c, t, e: None))


def _a_failure_is_everybodys(patch: Patch) -> None:
    def tell(connector: FileConnector, transfer: object, error: LoadError) -> None:
        metadata = bound_metadata(connector._metadata, "wait_for_layer_load")
        for other in (*metadata.loads, *metadata.saves):
            connector._failed[other.request] = str(error)

    patch.setattr(FileConnector, "wait_for_layer_load", _waited(tell))


def _finished(patch: Patch, change: Callable[[FileConnector], Mapping[str, object]]) -> None:
    """`get_finished` that reports something else."""
    found = FileConnector.get_finished

    def get_finished(self: FileConnector, finished: frozenset[str]) -> Finished:
        told = found(self, finished)
        fields = {"sent": told.sent, "received": told.received, "failed": told.failed}
        return Finished(**{**fields, **change(self)})

    patch.setattr(FileConnector, "get_finished", get_finished)


def _what_is_asked_for_is_received(patch: Patch) -> None:
    _finished(
        patch, lambda c: {"received": frozenset(transfer.request for transfer, _ in c._loading)}
    )


def _what_is_taken_is_sent(patch: Patch) -> None:
    _finished(patch, lambda c: {"sent": frozenset(t.request for t in c._saving)})


def _answers_are_repeated_in_dummy_runs(patch: Patch) -> None:
    """What was moved is told twice: the second time in a step that moves nothing."""
    build, found = FileConnector.build_connector_meta, FileConnector.get_finished
    dummy: WeakKeyDictionary[FileConnector, bool] = WeakKeyDictionary()
    answers: WeakKeyDictionary[FileConnector, Finished] = WeakKeyDictionary()

    def build_connector_meta(
        self: FileConnector, output: connectors.SchedulerOutput
    ) -> TransferMetadata:
        dummy[self] = output is connectors.EMPTY
        return build(self, output)

    def get_finished(self: FileConnector, finished: frozenset[str]) -> Finished:
        told = found(self, finished)
        if dummy[self]:
            return answers.get(self, told)
        answers[self] = told
        return told

    patch.setattr(FileConnector, "build_connector_meta", build_connector_meta)
    patch.setattr(FileConnector, "get_finished", get_finished)


FAULTS: Mapping[str, Callable[[Patch], None]] = MappingProxyType(
    {
        fault.__name__.removeprefix("_"): fault
        for fault in (
            _kv_is_never_loaded,
            _slots_are_those_of_the_capture,
            _loads_go_to_the_first_block,
            _slots_of_a_larger_batch_stay,
            _rows_that_pad_write_to_the_null_block,
            _dummy_rows_have_slot_zero,
            _prompts_of_whole_blocks_lose_their_last,
            _what_failed_to_load_is_saved,
            _entries_are_written_in_place,
            _kv_is_saved_before_attention,
            _what_was_written_stays_beside_the_entry,
            _entries_of_all_models_are_one,
            _last_block_is_never_matched,
            _a_dying_save_goes_on,
            _failed_loads_are_kept_quiet,
            _a_failure_is_everybodys,
            _what_is_asked_for_is_received,
            _what_is_taken_is_sent,
            _answers_are_repeated_in_dummy_runs,
        )
    }
)
"""By name, what plants the fault."""
