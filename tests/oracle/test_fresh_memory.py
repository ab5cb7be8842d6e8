"""Fresh memory is filled where that can be done, and where not nobody claims it was."""

import ctypes

import pytest

from oracle.subjects import fresh_memory
from oracle.subjects.fresh_memory import M_PERTURB, can_fill, fill_fresh_memory


@pytest.fixture
def mallopt(monkeypatch: pytest.MonkeyPatch):
    """What was asked of the C library."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(fresh_memory, "_mallopt", lambda: lambda *given: asked.append(given))
    return asked


def test_the_c_library_fills_with_the_complement(mallopt):
    fill_fresh_memory("cpu", 0x5A)
    assert mallopt == [(M_PERTURB, 0xA5)]


@pytest.mark.parametrize(("tunables", "able"), [("glibc.malloc.tcache_count=0", True), ("", False)])
def test_small_blocks_must_not_escape_through_the_cache(mallopt, monkeypatch, tunables, able):
    monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert can_fill("cpu") is able
    assert can_fill("cuda:0")


def test_another_c_library_fills_nothing(monkeypatch: pytest.MonkeyPatch):
    def missing(_name: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
    fresh_memory._mallopt.cache_clear()
    assert not can_fill("cpu")
    fill_fresh_memory("cpu", 0x5A)
    fresh_memory._mallopt.cache_clear()
