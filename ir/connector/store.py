"""A store of KV on disk: one safetensors file an entry, written so that it is whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ir.atomic_file import sweep, write_atomically
from ir.connector.errors import LoadError

SUFFIX = ".safetensors"


def entry_key(model: str, tokens: tuple[int, ...]) -> str:
    """The name of the KV of a token sequence, computed by a model."""
    return hashlib.sha256(f"{model} {','.join(map(str, tokens))}".encode()).hexdigest()


class FileStore:
    """Entries under one directory, safe under several processes.

    An entry holds one tensor a layer, (2, tokens, heads, head size). Needs safetensors.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        return self.root / f"{key}{SUFFIX}"

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
        return sweep(self.root, suffix=SUFFIX)
