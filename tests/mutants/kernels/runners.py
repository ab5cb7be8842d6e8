"""Faults that runners of KV connectors really had, planted one by one into ``ir.connector``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from weakref import WeakKeyDictionary

import pytest
import torch

import ir.connector as connectors
from ir.capture import BucketedGraphs
from ir.connector import (
    FileConnector,
    GraphMode,
    LifecycleError,
    PolicyError,
    layerwise,
    lifecycle,
    staged,
)
from ir.connector import batch as batches
from ir.connector import runner as runners
from ir.connector.lifecycle import WorkerStep
from ir.connector.runner import Runner, StepResult
from ir.connector.transfers import (
    StoredPrompts,
    TransferMetadata,
    bound_metadata,
)
from oracle.subjects.connector import worker as driver
from reference.model.connector import Dummy, Event

Patch = pytest.MonkeyPatch

_graph_mode = runners.graph_mode
_prepare = lifecycle.prepare
_batch_of = batches.batch_of
_build = StoredPrompts.build
_save_hook = WorkerStep.save_kv_layer
_begin = WorkerStep.begin_pass
_close = WorkerStep.close
_entered = Runner._entered
_run = Runner._run
_step = Runner.step
_replay = BucketedGraphs.replay


def _everywhere(patch: Patch, name: str, replacement: object) -> None:
    """Where the runner finds it, and where a step by hand does."""
    patch.setattr(runners, name, replacement)
    patch.setattr(connectors, name, replacement)


def _dummy_metadata_lacks_a_field(patch: Patch) -> None:
    """vllm#28537: what capture is given is less than a real step's, and an assertion says so."""

    def start_load_kv(self: FileConnector) -> None:
        metadata = bound_metadata(self._metadata, "start_load_kv")
        if not metadata.loads and not metadata.saves:
            raise AssertionError("no metadata of this step")

    patch.setattr(FileConnector, "start_load_kv", start_load_kv)


def _full_is_refused_where_it_could_give_way(patch: Patch) -> None:
    def graph_mode(connector: object, asked: GraphMode) -> GraphMode:
        found = _graph_mode(connector, asked)
        if found is not asked:
            raise PolicyError("graphs", asked.value, found.value)
        return found

    patch.setattr(runners, "graph_mode", graph_mode)


def _dummy_run_has_a_way_of_its_own(patch: Patch) -> None:
    """vllm#26675, vllm#28253, vllm#27026: hooks are called, but no step was entered."""

    @contextmanager
    def entered(self: Runner, output: connectors.SchedulerOutput) -> Iterator[WorkerStep | None]:
        if output.requests or self.connector is None:
            with _entered(self, output) as step:
                yield step
            return
        self.connector.start_load_kv()
        yield None

    patch.setattr(Runner, "_entered", entered)


def _undeclared_connectors_pass(patch: Patch) -> None:
    """vllm#31057: who does not opt in to piecewise graphs is captured and skipped."""

    def graph_mode(connector: object, asked: GraphMode) -> GraphMode:
        if getattr(connector, "graph_policy", None) is None:
            return GraphMode.EAGER
        return _graph_mode(connector, asked)

    patch.setattr(runners, "graph_mode", graph_mode)


def _undeclared_connectors_are_refused_late(patch: Patch) -> None:
    """The policy is asked for once a step has run."""
    late: list[PolicyError] = []

    def graph_mode(connector: object, asked: GraphMode) -> GraphMode:
        late.clear()
        try:
            return _graph_mode(connector, asked)
        except PolicyError as error:
            late.append(error)
            return GraphMode.EAGER

    def step(self: Runner, output: connectors.SchedulerOutput) -> StepResult:
        if late:
            raise late.pop()
        return _step(self, output)

    patch.setattr(runners, "graph_mode", graph_mode)
    patch.setattr(Runner, "step", step)


def _what_hooks_record_is_not_looked_at(patch: Patch) -> None:
    """vllm#29608, vllm#29755: Python hooks are captured as nothing, and a replay skips them."""

    @contextmanager
    def captured(self: WorkerStep, call: str, layer: str) -> Iterator[None]:
        yield

    patch.setattr(WorkerStep, "_captured", captured)


def _refusal_is_no_documented_error(patch: Patch) -> None:
    def graph_mode(connector: object, asked: GraphMode) -> GraphMode:
        try:
            return _graph_mode(connector, asked)
        except PolicyError as error:
            raise ValueError(str(error)) from error

    patch.setattr(runners, "graph_mode", graph_mode)


def _graphs_are_given_up_silently(patch: Patch) -> None:
    """TensorRT-LLM#16072: an eager fallback that nobody is told of."""

    def graph_mode(connector: object, asked: GraphMode) -> GraphMode:
        found = _graph_mode(connector, asked)
        return GraphMode.EAGER if found is not asked else found

    patch.setattr(runners, "graph_mode", graph_mode)


