"""A store of KV on disk: one safetensors file an entry, written so that it is whole or absent.

An entry is written beside its place, synced, and renamed over it: a reader, and whoever comes
after a crash, finds the old file or the new one (rename(2) replaces atomically; the directory is
synced too, so that the name survives a power cut).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ir.connector.errors import LoadError

_count = itertools.count()


def entry_key(model: str, tokens: tuple[int, ...]) -> str:
    """The name of the KV of a token sequence, computed by a model."""
    return hashlib.sha256(f"{model} {','.join(map(str, tokens))}".encode()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`; a crash at any point leaves what was there, or all of `data`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class FileStore:
    """Entries under one directory, safe under several processes.

    An entry holds one tensor a layer, (2, tokens, heads, head size). Needs safetensors.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        return self.path(key).is_file()

    def save(self, key: str, layers: Mapping[str, Tensor]) -> None:
        """Write or replace an entry, atomically."""
        from safetensors.torch import save

        write_atomically(self.path(key), save({k: t.contiguous() for k, t in layers.items()}))

    def load(self, key: str) -> dict[str, Tensor]:
        """An entry, whole. Raises LoadError where there is none, or it is not one."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self.path(key).read_bytes())
        except FileNotFoundError as error:
            raise LoadError(f"entry {key[:12]}", "not there", "an entry that was saved") from error
        except (SafetensorError, ValueError, OSError) as error:
            raise LoadError(f"entry {key[:12]}", f"unreadable: {error}", "a whole file") from error

    def sweep(self) -> int:
        """Delete what crashed writers left behind; says how many files."""
        left = [p for p in self.root.glob(".*.tmp") if not _alive(int(p.name.split(".")[-3]))]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
