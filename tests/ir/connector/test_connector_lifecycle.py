"""A connector is called in the order of its contract, through a step, with its own metadata."""

import pickle
from collections.abc import Callable

import pytest
import torch

from ir.connector import (
    EMPTY,
    GraphMode,
    GraphPolicy,
    LifecycleError,
    PolicyError,
    ScheduledRequest,
    SchedulerOutput,
    WorkerStep,
    graph_mode,
    prepare,
    worker_step,
)

LAYERS = ("a", "b")
CACHE = torch.zeros(2, 2, 4, 1, 2)
REAL = SchedulerOutput(
    step=0,
    requests=(ScheduledRequest(request="r", prompt=(1,), tokens=(1,), start=0, blocks=(1,)),),
)


def whole(step: WorkerStep) -> None:
    step.start_load_kv()
    step.begin_pass()
    for layer in LAYERS:
        step.wait_for_layer_load(layer)
        step.save_kv_layer(layer, CACHE)
    step.wait_for_save()
    step.get_finished()


def until_pass(step: WorkerStep) -> None:
    step.start_load_kv()
    step.begin_pass()


def until_save(step: WorkerStep) -> None:
    until_pass(step)
    for layer in LAYERS:
        step.wait_for_layer_load(layer)
        step.save_kv_layer(layer, CACHE)


WRONG: dict[str, Callable[[WorkerStep], object]] = {
    "load-before-start": lambda s: s.wait_for_layer_load("a"),
    "load-before-a-pass": lambda s: (s.start_load_kv(), s.wait_for_layer_load("a")),
    "start-twice": lambda s: (s.start_load_kv(), s.start_load_kv()),
    "wait-before-start": lambda s: s.wait_for_save(),
    "finished-before-wait": lambda s: (s.start_load_kv(), s.get_finished()),
    "second-layer-first": lambda s: (until_pass(s), s.wait_for_layer_load("b")),
    "unknown-layer": lambda s: (until_pass(s), s.wait_for_layer_load("c")),
    "save-before-load": lambda s: (until_pass(s), s.save_kv_layer("a", CACHE)),
    "load-twice": lambda s: (until_pass(s), [s.wait_for_layer_load("a") for _ in range(2)]),
    "layer-too-many": lambda s: (until_save(s), s.wait_for_layer_load("a")),
    "wait-with-a-layer-left": lambda s: (
        until_pass(s),
        s.wait_for_layer_load("a"),
        s.save_kv_layer("a", CACHE),
        s.wait_for_save(),
    ),
    "wait-without-a-pass": lambda s: (s.start_load_kv(), s.wait_for_save()),
    "wait-twice": lambda s: (until_save(s), s.wait_for_save(), s.wait_for_save()),
    "save-after-wait": lambda s: (until_save(s), s.wait_for_save(), s.save_kv_layer("a", CACHE)),
    "finished-twice": lambda s: (whole(s), s.get_finished()),
    "second-pass": lambda s: (until_pass(s), s.begin_pass()),
    "replayed-though-not-captured": lambda s: (s.start_load_kv(), s.layers_replayed()),
}


def test_a_whole_step_calls_everything_once_in_order(noting):
    connector = noting()
    with worker_step(connector, prepare(connector, REAL), LAYERS) as step:
        whole(step)
    assert connector.calls == [
        "build 1",
        "bind",
        "start",
        "load a",
        "save a",
        "load b",
        "save b",
        "wait",
        "finished []",
        "clear",
    ]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_call_out_of_its_place_is_refused_and_the_step_is_cleared(noting, wrong: Callable):
    connector = noting()
    with (
        pytest.raises(LifecycleError, match="; accepted: "),
        worker_step(connector, prepare(connector, REAL), LAYERS) as step,
    ):
        wrong(step)
    assert connector.bound is None
    assert connector.calls[-1] == "clear"


def test_a_step_that_ends_early_without_an_error_is_refused(noting):
    connector = noting()
    with (
        pytest.raises(LifecycleError, match="a step that ends is loading; accepted: finished"),
        worker_step(connector, prepare(connector, REAL), LAYERS) as step,
    ):
        step.start_load_kv()
    assert connector.bound is None


def test_an_error_of_the_forward_pass_is_what_the_caller_sees(noting):
    connector = noting()
    with (
        pytest.raises(ZeroDivisionError),
        worker_step(connector, prepare(connector, REAL), LAYERS),
    ):
        raise ZeroDivisionError
    assert connector.bound is None


def test_outside_its_block_a_step_is_closed(noting):
    connector = noting()
    with worker_step(connector, prepare(connector), LAYERS) as step:
        whole(step)
    for call in (step.start_load_kv, step.begin_pass, step.wait_for_save, step.get_finished):
        with pytest.raises(LifecycleError, match="closed"):
            call()
    with pytest.raises(LifecycleError, match="closed"):
        step.wait_for_layer_load("a")


