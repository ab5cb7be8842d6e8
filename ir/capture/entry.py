"""The way in: `capture` turns a function and its static inputs into a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from ir.capture import cuda, host, session
from ir.capture.graph import CapturedGraph, check_inputs
from ir.capture.ledger import AddressLedger

Backend = Literal["auto", "host", "cuda"]


def _names(fn: Callable[..., object], count: int) -> tuple[str, ...]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(plain[i] if i < len(plain) else str(i) for i in range(count))


def capture(
    fn: Callable[..., object],
    *static_inputs: Tensor,
    generators: Iterable[torch.Generator] = (),
    owners: Mapping[str, object] | None = None,
    name: str | None = None,
    backend: Backend = "auto",
) -> CapturedGraph:
    """Capture the work of `fn(*static_inputs)` as a graph that repeats it on the same addresses.

    Python runs while the graph is captured and never again: `fn` must make the same calls each
    time, take no value to the host, and keep its state in memory made before. Nothing that it
    writes is seen before the first replay. Gradients are not recorded.

    Args:
        static_inputs: tensors that do not share memory; a replay copies new values into them.
        generators: generators from which `fn` may draw; a replay draws from them anew.
        owners: further objects that own what `fn` uses, by name: state that it looks up where
            its own attributes, closures and globals do not show it.
        name: shown in errors; the function's own by default.
        backend: "auto" is "cuda" where the first input, or else any owner, lies on a GPU.

    Raises CaptureRefused with a reason of `ir.capture.REASONS`.
    """
    shown = name or getattr(fn, "__qualname__", type(fn).__name__)
    names = _names(fn, len(static_inputs))
    with session.capturing():
        check_inputs(static_inputs, names)
        subject = host.Subject(
            name=shown,
            fn=fn,
            inputs=static_inputs,
            names=names,
            generators=tuple(generators),
            owners=dict(owners or {}),
        )
        if backend == "cuda" or (backend == "auto" and cuda.lies_on_gpu(subject)):
            return cuda.capture_cuda(subject)
        recording, entries = host.capture_host(subject)
        unwritten = host.unwritten(subject, recording)
    tape = recording.recorder.tape
    calls = tuple(entry.repeat for entry in tape.entries)

    def run() -> None:
        for call in calls:
            call()

    return CapturedGraph(
        name=shown,
        backend="host",
        run=run,
        inputs=static_inputs,
        names=names,
        outputs=recording.outputs,
        ledger=AddressLedger(entries),
        poison=tape.poison,
        unwritten=unwritten,
        calls=tuple((entry.name, entry.manner) for entry in tape.entries),
    )
