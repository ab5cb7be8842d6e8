"""The store of a case on disk: what befalls entries, and what lies there in the end."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.connector import Entry
from reference.model.connector import MODELS, ConnectorCase, Damage, Serve
from reference.serving import HEAD_SIZE


class Killed(BaseException):
    """The worker's end, where a signal would take it: nothing may catch it."""


def entry_path(root: Path, entry: Entry) -> Path:
    """Where the store keeps an entry."""
    from ir.connector.store import FileStore, entry_key

    return FileStore(root).path(entry_key(*entry))


def damage(case: ConnectorCase, root: Path, event: Damage, model: str) -> None:
    """Do to an entry of a model what the event says; most only to one that is there."""
    path = entry_path(root, (model, event.tokens))
    if event.how in ("gone", "blocked"):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        if event.how == "blocked":
            path.mkdir()
    elif path.is_file():
        path.write_bytes(_spoilt(case, path, event))


def _spoilt(case: ConnectorCase, path: Path, event: Damage) -> bytes:
    import torch
    from safetensors.torch import save

    if event.how == "cut":
        whole = path.read_bytes()
        return whole[: len(whole) // 2]
    if event.how == "empty":
        return b""
    size = case.size
    tokens = len(event.tokens) + (event.how == "length")
    dtype = getattr(torch, case.dtype)
    if event.how == "dtype":
        dtype = torch.float16 if dtype is torch.bfloat16 else torch.bfloat16
    layers = size.layers - (event.how == "layer")
    shape = (2, tokens, size.heads, HEAD_SIZE)
    return save({f"layer.{i}": torch.zeros(shape, dtype=dtype) for i in range(layers)})


@contextlib.contextmanager
def dying(at: int) -> Iterator[None]:
    """Let the sync to disk number `at` be the worker's last act; -1 for none."""
    if at < 0:
        yield
        return
    sync, count = os.fsync, 0

    def counted(file: Any) -> None:
        nonlocal count
        sync(file)
        count += 1
        if count > at:
            raise Killed

    os.fsync = counted
    try:
        yield
    finally:
        os.fsync = sync


def prefixes(case: ConnectorCase) -> set[tuple[int, ...]]:
    """All sequences of tokens whose KV a step of the case could store or damage."""
    found: set[tuple[int, ...]] = set()
    for event in case.events:
        if isinstance(event, Damage):
            found.add(event.tokens)
        if isinstance(event, Serve):
            for r in event.requests:
                found.update(r.prompt[:n] for n in range(1, len(r.prompt) + 1))
    return found


def stored(
    case: ConnectorCase, root: Path
) -> tuple[dict[Entry, NDArray[np.uint8]], frozenset[Entry], tuple[str, ...]]:
    """Entries, (layers, 2, tokens, bytes), those that cannot be read, files that are none."""
    named = itertools.product(MODELS, prefixes(case))
    known = {entry_path(root, entry).name: entry for entry in named}
    entries: dict[Entry, NDArray[np.uint8]] = {}
    unreadable: set[Entry] = set()
    strays: list[str] = []
    for path in sorted(root.iterdir()):
        entry = known.get(path.name)
        if entry is None:
            strays.append(path.name)
        elif path.is_file():
            found = _read(case, path, len(entry[1]))
            if found is None:
                unreadable.add(entry)
            else:
                entries[entry] = found
    return entries, frozenset(unreadable), tuple(strays)


def _read(case: ConnectorCase, path: Path, tokens: int) -> NDArray[np.uint8] | None:
    """The bytes of an entry; None for what is not a whole one."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        layers = load(path.read_bytes())
    except (SafetensorError, ValueError):
        return None
    shape, dtype = (2, tokens, case.size.heads, HEAD_SIZE), getattr(torch, case.dtype)
    wanted = [f"layer.{i}" for i in range(case.size.layers)]
    if sorted(layers) != sorted(wanted):
        return None
    if any(t.shape != shape or t.dtype is not dtype for t in layers.values()):
        return None
    flat = [layers[name].contiguous().view(torch.uint8).reshape(2, tokens, -1) for name in wanted]
    return torch.stack(flat).numpy().copy()
