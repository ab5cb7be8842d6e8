"""A process that is asked over a pipe, and may be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from .errors import PeerError
from .starter import started

START_SECONDS = 180.0
"""An engine that runs a model imports torch first: over a minute where eight want each core."""

ANSWER_SECONDS = 20.0


class ChildProcess:
    """Runs `program` with `arguments`, the descriptor of its pipe, `files` and our process id.

    Any thread may start one, and may end before it.
    `tls` goes to UCX as ``UCX_TLS``, None for its default. A process that has not answered within
    `patience` seconds is not asked again: its answer could come as that to another command.
    """

    def __init__(
        self,
        name: str,
        *,
        tls: str | None,
        program: str,
        arguments: tuple[str, ...],
        files: tuple[int, ...] = (),
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self.name = name
        self.patience = patience
        self._tls = tls
        self._program = program
        self._arguments = arguments
        self._files = files
        self._start()

    def _start(self) -> None:
        ours, theirs = Pipe()
        environment = {**os.environ, "UCX_LOG_LEVEL": "fatal", "NIXL_LOG_LEVEL": "FATAL"}
        environment.pop("UCX_TLS", None)
        if self._tls is not None:
            environment["UCX_TLS"] = self._tls
        numbers = (theirs.fileno(), *self._files, os.getpid())
        self._process = started(
            lambda: subprocess.Popen(
                [sys.executable, "-c", self._program, *self._arguments, *map(str, numbers)],
                pass_fds=(theirs.fileno(), *self._files),
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        )
        theirs.close()
        self._pipe = ours
        self._fresh = True

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command of the process returns, or raises. Raises `PeerError` if it is silent."""
        self.send(command, **arguments)
        return self.answer()

    def send(self, command: str, **arguments: Any) -> None:
        """Give a command without waiting for its answer."""
        try:
            self._pipe.send((command, arguments))
        except OSError as error:
            raise PeerError("starter", self.name, repr(error), "a process that lives") from error

    def tell(self, what: object) -> Any:
        """Send what the program waits for before it takes commands, and give its answer."""
        try:
            self._pipe.send(what)
        except OSError as error:
            raise PeerError("starter", self.name, repr(error), "a process that lives") from error
        return self.answer()

    def answer(self) -> Any:
        """The answer to a command that was sent."""
        seconds = START_SECONDS if self._fresh else self.patience
        try:
            if not self._pipe.poll(seconds):
                self._pipe.close()
                raise PeerError(
                    "starter", self.name, "silent", f"an answer within {seconds} seconds"
                )
            good, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise PeerError("starter", self.name, repr(error), "a process that lives") from error
        self._fresh = False
        if not good:
            raise value
        return value

    def stop(self) -> None:
        """SIGSTOP, and wait until the kernel has done it."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        deadline = time.monotonic() + ANSWER_SECONDS
        while stat.read_text().rpartition(")")[2].split()[0] not in ("T", "Z"):
            if time.monotonic() > deadline:
                raise PeerError("starter", self.name, "running", "a stopped process")
            time.sleep(0.0005)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Its memory stays."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(ANSWER_SECONDS)
        self._pipe.close()

    def restart(self) -> None:
        """Another process under the same name, on the same memory."""
        self.kill()
        self._start()

    def close(self) -> None:
        """Kill it; nothing of it is left."""
        self.kill()
