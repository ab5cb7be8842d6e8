"""Worker processes from the parent's side: start, ask, notice death and silence, start again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from oracle.errors import OwnFault, UsageError
from oracle.observation import Died
from oracle.subjects import SubjectOptions
from oracle.subjects.fresh_memory import WORKER_ENVIRONMENT
from oracle.worker import main

START_SECONDS = 120.0
"""What a worker may take, beside the time of a call, to import what it judges."""

STOP_SECONDS = 5.0
"""What a worker may take to end by itself when told to."""

At = tuple[int, str, str]


@dataclass(slots=True)
class Child:
    """One worker process and what it was last heard doing.

    ``started`` once its first subject is: what importing that takes is no call's time.
    """

    process: SpawnProcess
    connection: Connection
    heard: float
    started: bool = False
    at: At | None = None
    busy: Any = None

    def send(self, message: tuple[Any, ...]) -> None:
        """Send ``message``; a child that ended meanwhile is noticed where its answer is awaited."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


@dataclass(slots=True)
class Pool:
    """A fixed number of workers. ``environment`` is what they are started with."""

    options: SubjectOptions
    size: int
    timeout: float
    environment: dict[str, str]
    interpret: bool
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> Pool:
        # One at first: a run that is refused, or has little to do, pays for no more.
        self.children.append(self._start())
        return self

    def __exit__(self, *_exc: object) -> None:
        for child in self.children:
            with contextlib.suppress(OSError, ValueError):
                child.connection.send(("stop",))
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()

    def grow(self) -> None:
        """Bring the pool to its full size."""
        while len(self.children) < self.size:
            self.children.append(self._start())

    def _start(self) -> Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=main, args=(theirs, self.options, self.interpret), daemon=True
        )
        with _environment({**WORKER_ENVIRONMENT, **self.environment}):
            process.start()
        theirs.close()
        return Child(process, ours, time.monotonic())

    def replace(self, child: Child) -> Child:
        """A new process in the place of one that died or was killed."""
        child.process.join(1)
        if child.process.is_alive():
            child.process.kill()
            child.process.join()
        child.connection.close()
        fresh = self._start()
        self.children[self.children.index(child)] = fresh
        return fresh

    def next_messages(self) -> Iterator[tuple[Child, tuple[Any, ...] | Died]]:
        """Messages of busy children as they come; ``Died`` for one that ended or fell silent."""
        busy = [c for c in self.children if c.busy is not None]
        ready = wait([c.connection for c in busy], timeout=0.5)
        now = time.monotonic()
        for child in busy:
            if child.connection in ready:
                child.heard = now
                try:
                    message = child.connection.recv()
                except (EOFError, ConnectionResetError):
                    child.process.join(5)
                    yield child, Died(how_it_ended(child.process.exitcode))
                    continue
                if message[0] == "started":
                    child.started = True
                    continue
                yield child, message
            elif now - child.heard > self.timeout + (0 if child.started else START_SECONDS):
                child.process.kill()
                yield child, Died("timeout")

    def ask(self, message: tuple[Any, ...], answer: str) -> tuple[Any, ...] | Died:
        """Send ``message`` to the first worker and wait for its answer of that name."""
        child = self.children[0]
        child.send(message)
        child.busy, child.heard = message, time.monotonic()
        try:
            while True:
                for who, reply in self.next_messages():
                    if who is not child:
                        continue
                    if isinstance(reply, Died):
                        self.replace(child)
                        return reply
                    raise_faults(reply)
                    if reply[0] == answer:
                        return reply
        finally:
            child.busy = None


def raise_faults(reply: tuple[Any, ...]) -> None:
    """Turn a worker's report of a fault into the exception it stands for."""
    if reply[0] == "usage":
        raise UsageError(reply[1])
    if reply[0] == "fault":
        raise OwnFault(reply[1])


def how_it_ended(code: int | None) -> str:
    """An exit code as people say it: the signal's name, or the number."""
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The parent's environment while a child starts: the C library reads its own at start."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
