"""No engine outlives who started it, however that ends, stopped or not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ir.transfer.nixl import Cluster, PeerError
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
