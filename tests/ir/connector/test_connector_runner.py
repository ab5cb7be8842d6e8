"""Real, dummy and captured runs go the same way, move the same KV and call the same hooks."""

from pathlib import Path

import pytest
import torch

from ir.capture import StaleAddress
from ir.connector import (
    FileConnector,
    GraphMode,
    GraphPolicy,
    ModelSize,
    PagedModel,
    PolicyError,
    Runner,
    Scheduler,
    SchedulerOutput,
    StagedFileConnector,
)

PROMPTS = {"r0": (1, 2, 3, 4, 5), "r1": (7, 8, 9, 10, 11, 12, 13, 14), "r2": (3, 3)}
MODES = list(GraphMode)


def fresh_model() -> PagedModel:
    return PagedModel(ModelSize(), seed=1)


def serve(runner: Runner, prompts=PROMPTS, tokens: int = 3):
    """All requests to their end: their tokens, what failed, the scheduler outputs."""
    scheduler = Scheduler(runner.model.size, runner.connector, rows=8)
    for name, prompt in prompts.items():
        scheduler.add(name, prompt, tokens=tokens)
    done: dict[str, list[int]] = {}
    failed: dict[str, str] = {}
    outputs: list[SchedulerOutput] = []
    while not scheduler.idle:
        outputs.append(scheduler.step())
        result = runner.step(outputs[-1])
        failed.update(result.failed)
        done.update(scheduler.update(result.tokens, result.failed))
    return done, failed, outputs


def ready(model: PagedModel, connector, mode: GraphMode) -> Runner:
    runner = Runner(model, connector, mode)
    runner.warm_up()
    return runner


@pytest.fixture(scope="module")
def expected():
    """What eager gives without a connector: tokens, and the KV caches afterwards."""
    runner = ready(fresh_model(), None, GraphMode.EAGER)
    return serve(runner)[0], runner.model.caches


@pytest.mark.parametrize("mode", MODES)
def test_graphs_give_the_tokens_and_the_kv_of_eager(mode: GraphMode, expected):
    runner = ready(fresh_model(), None, mode)
    done, failed, _ = serve(runner)
    assert runner.mode is mode
    assert (done, failed) == (expected[0], {})
    assert all(torch.equal(runner.model.caches[k], t) for k, t in expected[1].items())


