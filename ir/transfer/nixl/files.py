"""KV on disk, moved by NIXL, one file an entry: an engine of its own, whose memory is the file.

What one engine saves another loads by a plan like any other: tensor parallelism, blocks and
layout of the two may differ. A file is whole or absent, and carries its length and the SHA-256 of
what follows its head: one that is torn all the same is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ir.atomic_file import replacing, sweep

from ..descriptors import Ids, Rows, expand
from ..geometry import EngineGeometry, Worker
from ..plan import plan_transfer
from ..request import TransferRequest
from .errors import FileError
from .kv_file import Head, as_stored, checked, digest_of, offsets_in, read_head
from .posix import FileAgent

SUFFIX = ".kv"
_count = itertools.count()

Bases = Mapping[Worker, tuple[int, ...]]
"""Of each rank, the addresses of its tensors, in the order of its page strides."""


class KvFiles:
    """Entries under a directory. Several processes may save and load; an object is one thread's.

    `seconds` is the deadline of each save and load. One that passes it raises `FileError`, and its
    data may still move: a load may write to the memory it was given, a save read it, so the memory
    may be used for nothing else until `busy` is false. The entry is as it was. Raises
    `NixlMissingError` when first used.
    """

    def __init__(self, root: Path, *, seconds: float = 60.0) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        self._seconds = seconds
        self._agent: FileAgent | None = None

    @property
    def busy(self) -> bool:
        """Whether data of a save or load that was late may still move."""
        return self._agent is not None and self._agent.busy

    def path(self, key: str) -> Path:
        """Where an entry lies; a key is any text."""
        return self.root / f"{hashlib.sha256(key.encode()).hexdigest()}{SUFFIX}"

    def has(self, key: str) -> bool:
        return self.path(key).is_file()

    def save(
        self,
        key: str,
        engine: EngineGeometry,
        bases: Bases,
        *,
        tokens: int,
        blocks: Sequence[Sequence[int]],
    ) -> None:
        """Write or replace an entry: the first `tokens` tokens in an engine's `blocks`, by group.

        States go whole. Raises `RequestError` for blocks that the engine has not, `FileError`
        where the disk refuses or is late. A crash leaves the old entry, or the new one.
        """
        stored, numbered = as_stored(engine, key, blocks)
        head = Head(geometry=stored, tokens=tokens, blocks=numbered, digest="0" * 64)
        start = len(head.encode())
        offsets, end = offsets_in(stored, start)
        request = TransferRequest(
            producer_request=key,
            consumer_request=key,
            prompt_tokens=tokens,
            producer_blocks=tuple(tuple(of_group) for of_group in blocks),
            consumer_blocks=numbered,
        )
        move = _Move()
        for worker in stored.workers:
            plan = plan_transfer(
                engine, stored, worker, producer_bases=bases, consumer_bases=offsets[worker]
            )
            rows = {channel.source: channel for channel in plan.channels}
            for of in plan.bind(request):
                channel = rows[of.source]
                move.add(
                    (channel.producer_rows, of.producer_ids),
                    (channel.consumer_rows, of.consumer_ids),
                )
        path = self.path(key)
        try:
            with replacing(path) as file:
                # Bytes that no block has are a hole: zero, and no cost.
                os.truncate(file, end)
                self._carry_out("WRITE", move, file, path, engine, bases)
                digest = digest_of(file, start)
                os.pwrite(file, replace(head, digest=digest).encode(), 0)
        except OSError as error:
            raise FileError(path, f"not written: {error}", "a place with room for it") from error

    def load(
        self,
        key: str,
        engine: EngineGeometry,
        bases: Bases,
        *,
        blocks: Sequence[Sequence[int]],
        cached_tokens: int = 0,
    ) -> int:
        """Read an entry into an engine's `blocks`, by group; gives the number of its tokens.

        The first `cached_tokens` of attention groups are left out. Raises `FileError` for an entry
        that is not there or not whole, and then nothing of it is in memory, and for one that is
        late, which may come to memory until `busy` is false; `IncompatibleEnginesError` for a
        cache of another model, `RequestError` for blocks that do not fit.
        """
        path = self.path(key)
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise FileError(path, error.strerror, "an entry that was saved") from error
        try:
            head, start = read_head(file, path)
            offsets = checked(file, path, head, start)
            request = TransferRequest(
                producer_request=key,
                consumer_request=key,
                prompt_tokens=head.tokens,
                cached_tokens=cached_tokens,
                producer_blocks=head.blocks,
                consumer_blocks=tuple(tuple(of_group) for of_group in blocks),
            )
            move = _Move()
            for worker in engine.workers:
                plan = plan_transfer(
                    head.geometry,
                    engine,
                    worker,
                    producer_bases=offsets,
                    consumer_bases=bases[worker],
                )
                rows = {channel.source: channel for channel in plan.channels}
                for of in plan.bind(request):
                    channel = rows[of.source]
                    move.add(
                        (channel.consumer_rows, of.consumer_ids),
                        (channel.producer_rows, of.producer_ids),
                    )
            self._carry_out("READ", move, file, path, engine, bases)
        finally:
            os.close(file)
        return head.tokens

    def sweep(self) -> int:
        """Delete what crashed writers left behind; says how many files."""
        return sweep(self.root, suffix=SUFFIX)

    def _carry_out(
        self,
        operation: Literal["READ", "WRITE"],
        move: _Move,
        file: int,
        path: Path,
        engine: EngineGeometry,
        bases: Bases,
    ) -> None:
        if not move.addresses:
            return
        if self._agent is None:
            self._agent = FileAgent(f"files/{os.getpid()}/{next(_count)}", seconds=self._seconds)
        self._agent.move(
            operation,
            file,
            path=path,
            memory=[
                (base, stride * engine.num_blocks)
                for worker in engine.workers
                for base, stride in zip(
                    bases[worker], engine.page_strides(worker.stage), strict=True
                )
            ],
            addresses=np.concatenate(move.addresses),
            offsets=np.concatenate(move.offsets),
            lengths=np.concatenate(move.lengths),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """Paired blocks of memory and of a file, channel by channel."""

    addresses: list[NDArray[np.uint64]] = field(default_factory=list)
    offsets: list[NDArray[np.uint64]] = field(default_factory=list)
    lengths: list[Ids] = field(default_factory=list)

    def add(self, memory: tuple[Rows, Ids], file: tuple[Rows, Ids]) -> None:
        addresses, lengths = expand(*memory)
        self.addresses.append(addresses)
        self.offsets.append(expand(*file)[0])
        self.lengths.append(lengths)
