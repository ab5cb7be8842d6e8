"""The inside of a child process: it does what its starter says over a pipe, and ends with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
IDLE_SECONDS = 0.002


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends, stopped or not.

    More exactly, when the thread ends that has started it: see `starter`.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def answer_commands(
    pipe: Connection, owner_of: Callable[[str], object], turn: Callable[[], bool]
) -> None:
    """Until the pipe's other end is closed. A command's error goes back, and costs nothing.

    A command is a method of what `owner_of` gives for its name. Between commands `turn` does what
    there is to do, and says whether there is more that cannot wait.
    """
    busy = False
    while True:
        if pipe.poll(0.0 if busy else IDLE_SECONDS):
            try:
                name, arguments = pipe.recv()
            except EOFError:
                return
            try:
                answer = (True, getattr(owner_of(name), name)(**arguments))
            except Exception as error:
                answer = (False, error)
            pipe.send(answer)
        busy = turn()
