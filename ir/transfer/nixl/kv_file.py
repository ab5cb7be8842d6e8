"""What an entry of KV on disk looks like: a head that tells all, and the tensors of each rank."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..geometry import EngineGeometry, Worker
from ..request import NULL_BLOCK
from .errors import FileError
from .greeting import geometry_of

MAGIC = b"irkv\x00\x00\x00\x01"
ALIGN_BYTES = 4096
"""What a head is padded to, and each tensor behind it."""
_PREFIX_BYTES = len(MAGIC) + 8 + 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """`geometry` is the file's, as an engine; `blocks` are those that it has, by group, and hold
    `tokens` tokens. `digest` is the SHA-256 of all that follows the head.
    """

    geometry: EngineGeometry
    tokens: int
    blocks: tuple[tuple[int, ...], ...]
    digest: str

    def encode(self) -> bytes:
        """Magic, length and SHA-256 of what follows, and the fields as JSON; padded."""
        fields = {
            "geometry": asdict(self.geometry),
            "tokens": self.tokens,
            "blocks": self.blocks,
            "digest": self.digest,
        }
        body = json.dumps(fields).encode()
        digest = hashlib.sha256(body).digest()
        head = MAGIC + len(body).to_bytes(8, "little") + digest + body
        return head + bytes(-len(head) % ALIGN_BYTES)


def as_stored(
    engine: EngineGeometry, key: str, blocks: Sequence[Sequence[int]]
) -> tuple[EngineGeometry, tuple[tuple[int, ...], ...]]:
    """The file as an engine that has just the blocks that are saved, and their numbers in it."""
    numbered, last, largest = [], 0, 0
    for of_group in blocks:
        if not engine.shares_tensors:
            last = 0
        numbers = []
        for block in of_group:
            last += block != NULL_BLOCK
            numbers.append(NULL_BLOCK if block == NULL_BLOCK else last)
        numbered.append(tuple(numbers))
        largest = max(largest, last)
    stored = replace(engine, engine_id=f"file {key}", num_blocks=largest + 1)
    return stored, tuple(numbered)


def offsets_in(stored: EngineGeometry, start: int) -> tuple[dict[Worker, tuple[int, ...]], int]:
    """Where each rank's tensors begin in a file, and where it ends."""
    found = {}
    for worker in stored.workers:
        of_rank = []
        for stride in stored.page_strides(worker.stage):
            of_rank.append(start)
            start += stride * stored.num_blocks
            start += -start % ALIGN_BYTES
        found[worker] = tuple(of_rank)
    return found, start


def read_head(file: int, path: Path) -> tuple[Head, int]:
    """The head and where it ends. Raises `FileError` whatever the bytes are."""
    prefix = os.pread(file, _PREFIX_BYTES, 0)
    if len(prefix) < _PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise FileError(path, f"one that begins with {prefix[:8]!r}", f"{MAGIC!r} and a head")
    length = int.from_bytes(prefix[8:16], "little")
    if length > os.fstat(file).st_size:
        raise FileError(path, f"shorter than its head of {length} bytes", "a whole file")
    body = os.pread(file, length, _PREFIX_BYTES)
    if hashlib.sha256(body).digest() != prefix[16:]:
        raise FileError(path, "one whose head has another digest", "a head as it was written")
    try:
        fields = json.loads(body)
        head = Head(
            geometry=geometry_of(fields["geometry"]),
            tokens=int(fields["tokens"]),
            blocks=tuple(tuple(map(int, of_group)) for of_group in fields["blocks"]),
            digest=str(fields["digest"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Of another version of this format: its digest is sound.
        raise FileError(
            path, f"one with another head: {error!r}", "a head of this format"
        ) from error
    end = _PREFIX_BYTES + length
    return head, end + -end % ALIGN_BYTES


def checked(file: int, path: Path, head: Head, start: int) -> dict[Worker, tuple[int, ...]]:
    """Where the tensors lie. Raises `FileError` unless all that was saved is there."""
    offsets, end = offsets_in(head.geometry, start)
    size = os.fstat(file).st_size
    if size != end:
        raise FileError(path, f"{size} bytes long", f"the {end} bytes that its head tells of")
    digest = digest_of(file, start)
    if digest != head.digest:
        raise FileError(path, f"changed since it was saved: SHA-256 {digest}", head.digest)
    return offsets


def digest_of(file: int, start: int) -> str:
    """SHA-256 of what follows the head, in hexadecimal digits."""
    with (
        mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped,
        memoryview(mapped) as whole,
        whole[start:] as payload,
    ):
        return hashlib.sha256(payload).hexdigest()
