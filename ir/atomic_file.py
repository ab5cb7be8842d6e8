"""Files that are whole or absent, whatever happens to their writer.

A file is written beside its place, synced, and renamed over it: a reader, and whoever comes after
a crash, finds the old file or the new one (rename(2) replaces atomically; the directory is synced
too, so that the name survives a power cut).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_count = itertools.count()
_BESIDE = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]{1,9})\.[0-9]+\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A descriptor of an empty file, to write and read, that then takes the place of `path`.

    A crash at any point, or an error out of the block, leaves what was there. Raises `OSError`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}.tmp")
    try:
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            yield file
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`; a crash at any point leaves what was there, or all of `data`."""
    with replacing(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
        file.write(data)


def sweep(root: Path, *, suffix: str) -> int:
    """Delete what crashed writers of files with a suffix left under `root`; says how many files.

    What another program keeps there stays, whatever its name.
    """
    left = [path for path in root.glob(".*.tmp") if _is_left_over(path, suffix)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _is_left_over(path: Path, suffix: str) -> bool:
    found = _BESIDE.fullmatch(path.name)
    if found is None or not found["name"].endswith(suffix) or not path.is_file():
        return False
    return not _alive(int(found["pid"]))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