def _dummy_runs_are_left_out(patch: Patch) -> None:
    """What drives the worker never comes to its dummy runs, and tells nobody."""
    happen = driver._Driven._happen

    def some(self: driver._Driven, event: Event) -> None:
        if not isinstance(event, Dummy):
            happen(self, event)

    patch.setattr(driver._Driven, "_happen", some)


def _hooks_are_turned_off_in_dummy_runs(patch: Patch) -> None:
    """vllm#27026, as merged: nothing is bound in a dummy run, and hooks look away."""

    @contextmanager
    def entered(self: Runner, output: connectors.SchedulerOutput) -> Iterator[WorkerStep | None]:
        if output.requests:
            with _entered(self, output) as step:
                yield step
        else:
            yield None

    patch.setattr(Runner, "_entered", entered)


def _last_layer_is_not_saved(patch: Patch) -> None:
    def save_kv_layer(self: WorkerStep, layer: str, cache: torch.Tensor) -> None:
        if layer == self._layers[-1]:
            self._hook("save_kv_layer", layer, 1)
        else:
            _save_hook(self, layer, cache)

    patch.setattr(WorkerStep, "save_kv_layer", save_kv_layer)


def _captures_start_no_loads(patch: Patch) -> None:
    """Only the step in which graphs are captured never tells the connector that it starts."""
    warm_up = Runner.warm_up

    def without(self: Runner) -> None:
        with pytest.MonkeyPatch.context() as during:
            if self.mode is GraphMode.FULL:
                during.setattr(WorkerStep, "start_load_kv", untold)
            warm_up(self)

    def untold(self: WorkerStep) -> None:
        self._phase = lifecycle._Phase.LAYERS

    patch.setattr(Runner, "warm_up", without)


def _graphs_are_replayed_twice(patch: Patch) -> None:
    def replay(self: BucketedGraphs, *inputs: torch.Tensor) -> object:
        _replay(self, *inputs)
        return _replay(self, *inputs)

    patch.setattr(BucketedGraphs, "replay", replay)


def _real_steps_may_run_twice(patch: Patch) -> None:
    def begin_pass(self: WorkerStep) -> None:
        passes, self._passes = self._passes, 0
        _begin(self)
        self._passes += passes

    patch.setattr(WorkerStep, "begin_pass", begin_pass)


def _passes_may_be_left_half_way(patch: Patch) -> None:
    def begin_pass(self: WorkerStep) -> None:
        if self._passes and self.dummy:
            self._hooks = 0
        _begin(self)

    patch.setattr(WorkerStep, "begin_pass", begin_pass)


def _dummy_steps_run_once(patch: Patch) -> None:
    """A capture runs the layers more than once."""

    def begin_pass(self: WorkerStep) -> None:
        if self._passes:
            raise LifecycleError("a forward pass", "the second", "one")
        _begin(self)

    patch.setattr(WorkerStep, "begin_pass", begin_pass)


def _refused_calls_reach_the_connector(patch: Patch) -> None:
    """The order is looked at after the call."""

    def save_kv_layer(self: WorkerStep, layer: str, cache: torch.Tensor) -> None:
        self._connector.save_kv_layer(layer, cache)
        self._hook("save_kv_layer", layer, 1)

    patch.setattr(WorkerStep, "save_kv_layer", save_kv_layer)


def _steps_may_end_early(patch: Patch) -> None:
    def close(self: WorkerStep, *, failed: bool) -> None:
        self._phase = lifecycle._Phase.CLOSED

    patch.setattr(WorkerStep, "close", close)


def _steps_of_two_passes_do_not_end(patch: Patch) -> None:
    def stricter(self: WorkerStep, *, failed: bool) -> None:
        _close(self, failed=failed)
        if self._passes > 1:
            raise LifecycleError("a step that ends", f"{self._passes} passes long", "one")

    patch.setattr(WorkerStep, "close", stricter)


def _steps_are_cleared_twice(patch: Patch) -> None:
    def close(self: WorkerStep, *, failed: bool) -> None:
        self._connector.clear_connector_metadata()
        _close(self, failed=failed)

    patch.setattr(WorkerStep, "close", close)


def _who_finished_is_forgotten(patch: Patch) -> None:
    def prepare(connector, output=connectors.EMPTY):
        return replace(_prepare(connector, output), finished=frozenset())

    _everywhere(patch, "prepare", prepare)


def _dummy_runs_hear_again_who_finished(patch: Patch) -> None:
    heard: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()

    def prepare(connector, output=connectors.EMPTY):
        made = _prepare(connector, output)
        if output is connectors.EMPTY:
            return replace(made, finished=heard.get(connector, frozenset()))
        heard[connector] = output.finished
        return made

    _everywhere(patch, "prepare", prepare)


