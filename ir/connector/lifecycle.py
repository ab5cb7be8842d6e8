"""The only way to a connector's worker side: a step, entered as a context manager.

Dummy runs enter it like real ones. Their metadata is what the connector itself builds from the
empty scheduler output, so that it never sees metadata that it did not make.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from ir.capture import calls_recorded
from ir.connector.contract import (
    EMPTY,
    Finished,
    GraphPolicy,
    SchedulerOutput,
    SchedulerSide,
    WorkerSide,
)
from ir.connector.errors import LifecycleError, PolicyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One step's metadata, with the kind of connector that made it."""

    metadata: object
    made_by: str
    dummy: bool
    finished: frozenset[str]


def _kind(connector: object) -> str:
    return f"{type(connector).__module__}.{type(connector).__qualname__}"


def prepare(connector: SchedulerSide, output: SchedulerOutput = EMPTY) -> Prepared:
    """Let the connector build its metadata; without an output, that of a dummy run.

    Raises LifecycleError where the connector makes none or changes the output.
    """
    before = repr(output)
    metadata = connector.build_connector_meta(output)
    if repr(output) != before:
        raise LifecycleError(
            f"scheduler output after build_connector_meta of {_kind(connector)}",
            repr(output),
            f"unchanged, {before}",
        )
    if metadata is None:
        raise LifecycleError(
            f"metadata from {_kind(connector)}", "None", "an object, for empty outputs too"
        )
    return Prepared(
        metadata=metadata,
        made_by=_kind(connector),
        dummy=not output.requests,
        finished=output.finished,
    )


class _Phase(enum.Enum):
    BOUND = "bound"
    LAYERS = "loading"
    SAVED = "saved"
    FINISHED = "finished"
    CLOSED = "closed"


class WorkerStep:
    """A connector's worker side for one step. Made by `worker_step`; every call is checked."""

    def __init__(self, connector: WorkerSide, prepared: Prepared, layers: Sequence[str]) -> None:
        self._connector = connector
        self._prepared = prepared
        self._layers = tuple(layers)
        self._phase = _Phase.BOUND
        # Hooks of one pass: (layer 0, load), (layer 0, save), (layer 1, load), ...
        self._hooks = 0
        self._passes = 0

    @property
    def dummy(self) -> bool:
        return self._prepared.dummy

    def _require(self, call: str, phase: _Phase) -> None:
        if self._phase is not phase:
            raise LifecycleError(f"{call} in a step that", self._phase.value, phase.value)

    def start_load_kv(self) -> None:
        self._require("start_load_kv", _Phase.BOUND)
        self._connector.start_load_kv()
        self._phase = _Phase.LAYERS

    def begin_pass(self) -> None:
        """Before the first layer of a forward pass. A real step has one, a dummy step any number,
        since a capture runs the layers more than once.

        Raises LifecycleError within a pass: one that was begun is gone through, or the step ends.
        """
        self._require("a forward pass", _Phase.LAYERS)
        if self._passes and not self.dummy:
            raise LifecycleError("a forward pass", "the second of a real step", "one")
        if self._hooks not in (0, 2 * len(self._layers)):
            raise LifecycleError(
                "a forward pass",
                f"begun after {self._hooks} hooks of another",
                f"after a whole pass of {2 * len(self._layers)} hooks",
            )
        self._passes += 1
        self._hooks = 0

    def _hook(self, call: str, layer: str, which: int) -> None:
        self._require(call, _Phase.LAYERS)
        if not self._passes:
            raise LifecycleError(call, "before begin_pass", "within a forward pass")
        expected = self._hooks // 2
        wanted = self._layers[expected] if expected < len(self._layers) else "no further layer"
        if layer != wanted or self._hooks % 2 != which:
            due = "wait_for_layer_load" if self._hooks % 2 == 0 else "save_kv_layer"
            raise LifecycleError(call, f"of layer {layer!r}", f"{due} of {wanted!r}")
        self._hooks += 1

    def wait_for_layer_load(self, layer: str) -> None:
        self._hook("wait_for_layer_load", layer, 0)
        with self._captured("wait_for_layer_load", layer):
            self._connector.wait_for_layer_load(layer)

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        self._hook("save_kv_layer", layer, 1)
        with self._captured("save_kv_layer", layer):
            self._connector.save_kv_layer(layer, cache)

    @contextmanager
    def _captured(self, call: str, layer: str) -> Iterator[None]:
        """Refuse a hook that is being captured and records nothing: a replay would skip it."""
        before = calls_recorded()
        yield
        if before is not None and calls_recorded() == before:
            raise PolicyError(
                f"{call} of layer {layer!r} of {_kind(self._connector)} in a captured graph",
                "without work on the device",
                f"copies on fixed addresses, in dummy runs too, or {GraphPolicy.PIECEWISE}",
            )

    def layers_replayed(self) -> None:
        """A graph into which the hooks were captured has run them.

        Raises LifecycleError for a connector whose hooks are not captured: a replay skips them.
        """
        if self._connector.graph_policy is not GraphPolicy.CAPTURED:
            raise LifecycleError(
                f"a replayed pass with graph_policy of {_kind(self._connector)}",
                repr(self._connector.graph_policy),
                repr(GraphPolicy.CAPTURED),
            )
        self.begin_pass()
        self._hooks = 2 * len(self._layers)

    def wait_for_save(self) -> None:
        self._require("wait_for_save", _Phase.LAYERS)
        if not self._passes or self._hooks != 2 * len(self._layers):
            raise LifecycleError(
                "wait_for_save",
                f"after {self._hooks} hooks of {self._passes} passes",
                f"after a whole pass of {2 * len(self._layers)} hooks",
            )
        self._connector.wait_for_save()
        self._phase = _Phase.SAVED

    def get_finished(self) -> Finished:
        self._require("get_finished", _Phase.SAVED)
        found = self._connector.get_finished(self._prepared.finished)
        self._phase = _Phase.FINISHED
        return found

    def close(self, *, failed: bool) -> None:
        """The end of the step; `worker_step` calls it."""
        phase, self._phase = self._phase, _Phase.CLOSED
        if not failed and phase is not _Phase.FINISHED:
            raise LifecycleError("a step that ends", phase.value, _Phase.FINISHED.value)


@contextmanager
def worker_step(
    connector: WorkerSide, prepared: Prepared | None, layers: Sequence[str]
) -> Iterator[WorkerStep]:
    """Bind the metadata, hand out the worker side, and clear the metadata whatever happens.

    Raises LifecycleError where nothing was prepared, where another kind of connector made the
    metadata, and where the block ends before `get_finished` without an error of its own.
    """
    if prepared is None:
        raise LifecycleError("metadata", "not prepared", "prepare(connector, output)")
    if prepared.made_by != _kind(connector):
        raise LifecycleError(
            f"metadata for {_kind(connector)}", f"made by {prepared.made_by}", "metadata of its own"
        )
    step = WorkerStep(connector, prepared, layers)
    connector.bind_connector_metadata(prepared.metadata)
    failed = True
    try:
        yield step
        failed = False
    finally:
        connector.clear_connector_metadata()
        step.close(failed=failed)
