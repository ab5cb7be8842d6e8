"""The thread that starts child processes, and that lives as long as this process.

The kernel sends PR_SET_PDEATHSIG when the thread ends that has started a child, not the process
(prctl(2)). A child started by a caller's thread would be killed at the end of that thread.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread

Start = Callable[[], subprocess.Popen[bytes]]


@dataclass(slots=True)
class _Starter:
    """`_process` is where its thread runs: a fork has none of its parent's threads."""

    _process: int = 0
    _lock: Lock = field(default_factory=Lock)
    _asked: SimpleQueue[tuple[Start, Future[subprocess.Popen[bytes]]]] = field(
        default_factory=SimpleQueue
    )

    def ask(self, start: Start) -> subprocess.Popen[bytes]:
        started: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()
                # As a daemon it ends with the process and does not keep it from ending.
                Thread(target=self._serve, name="child-starter", daemon=True).start()
            self._asked.put((start, started))
        return started.result()

    def _serve(self) -> None:
        while True:
            start, started = self._asked.get()
            try:
                started.set_result(start())
            except BaseException as error:  # whoever asked for it shall have it
                started.set_exception(error)


_starter = _Starter()


def _after_fork() -> None:
    global _starter
    _starter = _Starter()


os.register_at_fork(after_in_child=_after_fork)


def started(start: Start) -> subprocess.Popen[bytes]:
    """The process that `start` gives, started by a thread that does not end before this process.

    Raises what `start` raises.
    """
    return _starter.ask(start)
