"""all_reduce over real groups of processes, eager and compiled."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ir import ir_state, ops
from ir.errors import InputError
from ir.ops.collectives import Communicator
from ir.state import StateError

PROCESS = """
import sys
from datetime import timedelta
import torch, torch.distributed as dist
import ir, ir.compilation
from ir import ir_state, ops
from ir.errors import InputError
from ir.ops.collectives import communicator_of

torch.set_num_threads(1)
rank, size, rendezvous = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size,
                        timeout=timedelta(seconds=60))
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8,
              torch.int32, torch.int64):
    x = (torch.arange(6).view(2, 3).t() + rank).to(dtype)
    kept = x.clone()
    for reduction, wanted in (("sum", sum), ("min", min), ("max", max)):
        y = ops.all_reduce(x, reduction)
        each = [(torch.arange(6).view(2, 3).t() + r).tolist() for r in range(size)]
        assert y.tolist() == [[wanted(e[i][j] for e in each) for j in range(2)] for i in range(3)]
        assert y.is_contiguous() and y.dtype is dtype and torch.equal(x, kept)
for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.bool, torch.int16):
    try:
        ops.all_reduce(torch.zeros(4).to(dtype))
    except InputError as error:
        assert "gloo reduces" in str(error), error
    else:
        raise SystemExit(f"{dtype} was not refused")

pairs = [dist.new_group(list(range(r, r + 2))) for r in range(0, size, 2)]
ir_state.replace("communicator", communicator_of(pairs[rank // 2]), "pair")

def f(x):
    with ir.scope(group="pair"):
        y = ops.all_reduce(x)
    return y, ops.all_reduce(x * 2)

report = ir.compilation.Report()
g = torch.compile(f, backend=ir.compilation.backend, fullgraph=True,
                  options={"run": "fx", "report": report})
with torch.no_grad():
    for step in range(3):
        x = torch.full((3,), float(rank + step))
        for got in (f(x), g(x)):
            mates = [rank // 2 * 2, rank // 2 * 2 + 1]
            assert got[0].tolist() == [float(sum(m + step for m in mates))] * 3
            assert got[1].tolist() == [float(sum(2 * (r + step) for r in range(size)))] * 3
assert [n.op for p in report.passes for n in getattr(p, "nodes", ())] == ["all_reduce"] * 2
dist.barrier()
dist.destroy_process_group()
print("done", rank)
"""


def processes(size: int, rendezvous: Path) -> list[tuple[int, str]]:
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    root = Path(__file__).parents[3]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(rendezvous)], cwd=root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        shown = [p.communicate(timeout=150)[0] for p in started]
        return [(p.returncode, text) for p, text in zip(started, shown, strict=True)]
    finally:
        for p in started:
            p.kill()
            p.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_processes_reduce_eager_and_compiled_in_all_and_in_pairs(size: int, tmp_path: Path):
    for rank, (code, shown) in enumerate(processes(size, tmp_path / "rendezvous")):
        assert (code, shown.splitlines()[-1:]) == (0, [f"done {rank}"]), shown


@pytest.fixture
def gloo() -> Callable[[], Communicator]:
    return lambda: Communicator("0", "gloo", 2)


def test_a_dtype_on_which_gloo_aborts_is_refused_before_it_gets_there(gloo):
    with ir_state.override("communicator", gloo):
        with pytest.raises(InputError, match=r"x.dtype is torch.float8_e4m3fn; .* gloo reduces"):
            ops.all_reduce(torch.zeros(4).to(torch.float8_e4m3fn))
        with pytest.raises(InputError, match=r"reduction is 'mean'; accepted: one of"):
            ops.all_reduce(torch.zeros(4), "mean")


def test_without_processes_the_communicator_says_what_is_missing():
    with pytest.raises(StateError, match="init_process_group"):
        ops.all_reduce(torch.zeros(1))
