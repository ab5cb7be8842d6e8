"""A file is the old one or the new one, and a sweep takes only what its writers left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ir.atomic_file import replacing, sweep, write_atomically
from ir.connector import FileStore
from ir.transfer.nixl import KvFiles


@pytest.fixture(scope="module")
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "entry"
    write_atomically(path, b"old")
    with replacing(path) as file:
        os.write(file, b"ne")
        assert path.read_bytes() == b"old"
        os.write(file, b"w")
        assert os.pread(file, 9, 0) == b"new"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "entry"
    write_atomically(path, b"old")

    def fail_half_way() -> None:
        with replacing(path) as file:
            os.write(file, b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "entry"
    with replacing(path) as first:
        os.write(first, b"first")
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"


def test_a_sweep_takes_the_files_of_writers_that_have_ended(tmp_path: Path, ended: int):
    left = tmp_path / f".entry.kv.{ended}.7.tmp"
    mine = tmp_path / f".entry.kv.{os.getpid()}.7.tmp"
    for path in (left, mine):
        path.write_bytes(b"")
    assert sweep(tmp_path, suffix=".kv") == 1
    assert list(tmp_path.iterdir()) == [mine]


FOREIGN = [
    ".x.tmp",
    ".tmp",
    ".a.b.c.tmp",
    ".entry.kv.-1.0.tmp",
    ".entry.kv..0.tmp",
    ".kv.1e3.0.tmp",
]


@pytest.mark.parametrize("store", [FileStore, KvFiles])
def test_a_sweep_leaves_what_others_keep_there(tmp_path: Path, ended: int, store):
    names = [*FOREIGN, f".entry.kv.{10**30}.0.tmp", f".others.{ended}.0.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    for suffix in ("kv", "safetensors"):
        (tmp_path / f".folder.{suffix}.{ended}.0.tmp").mkdir()
    before = sorted(tmp_path.iterdir())
    assert store(tmp_path).sweep() == 0
    assert sorted(tmp_path.iterdir()) == before
