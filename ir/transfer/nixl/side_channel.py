"""Greetings over TCP, and the end of a peer's process, on threads that touch nothing else.

A connection stays open after the two greetings: the kernel closes it when either process ends,
however it ends, and that is how the other learns of it.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from dataclasses import dataclass
from queue import SimpleQueue

MAX_GREETING = 1 << 26
ANSWER_SECONDS = 5.0
_LENGTH = struct.Struct(">I")
_lines = itertools.count()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A peer's greeting on a line; `called` where this side had opened it, as a consumer."""

    line: int
    payload: bytes
    called: bool
    port: int


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody greeted back on a port in time."""

    port: int
    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The process at the other end of a line has ended or hung up."""

    line: int


Event = Arrived | NoAnswer | Gone


class SideChannel:
    """Listens on a free port of the loopback address. `events` has what happened, in order."""

    def __init__(self) -> None:
        self.greeting = b""
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._open: dict[int, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def call(self, port: int, *, seconds: float) -> None:
        """Greet the engine at a port; an `Arrived` or a `NoAnswer` follows within `seconds`."""
        threading.Thread(target=self._call, args=(port, seconds), daemon=True).start()

    @property
    def open_lines(self) -> int:
        """Lines to peers that are open; each has a thread that waits for its end."""
        return len(self._open)

    def hang_up(self, line: int | None = None) -> None:
        """Close one line, or all so that the peers learn that this engine is gone."""
        if line is None:
            for each in tuple(self._open.values()):
                _shut(each, socket.SHUT_RDWR)
        elif (found := self._open.get(line)) is not None:
            # The answer may be on its way: the peer shall have it, its watcher here ends the line.
            _shut(found, socket.SHUT_RD)

    def close(self) -> None:
        """Hang up and listen no more."""
        self.hang_up()
        _shut(self._listener, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line: socket.socket) -> None:
        number = next(_lines)
        self._open[number] = line
        try:
            line.settimeout(ANSWER_SECONDS)
            payload = _receive(line)
            # First the event, then the answer: what the peer does next comes after it.
            self.events.put(Arrived(number, payload, False, 0))
            _send(line, self.greeting)
        except OSError:
            pass
        self._watch(line, number)

    def _call(self, port: int, seconds: float) -> None:
        try:
            line = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        except OSError as error:
            self.events.put(NoAnswer(port, str(error)))
            return
        number = next(_lines)
        self._open[number] = line
        try:
            line.settimeout(seconds)
            _send(line, self.greeting)
            payload = _receive(line)
        except OSError as error:
            del self._open[number]
            line.close()
            self.events.put(NoAnswer(port, str(error)))
            return
        self.events.put(Arrived(number, payload, True, port))
        self._watch(line, number)

    def _watch(self, line: socket.socket, number: int) -> None:
        try:
            line.settimeout(None)
            line.recv(1)
        except OSError:
            pass
        del self._open[number]
        line.close()
        self.events.put(Gone(number))


def _shut(line: socket.socket, how: int) -> None:
    try:
        line.shutdown(how)
    except OSError:
        # The other side was quicker; the watching thread sees the end either way.
        return


def _send(line: socket.socket, payload: bytes) -> None:
    line.sendall(_LENGTH.pack(len(payload)) + payload)


def _receive(line: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    if length > MAX_GREETING:
        raise OSError(f"a greeting of {length} bytes; accepted: at most {MAX_GREETING}")
    return _exactly(line, length)


def _exactly(line: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = line.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise OSError(f"the peer hung up after {len(parts)} of {count} bytes")
        parts += part
    return bytes(parts)
