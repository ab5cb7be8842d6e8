"""A runner small enough to read: one step, real or dummy, always by the same way.

Every step, those of warm-up and capture too, enters the connector by `worker_step` with metadata
that the connector has built. Under FULL one graph holds the forward pass with the connector's
hooks; under PIECEWISE graphs hold what lies between attentions, and hooks run in Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from ir.capture import BucketedGraphs, capture_buckets
from ir.connector.batch import PADDING, Batch, batch_of, dummy_batch
from ir.connector.contract import EMPTY, Connector, Finished, SchedulerOutput
from ir.connector.errors import PolicyError
from ir.connector.lifecycle import WorkerStep, prepare, worker_step
from ir.connector.model import PagedModel
from ir.connector.policy import GraphMode, graph_mode

Piece = Callable[..., object]


@dataclass(slots=True)
class Hooks:
    """What the forward pass calls at each layer: the step that is open, or nothing."""

    step: WorkerStep | None = None

    def before(self, layer: str) -> None:
        if self.step is not None:
            self.step.wait_for_layer_load(layer)

    def after(self, layer: str, cache: Tensor) -> None:
        if self.step is not None:
            self.step.save_kv_layer(layer, cache)

    def begin(self) -> None:
        if self.step is not None:
            self.step.begin_pass()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The next token of each request that succeeded, and why others failed.

    `sent`: requests, most of them over by now, whose KV the connector has sent whole.
    """

    tokens: Mapping[str, int]
    failed: Mapping[str, str]
    logits: Tensor
    """(rows, vocabulary), of all rows of the step."""
    sent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Forward:
    """The forward pass over given pieces: those of the model, or graphs of them."""

    model: PagedModel
    connector: Connector | None
    """Here so that a graph finds who owns what the hooks use: steps come and go."""
    hooks: Hooks
    pieces: Sequence[Piece]

    def __call__(self, tokens: Tensor, position: Tensor, slot: Tensor, table: Tensor) -> object:
        self.hooks.begin()
        x, *qkv = _tensors(self.pieces[0](tokens, position))
        attended = x
        for i, layer in enumerate(self.model.layers):
            self.hooks.before(layer)
            attended = self.model.attend(i, tuple(qkv), position, slot, table)
            self.hooks.after(layer, self.model.caches[layer])
            if i + 1 < len(self.model.layers):
                x, *qkv = _tensors(self.pieces[i + 1](x, attended, position))
        return self.pieces[-1](x, attended)


def _tensors(value: object) -> list[Tensor]:
    if not isinstance(value, tuple):
        raise TypeError(f"a piece returned {type(value).__name__}, accepted: a tuple of tensors")
    return list(value)


def model_pieces(model: PagedModel) -> list[Piece]:
    """Pieces 0 to layers, as functions."""
    middle = [functools.partial(model.middle, i) for i in range(1, model.size.layers)]
    return [model.first, *middle, model.last]


@dataclass(slots=True)
class Runner:
    """A model, a connector, and the graphs of both. `mode` is the one in force."""

    model: PagedModel
    connector: Connector | None = None
    asked: GraphMode = GraphMode.EAGER
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    mode: GraphMode = field(init=False)
    hooks: Hooks = field(init=False, default_factory=Hooks)
    _forward: Callable[..., object] = field(init=False)
    _full: BucketedGraphs | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.mode = graph_mode(self.connector, self.asked)
        self._forward = Forward(self.model, self.connector, self.hooks, model_pieces(self.model))
        if self.connector is not None:
            self.connector.register_kv_caches(self.model.caches)

    @contextmanager
    def _entered(self, output: SchedulerOutput) -> Iterator[WorkerStep | None]:
        """One step of the connector, if there is one: the only place that enters it."""
        if self.connector is None:
            yield None
            return
        prepared = prepare(self.connector, output)
        with worker_step(self.connector, prepared, self.model.layers) as step:
            self.hooks.step = step
            try:
                step.start_load_kv()
                yield step
            finally:
                self.hooks.step = None

    def _finish(self, step: WorkerStep | None) -> Finished:
        if step is None:
            return Finished()
        step.wait_for_save()
        return step.get_finished()

    def warm_up(self) -> None:
        """Capture the graphs of every size, in one dummy step. Nothing is transferred, no KV
        written. Raises CaptureRefused."""
        largest = dummy_batch(max(self.sizes), self.model.size)
        with self._entered(EMPTY) as step:
            if self.mode is GraphMode.FULL:
                self._full = capture_buckets(
                    self._forward, *largest.tensors, sizes=self.sizes, padding=PADDING, name="full"
                )
            elif self.mode is GraphMode.PIECEWISE:
                self._forward = self._with_graphs(largest)
                self._forward(*largest.tensors)
            else:
                self._forward(*largest.tensors)
            self._finish(step)

    def _with_graphs(self, largest: Batch) -> Forward:
        """The forward pass with each piece captured, on inputs as the piece before leaves them."""
        pieces = model_pieces(self.model)
        rows, hidden = largest.tokens.shape[0], self.model.size.hidden
        dtype = self.model.norm.dtype

        def stream() -> Tensor:
            return torch.zeros(rows, hidden, dtype=dtype)

        inputs: list[tuple[Tensor, ...]] = [(largest.tokens.clone(), largest.position.clone())]
        inputs += [(stream(), stream(), largest.position.clone()) for _ in pieces[1:-1]]
        inputs.append((stream(), stream()))
        graphs: list[Piece] = []
        for i, (piece, given) in enumerate(zip(pieces, inputs, strict=True)):
            graph = capture_buckets(
                piece, *given, sizes=self.sizes, padding=(0,) * len(given), name=f"piece {i}"
            )
            graphs.append(graph.replay)
        return Forward(self.model, self.connector, self.hooks, graphs)

    def step(self, output: SchedulerOutput) -> StepResult:
        """One real step. Requests whose KV could not be loaded fail, and only they.

        Raises StaleAddress, LifecycleError; PolicyError before `warm_up` under FULL.
        """
        batch = batch_of(output, self.model.size)
        with self._entered(output) as step:
            logits = self._run(batch, step) if batch.ends else self._no_rows(step)
            finished = self._finish(step)
        tokens = {
            name: int(logits[row].argmax())
            for name, row in batch.ends.items()
            if name not in finished.failed
        }
        return StepResult(
            tokens=MappingProxyType(tokens),
            failed=finished.failed,
            logits=logits,
            sent=finished.sent,
        )

    def dummy_run(self, rows: int = 1) -> Tensor:
        """A forward pass of padding alone, by the way of a real step; gives its logits."""
        with self._entered(EMPTY) as step:
            logits = self._run(dummy_batch(rows, self.model.size), step)
            self._finish(step)
        return logits

    def _no_rows(self, step: WorkerStep | None) -> Tensor:
        # The connector may still have something to finish, and its step must be whole.
        return self._run(dummy_batch(1, self.model.size), step)[:0]

    def _run(self, batch: Batch, step: WorkerStep | None) -> Tensor:
        if self.mode is GraphMode.FULL:
            if self._full is None:
                raise PolicyError("a step under FULL", "before warm_up", "warm_up first")
            logits = self._full.replay(*batch.tensors)
            if step is not None:
                step.layers_replayed()
        else:
            logits = self._forward(*batch.tensors)
        if not isinstance(logits, Tensor):
            raise TypeError(f"logits are {type(logits).__name__}, accepted: a tensor")
        return logits