def test_nothing_prepared_is_refused(noting):
    with (
        pytest.raises(LifecycleError, match="not prepared"),
        worker_step(noting(), None, LAYERS),
    ):
        pass


def test_metadata_of_another_connector_is_refused(noting, connector):
    with (
        pytest.raises(LifecycleError, match=r"made by .*FileConnector"),
        worker_step(noting(), prepare(connector), LAYERS),
    ):
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.start_load_kv(),
        lambda c: c.wait_for_layer_load("layer.0"),
        lambda c: c.save_kv_layer("layer.0", CACHE),
        lambda c: c.wait_for_save(),
        lambda c: c.get_finished(frozenset()),
        lambda c: c.bind_connector_metadata(None),
        lambda c: c.bind_connector_metadata({"made": "elsewhere"}),
    ],
    ids=["start", "load", "save", "wait", "finished", "bind-none", "bind-other"],
)
def test_our_connectors_refuse_calls_with_nothing_of_theirs_bound(connector, call: Callable):
    with pytest.raises(LifecycleError):
        call(connector)


def test_binding_twice_is_refused(connector):
    metadata = connector.build_connector_meta(EMPTY)
    connector.bind_connector_metadata(metadata)
    with pytest.raises(LifecycleError, match="called twice"):
        connector.bind_connector_metadata(metadata)


def test_a_connector_that_changes_the_output_or_makes_no_metadata_is_refused(noting):
    class Changing(noting):
        def build_connector_meta(self, output: SchedulerOutput) -> dict[str, object]:
            object.__setattr__(output, "finished", frozenset({"r"}))
            return super().build_connector_meta(output)

    class Silent(noting):
        def build_connector_meta(self, output: SchedulerOutput):
            return None

    with pytest.raises(LifecycleError, match="unchanged"):
        prepare(Changing(), SchedulerOutput(step=5))
    with pytest.raises(LifecycleError, match=r"metadata from .*Silent is None"):
        prepare(Silent())


def test_a_dummy_step_may_run_its_layers_more_than_once(noting):
    connector = noting()
    with worker_step(connector, prepare(connector), LAYERS) as step:
        assert step.dummy
        until_save(step)
        step.begin_pass()
        for layer in LAYERS:
            step.wait_for_layer_load(layer)
            step.save_kv_layer(layer, CACHE)
        step.wait_for_save()
        step.get_finished()
    assert connector.calls.count("load b") == 2


def begun_again(step: WorkerStep, hooks: int) -> None:
    until_pass(step)
    for i in range(hooks):
        layer = LAYERS[i // 2]
        if i % 2:
            step.save_kv_layer(layer, CACHE)
        else:
            step.wait_for_layer_load(layer)
    step.begin_pass()


@pytest.mark.parametrize("hooks", [1, 2, 3])
def test_a_pass_that_was_begun_is_gone_through_in_dummy_steps_too(noting, hooks: int):
    connector = noting()
    with (
        pytest.raises(LifecycleError, match=f"begun after {hooks} hooks of another; accepted: "),
        worker_step(connector, prepare(connector), LAYERS) as step,
    ):
        begun_again(step, hooks)
    assert connector.bound is None


def test_metadata_travels_between_processes(connector):
    prepared = prepare(connector, REAL)
    assert pickle.loads(pickle.dumps(prepared)) == prepared


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (GraphPolicy.CAPTURED, GraphMode.FULL, GraphMode.FULL),
        (GraphPolicy.CAPTURED, GraphMode.PIECEWISE, GraphMode.PIECEWISE),
        (GraphPolicy.CAPTURED, GraphMode.EAGER, GraphMode.EAGER),
        (GraphPolicy.PIECEWISE, GraphMode.FULL, GraphMode.PIECEWISE),
        (GraphPolicy.PIECEWISE, GraphMode.PIECEWISE, GraphMode.PIECEWISE),
        (GraphPolicy.PIECEWISE, GraphMode.EAGER, GraphMode.EAGER),
        (None, GraphMode.FULL, PolicyError),
        (None, GraphMode.PIECEWISE, GraphMode.PIECEWISE),
        (None, GraphMode.EAGER, GraphMode.EAGER),
    ],
)
def test_the_policy_of_a_connector_decides_the_mode(noting, policy, asked, expected):
    if expected is PolicyError:
        with pytest.raises(PolicyError, match="graph_policy of Noting is None"):
            graph_mode(noting(policy), asked)
    else:
        assert graph_mode(noting(policy), asked) is expected


def test_a_connector_without_the_attribute_is_refused_under_full_and_none_needs_none():
    with pytest.raises(PolicyError):
        graph_mode(object(), GraphMode.FULL)
    assert graph_mode(None, GraphMode.FULL) is GraphMode.FULL
