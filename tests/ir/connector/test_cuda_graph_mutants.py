"""Every bug of captured graphs that a host can express, planted on purpose and noticed.

Each scenario runs twice: with the fault it must be noticed, in the way that is written beside it,
and without it nothing may be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ir.capture import BucketedGraphs, CapturedGraph, CaptureError, capture, capture_buckets
from ir.connector import (
    ConnectorError,
    FileConnector,
    GraphMode,
    GraphPolicy,
    ModelSize,
    PagedModel,
    Runner,
    Scheduler,
    SchedulerOutput,
)
from ir.connector import batch as batches
from ir.connector import runner as runners
from ir.connector.transfers import TransferMetadata
from ir.state import SealedError, ir_state

Scenario = Callable[[bool, pytest.MonkeyPatch, Path], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    bug: str
    noticed: str
    scenario: Scenario


ROWS: list[Row] = []
NOT_ON_A_HOST = {
    "TensorRT-LLM#8275": "an event on another stream than the replay's: a host has no streams",
}


def row(bug: str, noticed: str) -> Callable[[Scenario], Scenario]:
    def add(scenario: Scenario) -> Scenario:
        ROWS.append(Row(bug=bug, noticed=noticed, scenario=scenario))
        return scenario

    return add


class Holder:
    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__.update(tensors)

    workspace: Tensor
    slots: Tensor
    out: Tensor
    buffer: Tensor
    weight: Tensor
    derived: Tensor
    state: Tensor


def refusal(act: Callable[[], object]) -> str:
    """How an act is refused: its slug, owner or class; "" where it is not."""
    try:
        act()
    except CaptureError as error:
        return str(getattr(error, "reason", "") or getattr(error, "owner", "") or type(error))
    except (ConnectorError, SealedError) as error:
        return type(error).__name__
    return ""


def replayed(graph: CapturedGraph | BucketedGraphs, *inputs: Tensor) -> Tensor:
    got = graph.replay(*inputs)
    if not isinstance(got, Tensor):
        raise TypeError(f"replay gave {type(got).__name__}")
    return got


@row("flashinfer#4398, flashinfer#4553, vllm#52553, vllm#34948", "h.workspace")
def shared_workspace_is_resized_for_a_second_graph(faulty, patch, path) -> str:
    h = Holder(workspace=torch.zeros(4 if faulty else 4096))

    def gemm(x: Tensor) -> Tensor:
        h.workspace[: x.shape[0]].copy_(x)
        return h.workspace[: x.shape[0]] * 2

    small = capture(gemm, torch.ones(4))
    if h.workspace.numel() < 4096:
        h.workspace.resize_(4096)
    capture(gemm, torch.ones(4096))
    return refusal(small.replay)


@row("vllm#45487", "SealedError")
def workspace_grows_after_the_capture(faulty, patch, path) -> str:
    ir_state.register_type("mutant_workspace", lambda: torch.zeros(8))
    ir_state.get("mutant_workspace")
    graph = capture(lambda x: x + ir_state.get("mutant_workspace")[:4], torch.zeros(4))
    graph.seal()
    try:
        return refusal(lambda: ir_state.grow("mutant_workspace", 64 if faulty else 8))
    finally:
        graph.release()
        ir_state.unregister_type("mutant_workspace")


@row("TensorRT-LLM#16290", "state-replaced")
def output_is_allocated_anew_by_each_forward(faulty, patch, path) -> str:
    h = Holder(out=torch.zeros(4))

    def forward(x: Tensor) -> Tensor:
        if faulty:
            h.out = torch.empty(4)
        h.out.copy_(x * 2)
        return h.out + 1

    return refusal(lambda: capture(forward, torch.ones(4)))


@row("vllm#44868", "h.slots")
def context_tensors_are_rebuilt_for_each_step(faulty, patch, path) -> str:
    h = Holder(slots=torch.zeros(2, dtype=torch.int64), state=torch.zeros(8))
    graph = capture(lambda x: h.state.index_put_((h.slots,), x) + 0, torch.ones(2))
    new = torch.tensor([3, 4])
    if faulty:
        h.slots = new
    else:
        h.slots.copy_(new)
    return refusal(graph.replay)


@row("vllm#11596", "state-replaced")
def buffer_is_assigned_in_the_forward(faulty, patch, path) -> str:
    h = Holder(buffer=torch.ones(4, dtype=torch.float64))

    def forward(x: Tensor) -> Tensor:
        converted = h.buffer.to(torch.float32)
        if faulty:
            h.buffer = converted
        return x + converted

    return refusal(lambda: capture(forward, torch.ones(4)))


@row("flashinfer#2185", "values")
def plan_checks_indices_and_does_not_copy_them(faulty, patch, path) -> str:
    h = Holder(slots=torch.tensor([0, 1]), state=torch.arange(8.0))
    graph = capture(lambda x: x + h.state[h.slots], torch.zeros(2))

    def plan(indices: Tensor) -> None:
        if indices.shape != h.slots.shape:
            raise ValueError("size")
        if not faulty:
            h.slots.copy_(indices)

    for indices in (torch.tensor([0, 1]), torch.tensor([5, 2])):
        plan(indices)
        if not torch.equal(replayed(graph, torch.zeros(2)), h.state[indices]):
            return "values"
    return ""


def write_rows(cache: Tensor, masked: bool = True) -> Callable[[Tensor, Tensor], Tensor]:
    def write(x: Tensor, slot: Tensor) -> Tensor:
        at, real = slot.clamp(min=0), slot >= 0
        cache.index_put_((at,), torch.where(real, x, cache[at]) if masked else x)
        return x + 1

    return write


@row("vllm#13418, vllm#13922, vllm#21196", "kv")
def slots_of_a_larger_batch_stay_behind_a_smaller_one(faulty, patch, path) -> str:
    cache = torch.zeros(8)

    def place(self, i, given: Tensor, own: Tensor, pad) -> None:
        own[: given.shape[0]].copy_(given)

    if faulty:
        patch.setattr(BucketedGraphs, "_place", place)
    graphs = capture_buckets(
        write_rows(cache), torch.zeros(4), torch.full((4,), -1), sizes=(4,), padding=(0, -1)
    )
    graphs.replay(torch.full((4,), 1.0), torch.tensor([1, 2, 3, 4]))
    cache.zero_()
    graphs.replay(torch.full((1,), 2.0), torch.tensor([6]))
    return "" if cache.tolist() == [0, 0, 0, 0, 0, 0, 2, 0] else "kv"


@row("vllm#38719", "kv")
def dummy_rows_have_slot_zero(faulty, patch, path) -> str:
    if faulty:
        patch.setattr(batches, "PADDING", (0, 0, 0, 0))
        patch.setattr(runners, "PADDING", (0, 0, 0, 0))
    runner = Runner(PagedModel(ModelSize(), seed=1), None, GraphMode.FULL)
    runner.warm_up()
    runner.dummy_run(2)
    return "kv" if any(t.any() for t in runner.model.caches.values()) else ""


@row("vllm#36939", "null-block")
def rows_that_pad_write_to_the_null_block(faulty, patch, path) -> str:
    cache = torch.zeros(8)
    graphs = capture_buckets(
        write_rows(cache, masked=not faulty),
        torch.full((4,), 9.0),
        torch.full((4,), -1),
        sizes=(4,),
        padding=(9, -1),
    )
    graphs.replay(torch.ones(1), torch.tensor([5]))
    return "null-block" if cache[0] != 0 else ""


@row("sglang#24743", "kv")
def second_slot_tensor_is_not_cleared(faulty, patch, path) -> str:
    cache, sliding = torch.zeros(8), torch.zeros(8)

    def write(x: Tensor, slot: Tensor, other: Tensor) -> Tensor:
        write_rows(cache)(x, slot)
        return write_rows(sliding)(x, other)

    graphs = capture_buckets(
        write,
        torch.zeros(2),
        torch.full((2,), -1),
        torch.full((2,), -1),
        sizes=(2,),
        padding=(0, -1, 0 if faulty else -1),
    )
    sliding[0] = 7
    graphs.replay(torch.ones(1), torch.tensor([3]), torch.tensor([4]))
    return "" if sliding.tolist() == [7, 0, 0, 0, 1, 0, 0, 0] else "kv"


@row("sglang#24743, 32-bit slots", "ReplayError")
def slots_have_another_dtype_than_the_graph(faulty, patch, path) -> str:
    graphs = capture_buckets(
        write_rows(torch.zeros(8)),
        torch.zeros(2),
        torch.full((2,), -1),
        sizes=(2,),
        padding=(0, -1),
    )
    dtype = torch.int32 if faulty else torch.int64
    found = refusal(lambda: graphs.replay(torch.ones(1), torch.tensor([3], dtype=dtype)))
    return "ReplayError" if "ReplayError" in found else found


@row("TensorRT-LLM#13278, #4853, #7998, #8231, #16072", "state")
def rows_that_pad_alias_a_live_slot(faulty, patch, path) -> str:
    # State by request slot, as of Mamba; slot 3 is kept free for padding.
    state = torch.zeros(4)

    def step(x: Tensor, index: Tensor) -> Tensor:
        new = state[index] * 0.5 + x
        state.index_put_((index,), new)
        return new

    graphs = capture_buckets(
        step, torch.zeros(2), torch.full((2,), 3), sizes=(2,), padding=(0, 0 if faulty else 3)
    )
    state[:3] = 8
    graphs.replay(torch.ones(1), torch.tensor([1]))
    return "" if state[:3].tolist() == [8, 5, 8] else "state"


@row("vllm#26675, vllm#28253, vllm#27026", "LifecycleError")
def dummy_run_calls_hooks_with_nothing_bound(faulty, patch, path) -> str:
    connector = FileConnector(path, model="m", block_size=4)
    runner = Runner(PagedModel(ModelSize(), seed=1), connector, GraphMode.EAGER)
    if faulty:
        # A dummy run with a way of its own: the hooks are called, but no step was entered.
        rows = batches.dummy_batch(2, runner.model.size)
        patch.setattr(runners.Hooks, "before", lambda self, x: connector.wait_for_layer_load(x))
        return refusal(lambda: runner._forward(*rows.tensors))
    return refusal(lambda: runner.dummy_run(2))


PROMPT = tuple(range(1, 9))


def generated(runner: Runner, seed: dict[str, tuple[int, ...]]) -> list[list[int]]:
    scheduler = Scheduler(runner.model.size, runner.connector, rows=8)
    for name, prompt in seed.items():
        scheduler.add(name, prompt, tokens=3)
    done: dict[str, list[int]] = {}
    while not scheduler.idle:
        result = runner.step(scheduler.step())
        done.update(scheduler.update(result.tokens, result.failed))
    return list(done.values())


@row("vllm#29608, vllm#29755, vllm#31057", "PolicyError")
def full_replay_skips_the_hooks(faulty, patch, path) -> str:
    class Layerwise(FileConnector):
        graph_policy = None if faulty else GraphPolicy.PIECEWISE

    connector = Layerwise(path, model="m", block_size=4)
    return refusal(lambda: Runner(PagedModel(ModelSize()), connector, GraphMode.FULL).warm_up())


@row("vllm#29608, the hooks of a replay", "values")
def replay_reads_kv_that_was_never_loaded(faulty, patch, path) -> str:
    def runner() -> Runner:
        connector = FileConnector(path, model="m", block_size=4)
        return Runner(PagedModel(ModelSize(), seed=1), connector, GraphMode.PIECEWISE)

    expected = generated(runner(), {"r": PROMPT})
    again = runner()
    again.warm_up()
    if faulty:
        patch.setattr(FileConnector, "wait_for_layer_load", lambda self, layer: None)
    return "" if generated(again, {"r": PROMPT}) == expected else "values"


@row("vllm#28537", "metadata")
def dummy_metadata_is_made_by_the_runner(faulty, patch, path) -> str:
    made: list[TransferMetadata] = []
    own: list[bool] = []

    class Watching(FileConnector):
        def build_connector_meta(self, output: SchedulerOutput):
            made.append(super().build_connector_meta(output))
            return made[-1]

        def bind_connector_metadata(self, metadata: object) -> None:
            own.append(any(metadata is m for m in made))
            super().bind_connector_metadata(metadata)

    connector = Watching(path, model="m", block_size=4)
    if faulty:
        from ir.connector.lifecycle import prepare

        def by_the_runner(connector, output):
            real = prepare(connector, output)
            return real.__class__(
                metadata=TransferMetadata() if real.dummy else real.metadata,
                made_by=real.made_by,
                dummy=real.dummy,
                finished=real.finished,
            )

        patch.setattr(runners, "prepare", by_the_runner)
    Runner(PagedModel(ModelSize()), connector, GraphMode.EAGER).dummy_run()
    return "" if own == [True] else "metadata"


@row("vllm#48251, vllm#48312, vllm#48941", "h.derived")
def weight_reload_rederives_a_tensor(faulty, patch, path) -> str:
    h = Holder(weight=torch.randn(4, 4))
    h.derived = h.weight.t().contiguous()
    graph = capture(lambda x: x @ h.derived, torch.ones(4))
    h.weight.copy_(torch.randn(4, 4))
    if faulty:
        h.derived = h.weight.t().contiguous()
    else:
        h.derived.copy_(h.weight.t())
    return refusal(graph.replay)


@row("vllm#41613", "host-sync")
def op_takes_a_number_out_of_a_tensor(faulty, patch, path) -> str:
    def attention(x: Tensor, longest: Tensor) -> Tensor:
        return x * longest.item() if faulty else x * longest

    return refusal(lambda: capture(attention, torch.ones(4), torch.tensor(3)))


@row("pytorch#84967, pytorch#84614", "not-replayable")
def graph_keeps_the_random_numbers_of_its_capture(faulty, patch, path) -> str:
    from ir.capture import tape

    bind = tape.bind

    def keeping(kernel, op, *rest):
        manner, repeat = bind(kernel, op, *rest)
        is_random = faulty and op is not None and op._schema.name == "aten::rand"
        return manner, (lambda: None) if is_random else repeat

    patch.setattr(tape, "bind", keeping)
    generators = [torch.default_generator]
    return refusal(
        lambda: capture(lambda x: x + torch.rand(4), torch.ones(4), generators=generators)
    )


@row("pytorch#172390, pytorch#176752", "nested")
def capture_starts_inside_a_capture(faulty, patch, path) -> str:
    def forward(x: Tensor) -> Tensor:
        if faulty:
            capture(lambda y: y + 1, torch.ones(4))
        return x + 1

    return refusal(lambda: capture(forward, torch.ones(4)))


@row("pytorch#144386, pytorch#148439, pytorch#154824, pytorch#177192", "held-output")
def next_replay_overwrites_a_held_output(faulty, patch, path) -> str:
    graph = capture(lambda x: x * 2, torch.zeros(4))
    first = graph.replay(torch.ones(4), static=faulty)
    graph.replay(torch.full((4,), 5.0))
    kept = isinstance(first, Tensor) and torch.equal(first, torch.full((4,), 2.0))
    return "" if kept else "held-output"


@pytest.mark.parametrize("planted", ROWS, ids=[r.scenario.__name__ for r in ROWS])
def test_a_planted_bug_is_noticed_and_its_absence_is_clean(
    planted: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with monkeypatch.context() as patch:
        assert planted.scenario(True, patch, tmp_path / "faulty") == planted.noticed
    with monkeypatch.context() as patch:
        assert planted.scenario(False, patch, tmp_path / "clean") == ""


def test_every_bug_of_the_table_is_planted_or_said_to_need_a_device():
    # The first id of each row of the table of CUDA-graph bugs.
    table = (
        "flashinfer#4398 vllm#45487 TensorRT-LLM#16290 vllm#44868 vllm#11596 flashinfer#2185 "
        "vllm#13418 vllm#38719 vllm#36939 sglang#24743 TensorRT-LLM#13278 vllm#26675 vllm#29608 "
        "TensorRT-LLM#8275 vllm#28537 vllm#48251 vllm#41613 pytorch#84967 pytorch#144386"
    )
    covered = {r.bug.split(",")[0] for r in ROWS} | set(NOT_ON_A_HOST)
    assert [bug for bug in table.split() if bug not in covered] == []
