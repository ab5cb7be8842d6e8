"""The process that runs subjects: it may crash or hang, and the run goes on without it.

Messages to it: ``("describe", subject)``, ``("unit", Unit)``, ``("check", CheckRequest)``,
``("stop",)``. From it: ``("started", subject)`` once a subject is imported, ``("described", ...)``,
``("at", (case, provider, route))`` before each call of a unit, ``("case", index, results, case if
it disagrees, seconds, measures)`` after each case, ``("done", histogram)``,
``("checked", results)``, and ``("fault", text)`` for what is our own bug, ``("usage", text)`` for
the user's.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from oracle.checking import CaseChecker, CheckResult, UlpHistogram
from oracle.errors import UsageError
from oracle.plan import Unit
from oracle.properties import PROPERTIES
from oracle.subject import Subject
from oracle.subjects import SubjectOptions, start


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """One case on one route, by itself: what shrinking and replay ask for."""

    prop: str
    subject: str
    case: Any
    provider: str
    route: str
    contract: str | None
    interpreted: bool = False


class Worker:
    """Serves one connection. Subjects start on first use and stay."""

    def __init__(self, connection: Connection, options: SubjectOptions) -> None:
        self._connection = connection
        self._options = options
        self._subjects: dict[str, Subject] = {}

    def serve(self) -> None:
        """Answer messages until told to stop or the parent goes away."""
        handlers: dict[str, Callable[..., None]] = {
            "describe": self._describe,
            "unit": self._unit,
            "check": self._check,
        }
        while True:
            try:
                message = self._connection.recv()
            except EOFError:
                return
            if message[0] == "stop":
                return
            try:
                handlers[message[0]](*message[1:])
            except UsageError as error:
                self._connection.send(("usage", str(error)))
            except Exception as error:  # reported to the parent, which stops the run with it
                self._connection.send(("fault", f"{error}\n{traceback.format_exc()}"))

    def _subject(self, name: str) -> Subject:
        if name not in self._subjects:
            self._subjects[name] = start(name, self._options)
            self._connection.send(("started", name))
        return self._subjects[name]

    def _describe(self, name: str) -> None:
        subject = self._subject(name)
        self._connection.send(("described", subject.version(), subject.providers()))

    def _unit(self, unit: Unit) -> None:
        prop = PROPERTIES[unit.prop]
        stream = next(s for s in prop.streams(unit.op, unit.dtype) if s.name == unit.stream)
        subject = self._subject(unit.subject)
        histogram = UlpHistogram()
        for index in range(unit.start, unit.stop):
            began = time.monotonic()
            case = stream.case(unit.seed, index)
            checker = CaseChecker(subject, prop, case, self._options.device)
            results: list[CheckResult] = []
            for provider, route, contract in unit.drives:
                if (index, provider, route) in unit.skip:
                    continue
                self._connection.send(("at", (index, provider, route)))
                results += checker.observe(
                    provider, route, contract, interpreted=provider in unit.interpreted
                )
            histogram.merge(checker.histogram)
            wrong = any(r.verdict.outcome == "DISAGREES" for r in results)
            seconds = time.monotonic() - began
            self._connection.send(
                (
                    "case",
                    index,
                    results,
                    case if wrong else None,
                    seconds,
                    checker.measures,
                )
            )
        self._connection.send(("done", histogram))

    def _check(self, request: CheckRequest) -> None:
        prop = PROPERTIES[request.prop]
        checker = CaseChecker(
            self._subject(request.subject), prop, request.case, self._options.device
        )
        results = list(
            checker.observe(
                request.provider,
                request.route,
                request.contract,
                interpreted=request.interpreted,
            )
        )
        self._connection.send(("checked", results))


def main(connection: Connection, options: SubjectOptions, interpret: bool) -> None:
    """Entry point of the child process."""
    if interpret:
        # Read when a kernel is decorated: it must be set before any subject is imported.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    Worker(connection, options).serve()