@pytest.mark.parametrize("mode", MODES)
def test_loaded_kv_gives_the_tokens_of_computed_kv(connector, mode: GraphMode, expected):
    stored = serve(ready(fresh_model(), connector, mode))
    assert stored[:2] == (expected[0], {})
    other = type(connector)(connector.store.root, model="m", block_size=4)
    runner = ready(fresh_model(), other, mode)
    loaded, failed, outputs = serve(runner)
    assert (loaded, failed) == (expected[0], {})
    assert {r.request: r.load for r in outputs[0].requests} == {"r0": 4, "r1": 8, "r2": 0}
    # Byte for byte what was saved lies where the request's blocks are.
    for r in outputs[0].requests:
        slots = [r.blocks[i // 4] * 4 + i % 4 for i in range(min(r.load, r.start))]
        for layer, cache in runner.model.caches.items():
            got = cache.flatten(1, 2)[:, slots]
            assert torch.equal(got, expected[1][layer].flatten(1, 2)[:, slots])


@pytest.mark.parametrize("mode", MODES)
def test_a_dummy_run_moves_nothing_and_leaves_every_byte_of_kv(connector, mode: GraphMode):
    runner = ready(fresh_model(), connector, mode)
    serve(runner)
    before = {k: t.clone() for k, t in runner.model.caches.items()}
    files = {p.name: p.stat().st_mtime_ns for p in connector.store.root.iterdir()}
    for rows in (1, 3, 8):
        logits = runner.dummy_run(rows)
        assert logits.isfinite().all()
    assert all(torch.equal(before[k], t) for k, t in runner.model.caches.items())
    assert {p.name: p.stat().st_mtime_ns for p in connector.store.root.iterdir()} == files


@pytest.mark.parametrize("mode", MODES)
def test_the_null_block_stays_zero(connector, mode: GraphMode):
    runner = ready(fresh_model(), connector, mode)
    serve(runner)
    runner.dummy_run(5)
    assert all(not t[:, 0].any() for t in runner.model.caches.values())


@pytest.mark.parametrize("mode", MODES)
def test_a_connector_sees_only_metadata_that_it_made_whole_steps_and_every_hook(
    noting, mode: GraphMode
):
    connector = noting()
    runner = ready(fresh_model(), connector, mode)
    runner.dummy_run(2)
    warm = len(connector.calls)
    done, _, outputs = serve(runner)
    assert done.keys() == PROMPTS.keys()
    assert all(connector.seen)
    hooks = [f"{hook} layer.{i}" for i in range(3) for hook in ("load", "save")]
    steps = [
        [
            f"build {len(o.requests)}",
            "bind",
            "start",
            *hooks,
            "wait",
            f"finished {sorted(o.finished)}",
            "clear",
        ]
        for o in outputs
    ]
    assert connector.calls[warm:] == [call for step in steps for call in step]
    # Warm-up and the dummy run before took the same way.
    assert connector.calls[:warm].count("bind") == connector.calls[:warm].count("clear") == 2
    assert connector.calls[:warm].count("build 0") == 2


def test_hooks_in_a_full_graph_run_as_often_as_in_eager(tmp_path: Path):
    counts = {}
    for mode in (GraphMode.EAGER, GraphMode.FULL):
        connector = StagedFileConnector(tmp_path / mode.value, model="m", block_size=4)
        runner = ready(fresh_model(), connector, mode)
        before = {k: t.clone() for k, t in connector.hook_calls.items()}
        _, _, outputs = serve(runner)
        counts[mode] = {k: (t - before[k]).tolist() for k, t in connector.hook_calls.items()}
        assert set(map(tuple, counts[mode].values())) == {(len(outputs), len(outputs))}
    assert counts[GraphMode.EAGER] == counts[GraphMode.FULL]


def test_full_gives_way_to_piecewise_only_where_hooks_need_it(tmp_path: Path):
    file = FileConnector(tmp_path, model="m", block_size=4)
    staged = StagedFileConnector(tmp_path, model="m", block_size=4)
    assert Runner(fresh_model(), file, GraphMode.FULL).mode is GraphMode.PIECEWISE
    assert Runner(fresh_model(), staged, GraphMode.FULL).mode is GraphMode.FULL


def test_a_connector_without_a_policy_is_refused_under_full(noting):
    with pytest.raises(PolicyError, match="graph_policy of Noting is None"):
        Runner(fresh_model(), noting(None), GraphMode.FULL)


def test_hooks_that_a_replay_would_skip_are_refused_when_they_are_captured(tmp_path: Path):
    class Claims(FileConnector):
        graph_policy: GraphPolicy | None = GraphPolicy.CAPTURED

    # Nothing is loaded in a dummy run, so no rule of captures sees that Python does the work.
    runner = Runner(fresh_model(), Claims(tmp_path, model="m", block_size=4), GraphMode.FULL)
    with pytest.raises(PolicyError, match=r"wait_for_layer_load of layer 'layer.0' of .*Claims"):
        runner.warm_up()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("damage", ["cut", "gone", "other-shape", "other-dtype"])
def test_a_failed_load_is_reported_to_its_request_and_to_nobody_else(
    connector, mode: GraphMode, damage: str, expected
):
    from safetensors.torch import save_file

    from ir.connector.store import entry_key

    serve(ready(fresh_model(), connector, GraphMode.EAGER))
    path = connector.store.path(entry_key("m", PROMPTS["r1"]))
    runner = ready(fresh_model(), connector, mode)
    scheduler = Scheduler(runner.model.size, connector, rows=8)
    for name, prompt in PROMPTS.items():
        scheduler.add(name, prompt, tokens=3)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "gone":
        path.unlink()
    else:
        dtype = torch.float64 if damage == "other-dtype" else torch.float32
        n = 7 if damage == "other-shape" else 8
        save_file({f"layer.{i}": torch.zeros(2, n, 4, 8, dtype=dtype) for i in range(3)}, path)
    done: dict[str, list[int]] = {}
    failed: dict[str, str] = {}
    while not scheduler.idle:
        result = runner.step(scheduler.step())
        failed.update(result.failed)
        done.update(scheduler.update(result.tokens, result.failed))
    assert list(failed) == ["r1"]
    assert "accepted: " in failed["r1"]
    assert done == {k: v for k, v in expected[0].items() if k != "r1"}


def test_a_request_that_fails_to_load_frees_its_blocks(connector):
    serve(ready(fresh_model(), connector, GraphMode.EAGER))
    scheduler = Scheduler(ModelSize(), connector, rows=8)
    scheduler.add("r1", PROMPTS["r1"], tokens=3)
    held = scheduler.step().requests[0].blocks
    assert scheduler.update({}, {"r1": "gone"}) == {}
    assert scheduler.idle
    assert scheduler.step().finished == {"r1"}
    scheduler.add("again", tuple(range(8)), tokens=8)
    assert scheduler.idle is False
    assert not set(held) & {0}


def test_memory_of_a_connector_that_moved_stops_a_full_replay(tmp_path: Path):
    connector = StagedFileConnector(tmp_path, model="m", block_size=4)
    runner = ready(fresh_model(), connector, GraphMode.FULL)
    connector.arriving["layer.1"] = connector.arriving["layer.1"].clone()
    with pytest.raises(StaleAddress, match=r"connector.arriving\['layer.1'\]"):
        runner.dummy_run()


@pytest.mark.parametrize("mode", [GraphMode.PIECEWISE, GraphMode.FULL])
def test_kv_caches_that_moved_stop_a_replay_that_uses_them(mode: GraphMode):
    runner = ready(fresh_model(), None, mode)
    runner.model.caches["layer.1"] = runner.model.caches["layer.1"].clone()
    if mode is GraphMode.FULL:
        with pytest.raises(StaleAddress, match=r"caches\['layer.1'\]"):
            runner.dummy_run()
    else:
        # Attention runs in Python between the pieces, on the caches of the moment.
        assert runner.dummy_run().isfinite().all()


def test_full_before_warm_up_is_refused():
    runner = Runner(fresh_model(), None, GraphMode.FULL)
    with pytest.raises(PolicyError, match="warm_up"):
        runner.dummy_run()


def test_more_to_load_than_there_is_room_fails_the_request_alone(tmp_path: Path):
    serve(
        ready(
            fresh_model(), StagedFileConnector(tmp_path, model="m", block_size=4), GraphMode.EAGER
        )
    )
    small = StagedFileConnector(tmp_path, model="m", block_size=4, capacity=4)
    done, failed, _ = serve(ready(fresh_model(), small, GraphMode.FULL))
    assert list(failed) == ["r1"]
    assert "at most 4" in failed["r1"]
    assert done.keys() == {"r0", "r2"}
