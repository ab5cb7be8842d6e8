"""One capture at a time in a process: what is patched meanwhile is shared by its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ir.capture.errors import CaptureRefused

_lock = threading.Lock()
_thread: int | None = None
_recorded: Callable[[], int] | None = None


def refuse_inside(what: str) -> None:
    """Raise CaptureRefused where this thread is capturing."""
    if _thread == threading.get_ident():
        raise CaptureRefused("nested", f"{what} inside a capture", "after it")


@contextmanager
def capturing() -> Iterator[None]:
    """The whole of a capture. Raises CaptureRefused where one is under way in any thread."""
    global _thread
    refuse_inside("capture")
    if not _lock.acquire(blocking=False):
        raise CaptureRefused("nested", "capture while another thread captures", "after it")
    _thread = threading.get_ident()
    try:
        yield
    finally:
        _thread = None
        _lock.release()


@contextmanager
def counting(recorded: Callable[[], int]) -> Iterator[None]:
    """While a function is recorded: how to tell how many calls it has made so far."""
    global _recorded
    before, _recorded = _recorded, recorded
    try:
        yield
    finally:
        _recorded = before


def calls_recorded() -> int | None:
    """How many calls this thread's capture has recorded so far; None where it captures nothing.

    What is called while a graph is captured and records nothing does nothing at replay.
    """
    if _thread != threading.get_ident() or _recorded is None:
        return None
    return _recorded()