def _calls_with_nothing_bound_do_nothing(patch: Patch) -> None:
    """vllm#27026, another way: a dummy run binds nothing, and the connector does not mind."""

    @contextmanager
    def worker_step(connector, prepared, layers) -> Iterator[WorkerStep]:
        step = WorkerStep(connector, prepared, layers)
        if not prepared.dummy:
            connector.bind_connector_metadata(prepared.metadata)
        failed = True
        try:
            yield step
            failed = False
        finally:
            connector.clear_connector_metadata()
            step.close(failed=failed)

    def tolerated(metadata: object, call: str) -> TransferMetadata:
        return metadata if isinstance(metadata, TransferMetadata) else TransferMetadata()

    _everywhere(patch, "worker_step", worker_step)
    for module in (layerwise, staged):
        patch.setattr(module, "bound_metadata", tolerated)


def _dummy_metadata_is_made_by_the_runner(patch: Patch) -> None:
    """vllm#28537 by another hand: metadata that the connector never saw."""

    def prepare(connector, output=connectors.EMPTY):
        real = _prepare(connector, output)
        return replace(real, metadata=TransferMetadata()) if real.dummy else real

    _everywhere(patch, "prepare", prepare)


def _dummy_metadata_is_made_once(patch: Patch) -> None:
    kept: dict[int, tuple[object, lifecycle.Prepared]] = {}

    def prepare(connector, output=connectors.EMPTY):
        if output.requests or output.finished:
            return _prepare(connector, output)
        if id(connector) not in kept:
            kept[id(connector)] = connector, _prepare(connector, output)
        return kept[id(connector)][1]

    _everywhere(patch, "prepare", prepare)


def _failed_steps_stay_bound(patch: Patch) -> None:
    @contextmanager
    def worker_step(connector, prepared, layers) -> Iterator[WorkerStep]:
        step = WorkerStep(connector, prepared, layers)
        connector.bind_connector_metadata(prepared.metadata)
        yield step
        step.close(failed=False)
        connector.clear_connector_metadata()

    _everywhere(patch, "worker_step", worker_step)


def _connector_counts_in_the_output(patch: Patch) -> None:
    def prepare(connector, output=connectors.EMPTY):
        return lifecycle.Prepared(
            metadata=connector.build_connector_meta(output),
            made_by=lifecycle._kind(connector),
            dummy=not output.requests,
            finished=output.finished,
        )

    def build(self: StoredPrompts, output: connectors.SchedulerOutput) -> TransferMetadata:
        if output.requests:
            object.__setattr__(output, "step", output.step + 1)
        return _build(self, output)

    _everywhere(patch, "prepare", prepare)
    patch.setattr(StoredPrompts, "build", build)


def _all_tokens_are_of_the_first_row(patch: Patch) -> None:
    def batch_of(output, size):
        made = _batch_of(output, size)
        return replace(made, ends=dict.fromkeys(made.ends, 0))

    patch.setattr(runners, "batch_of", batch_of)


def _rows_come_back_in_reverse(patch: Patch) -> None:
    def run(self: Runner, batch, step) -> torch.Tensor:
        return _run(self, batch, step).flip(0)

    patch.setattr(Runner, "_run", run)


def _a_row_that_pads_comes_back(patch: Patch) -> None:
    def run(self: Runner, batch, step) -> torch.Tensor:
        logits = _run(self, batch, step)
        return torch.cat((logits, logits[-1:]))

    patch.setattr(Runner, "_run", run)


FAULTS: Mapping[str, Callable[[Patch], None]] = MappingProxyType(
    {
        fault.__name__.removeprefix("_"): fault
        for fault in (
            _dummy_metadata_lacks_a_field,
            _full_is_refused_where_it_could_give_way,
            _dummy_run_has_a_way_of_its_own,
            _undeclared_connectors_pass,
            _undeclared_connectors_are_refused_late,
            _what_hooks_record_is_not_looked_at,
            _refusal_is_no_documented_error,
            _graphs_are_given_up_silently,
            _dummy_runs_are_left_out,
            _hooks_are_turned_off_in_dummy_runs,
            _last_layer_is_not_saved,
            _captures_start_no_loads,
            _graphs_are_replayed_twice,
            _real_steps_may_run_twice,
            _passes_may_be_left_half_way,
            _dummy_steps_run_once,
            _refused_calls_reach_the_connector,
            _steps_may_end_early,
            _steps_of_two_passes_do_not_end,
            _steps_are_cleared_twice,
            _who_finished_is_forgotten,
            _dummy_runs_hear_again_who_finished,
            _calls_with_nothing_bound_do_nothing,
            _dummy_metadata_is_made_by_the_runner,
            _dummy_metadata_is_made_once,
            _failed_steps_stay_bound,
            _connector_counts_in_the_output,
            _all_tokens_are_of_the_first_row,
            _rows_come_back_in_reverse,
            _a_row_that_pads_comes_back,
        )
    }
)
"""By name, what plants the fault."""
