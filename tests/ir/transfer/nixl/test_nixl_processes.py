"""No engine outlives who started it, however that ends, stopped or not."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ir.transfer.nixl import Cluster, PeerError
from ir.transfer.nixl.child import ChildProcess
from ir.transfer.nixl.process import EngineProcess

ROOT = Path(__file__).resolve().parents[4]

STARTER = """
import sys, time
from ir.transfer.nixl.process import EngineProcess
processes = [EngineProcess(name, tls="tcp,self", slab_bytes=1 << 20) for name in "ab"]
for process in processes:
    process.ask("snapshot")
processes[1].stop()
print(*(process.pid for process in processes), flush=True)
time.sleep(600)
"""


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _all_gone(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(_lives, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_engines_die_with_their_starter(how: signal.Signals):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert starter.stdout is not None
    with starter.stdout:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(_lives, pids))
    starter.send_signal(how)
    starter.wait(10)
    assert _all_gone(pids)


WITHOUT_TORCH = """
import sys, types
package = types.ModuleType("ir")
package.__path__ = [sys.argv[1]]
sys.modules["ir"] = package
"""

CHILD = f"""{WITHOUT_TORCH}
from multiprocessing.connection import Connection
from ir.transfer.nixl.answering import answer_commands, die_with
die_with(int(sys.argv[3]))
class Answers:
    def hello(self):
        return 1
answers = Answers()
answer_commands(Connection(int(sys.argv[2])), lambda name: answers, lambda: False)
"""

FORKED = f"""{WITHOUT_TORCH}
import os, threading, time
from ir.transfer.nixl.child import ChildProcess
def start(name, into):
    into.append(ChildProcess(name, tls=None, program=sys.argv[2], arguments=(sys.argv[1],)))
    into[-1].ask("hello")
mine = []
thread = threading.Thread(target=start, args=("of the parent", mine))
thread.start()
thread.join()
reading, writing = os.pipe()
if os.fork() == 0:
    try:
        start("of the fork", mine)
        mine[1].stop()
        os.write(writing, str(mine[1].pid).encode())
    finally:
        os._exit(0)
forked = os.read(reading, 100).decode()
os.wait()
mine[0].ask("hello")
mine[0].stop()
print(mine[0].pid, forked, flush=True)
time.sleep(600)
"""


def _child() -> ChildProcess:
    return ChildProcess("child", tls=None, program=CHILD, arguments=(str(ROOT / "ir"),))


def test_a_process_outlives_the_threads_that_asked_for_it():
    started: list[ChildProcess] = []

    def start() -> None:
        started.append(_child())
        # Only a process that runs already has told the kernel what it shall die with.
        started[0].ask("hello")

    def restart() -> None:
        started[0].restart()
        started[0].ask("hello")

    try:
        for target in (start, restart):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
            # A kill by the kernel would come with the end of the thread, or soon after it.
            time.sleep(0.2)
            assert started[0].ask("hello") == 1
    finally:
        for process in started:
            process.close()
    assert not _lives(started[0].pid)


def test_processes_die_with_who_started_them_in_a_thread_or_a_fork():
    starter = subprocess.Popen(
        [sys.executable, "-c", FORKED, str(ROOT / "ir"), CHILD], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    with starter.stdout:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    assert _lives(pids[0])
    # The fork has ended; its child, which stands still, with it.
    assert _all_gone(pids[1:])
    starter.kill()
    starter.wait(10)
    assert _all_gone(pids)


def test_a_process_that_cannot_be_started_says_why():
    with pytest.raises(OSError, match="Bad file descriptor"):
        ChildProcess("child", tls=None, program=CHILD, arguments=(), files=(10**6,))


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
def test_a_closed_cluster_leaves_no_process(transfers, engines):
    with Cluster() as cluster:
        engines.run(cluster, transfers.random_scenario(0))
        pids = list(cluster.pids)
        assert len(pids) == 2
        assert all(map(_lives, pids))
    assert cluster.pids == ()
    assert _all_gone(pids)


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
def test_a_restarted_process_is_another_one_of_the_same_name():
    process = EngineProcess("a", tls=None, slab_bytes=1 << 20)
    try:
        before = process.pid
        process.slab.bytes[:4] = 7
        process.restart()
        assert process.ask("snapshot") is None
        assert process.pid != before
        assert (process.slab.bytes[:4] == 7).all()
        assert not _lives(before)
    finally:
        process.close()


@pytest.mark.slow
@pytest.mark.usefixtures("nixl")
def test_an_answer_that_comes_too_late_is_not_taken_for_another():
    process = EngineProcess("late", tls=None, slab_bytes=1 << 20)
    try:
        assert process.ask("snapshot") is None
        process.stop()
        process.patience = 0.1
        with pytest.raises(PeerError, match=r"silent; accepted: an answer within 0.1 seconds"):
            process.ask("snapshot")
        process.resume()
        with pytest.raises(PeerError, match="accepted: a process that lives"):
            process.ask("snapshot")
        process.restart()
        assert process.ask("snapshot") is None
    finally:
        process.close()
