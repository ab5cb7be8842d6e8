"""Worker processes: their deaths and their silence are noticed, named, and survived."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oracle.errors import OwnFault, UsageError
from oracle.observation import Died
from oracle.pool import Child, Pool, how_it_ended, raise_faults
from oracle.subjects import SubjectOptions

Started = Callable[..., Child]


def _pool(**changes: Any) -> Pool:
    given: dict[str, Any] = {
        "options": SubjectOptions(),
        "size": 1,
        "timeout": 60.0,
        "environment": {},
        "interpret": False,
    }
    return Pool(**(given | changes))


@pytest.fixture
def started() -> Iterator[Started]:
    """A child that runs something else than a worker; its end of the pipe is ours."""
    ends: list[Any] = []

    def start(target: Callable[..., Any], *args: Any, speaks: bool = False) -> Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=args, daemon=True)
        process.start()
        if speaks:
            ends.append(theirs)
        else:
            theirs.close()
        ends.append(process)
        return Child(process, ours, time.monotonic(), started=True, busy="something")

    yield start
    for end in ends:
        if hasattr(end, "kill"):
            end.kill()
            end.join()
        end.close()


def _first(pool: Pool) -> Any:
    while True:
        for _child, message in pool.next_messages():
            return message


@pytest.mark.parametrize(
    ("target", "argument", "how"),
    [
        (signal.raise_signal, signal.SIGSEGV, "SIGSEGV"),
        (signal.raise_signal, signal.SIGKILL, "SIGKILL"),
        (sys.exit, 7, "exit code 7"),
    ],
)
def test_a_death_is_reported_by_what_ended_it(started: Started, target, argument, how: str):
    pool = _pool(children=[started(target, argument)])
    assert _first(pool) == Died(how)


def test_a_child_that_falls_silent_is_killed(started: Started):
    child = started(time.sleep, 600, speaks=True)
    pool = _pool(timeout=0.2, children=[child])
    assert _first(pool) == Died("timeout")
    child.process.join(10)
    assert child.process.exitcode == -signal.SIGKILL


def test_what_importing_takes_is_no_calls_time(started: Started):
    child = started(time.sleep, 600, speaks=True)
    child.started = False
    pool = _pool(timeout=0.2, children=[child])
    assert list(pool.next_messages()) == []
    assert child.process.is_alive()


def test_an_idle_child_may_be_silent(started: Started):
    child = started(time.sleep, 600, speaks=True)
    child.busy = None
    assert list(_pool(timeout=0.0, children=[child]).next_messages()) == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-11, "SIGSEGV"),
        (-6, "SIGABRT"),
        (3, "exit code 3"),
        (-200, "signal 200"),
        (0, "exit code 0"),
    ],
)
def test_exit_codes_are_said_as_people_say_them(code: int, text: str):
    assert how_it_ended(code) == text


def test_a_workers_report_of_a_fault_becomes_an_error():
    with pytest.raises(UsageError, match="no such file"):
        raise_faults(("usage", "no such file"))
    with pytest.raises(OwnFault, match="a judge failed"):
        raise_faults(("fault", "a judge failed"))
    raise_faults(("described", "", ()))


def test_a_worker_answers_is_replaced_and_stops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MALLOC_PERTURB_", "1")
    monkeypatch.delenv("IRVERIFY_TEST_ONLY", raising=False)
    with _pool(size=2, environment={"IRVERIFY_TEST_ONLY": "1"}) as pool:
        assert len(pool.children) == 1
        reply = pool.ask(("describe", "reference"), "described")
        assert isinstance(reply, tuple)
        assert reply[1].startswith("numpy ")
        with pytest.raises(UsageError, match=r"subject 'nobody'; accepted: "):
            pool.ask(("describe", "nobody"), "described")
        with pytest.raises(OwnFault, match="KeyError"):
            pool.ask(("describing", "reference"), "described")
        pool.grow()
        assert len(pool.children) == 2
        # What the children were started with is not left behind in this process.
        assert os.environ["MALLOC_PERTURB_"] == "1"
        assert "IRVERIFY_TEST_ONLY" not in os.environ
        first = pool.children[0]
        first.process.kill()
        # Dead for certain: its pipe is broken by the time that it is asked.
        first.process.join()
        assert pool.ask(("describe", "reference"), "described") == Died("SIGKILL")
        assert pool.children[0] is not first
        assert isinstance(pool.ask(("describe", "reference"), "described"), tuple)
        children = list(pool.children)
    assert [child.process.is_alive() for child in children] == [False, False]
    assert [child.process.exitcode for child in children] == [0, 0]


def test_a_child_that_does_not_stop_is_killed(started: Started, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("oracle.pool.STOP_SECONDS", 0.1)
    child = started(time.sleep, 600, speaks=True)
    with _pool() as pool:
        pool.children.append(child)
    assert child.process.exitcode == -signal.SIGKILL


def test_a_child_that_lives_on_without_its_pipe_is_killed(
    started: Started, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Pool, "_start", lambda self: child)
    child = started(time.sleep, 600)
    pool = _pool(children=[child])
    assert pool.replace(child) is child
    assert child.process.exitcode == -signal.SIGKILL
