"""An entry on disk is the old one or the new one, whatever happens to its writer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ir.connector import FileStore, LoadError
from ir.connector.store import entry_key

WRITER = """
import sys
from pathlib import Path
import torch
from ir.connector import store
from ir.connector.store import FileStore

if sys.argv[2] == "in-place":
    def write(path, data):
        with open(path, "wb") as file:
            for start in range(0, len(data), 1 << 16):
                file.write(data[start : start + (1 << 16)])
                file.flush()
    store.write_atomically = write

entries = FileStore(Path(sys.argv[1]))
print("ready", flush=True)
version = 1
while True:
    entries.save("entry", {f"layer.{i}": torch.full((1 << 18,), float(version)) for i in range(4)})
    version += 1
"""


def versions(store: FileStore) -> set[float]:
    """The distinct values in the entry: one where it is whole. Raises LoadError."""
    return {float(v) for t in store.load("entry").values() for v in t.unique()}


def is_half_way(root: Path, way: str, whole: int) -> bool:
    """Whether a stopped writer is between the first byte of a save and its end."""
    if way == "atomic":
        return any(root.glob(".*.tmp"))
    return (root / "entry.safetensors").stat().st_size < whole


def kill_half_way(root: Path, way: str) -> None:
    """Start a writer, stop it again and again until it is in the middle of a save, and kill it."""
    whole = (root / "entry.safetensors").stat().st_size
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), way], stdout=subprocess.PIPE, text=True
    )
    with process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise AssertionError("the writer did not start")
        for attempt in range(5_000):
            time.sleep(0.0005 * (attempt % 7))
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            if is_half_way(root, way, whole):
                break
            process.send_signal(signal.SIGCONT)
        else:
            raise AssertionError("the writer was never met in the middle of a save")
        process.send_signal(signal.SIGKILL)
        process.wait()


def torn_after_kills(root: Path, way: str, kills: int) -> int:
    """How many of some writers, killed half-way, left an entry that is not whole."""
    torn = 0
    store = FileStore(root)
    for _ in range(kills):
        store.save("entry", {f"layer.{i}": torch.full((1 << 18,), 0.5) for i in range(4)})
        for path in root.glob(".*.tmp"):
            path.unlink()
        kill_half_way(root, way)
        try:
            torn += len(versions(store)) != 1
        except LoadError:
            torn += 1
    return torn


@pytest.mark.slow
def test_a_writer_killed_half_way_leaves_the_old_entry_or_the_new_one(tmp_path: Path):
    assert torn_after_kills(tmp_path, "atomic", 2) == 0
    left = len(list(tmp_path.glob(".*.tmp")))
    assert left == 1
    assert FileStore(tmp_path).sweep() == left
    assert [p.name for p in tmp_path.iterdir()] == ["entry.safetensors"]


@pytest.mark.slow
def test_the_same_kills_tear_an_entry_that_is_written_in_place(tmp_path: Path):
    # Else the test above would say nothing.
    assert torn_after_kills(tmp_path, "in-place", 2) == 2


def test_a_crash_at_each_byte_leaves_the_old_entry(tmp_path: Path, monkeypatch):
    store = FileStore(tmp_path)
    store.save("entry", {"layer.0": torch.zeros(2, 1, 1, 1)})
    old = store.path("entry").read_bytes()
    for steps in ("write", "fsync", "replace"):

        def crash(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            target = "builtins.open" if steps == "write" else f"os.{steps}"
            patched.setattr(target, crash)
            with pytest.raises(KeyboardInterrupt):
                store.save("entry", {"layer.0": torch.ones(2, 1, 1, 1)})
        assert store.path("entry").read_bytes() == old
        assert len(list(tmp_path.iterdir())) == 1


def test_an_entry_comes_back_byte_for_byte(tmp_path: Path):
    store = FileStore(tmp_path)
    layers = {
        "a": torch.randn(2, 3, 1, 2).to(torch.bfloat16),
        "b": torch.randn(2, 3, 2, 2).transpose(2, 3),
    }
    assert not store.has("k")
    store.save("k", layers)
    assert store.has("k")
    loaded = store.load("k")
    assert loaded.keys() == layers.keys()
    assert all(torch.equal(loaded[k], t) for k, t in layers.items())


def test_an_entry_that_is_not_there_or_no_entry_is_a_load_error(tmp_path: Path):
    store = FileStore(tmp_path)
    with pytest.raises(LoadError, match="not there"):
        store.load("k")
    store.path("k").write_bytes(b"\0" * 40)
    with pytest.raises(LoadError, match="unreadable"):
        store.load("k")


def test_a_key_says_model_and_tokens():
    keys = {
        entry_key("m", (1, 2)),
        entry_key("m", (12,)),
        entry_key("n", (1, 2)),
        entry_key("m", (1, 2, 0)),
    }
    assert len(keys) == 4


def test_a_sweep_leaves_the_files_of_living_writers(tmp_path: Path):
    store = FileStore(tmp_path)
    mine = tmp_path / f".k.safetensors.{os.getpid()}.0.tmp"
    mine.write_bytes(b"")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / f".k.safetensors.{process.pid}.0.tmp").write_bytes(b"")
    assert store.sweep() == 1
    assert list(tmp_path.iterdir()) == [mine]
