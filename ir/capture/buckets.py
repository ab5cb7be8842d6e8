"""Padded replay: one graph for each batch size of a few, smaller batches padded to the next.

The rows that pad are set before every replay, not once: the last batch may have been larger, and
its rows would be computed, and written to the KV cache, again. What a padded row does to shared
memory follows from its values (slot -1, the null block), which the caller chooses.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ir.capture.entry import Backend, capture
from ir.capture.errors import CaptureRefused, ReplayError
from ir.capture.graph import CapturedGraph


class BucketedGraphs:
    """Graphs of one function for several batch sizes. Made by `capture_buckets`."""

    def __init__(
        self,
        *,
        name: str,
        graphs: Mapping[int, CapturedGraph],
        padding: Sequence[float | int | None],
        batched: Sequence[bool],
    ) -> None:
        self.name = name
        self.graphs = dict(sorted(graphs.items()))
        self.sizes = tuple(self.graphs)
        self._padding = tuple(padding)
        self._batched = tuple(batched)
        self._busy = threading.Lock()

    def bucket(self, rows: int) -> int:
        """The smallest captured size that holds `rows`. Raises ReplayError."""
        if rows < 1 or rows > self.sizes[-1]:
            raise ReplayError(f"batch of {self.name}", rows, f"1 to {self.sizes[-1]} rows")
        return self.sizes[bisect_left(self.sizes, rows)]

    def replay(self, *inputs: Tensor) -> object:
        """Replay the smallest graph that holds the batch; results have the batch's own rows.

        Raises ReplayError for unlike numbers of rows, shapes or dtypes, StaleAddress.
        """
        if len(inputs) != len(self._padding):
            raise ReplayError("number of inputs", len(inputs), str(len(self._padding)))
        rows = self._rows(inputs)
        graph = self.graphs[self.bucket(rows)]
        # The graphs share their inputs.
        if not self._busy.acquire(blocking=False):
            raise ReplayError(self.name, "being replayed", "one replay at a time")
        try:
            for i, (given, own, pad) in enumerate(
                zip(inputs, graph.inputs, self._padding, strict=True)
            ):
                self._place(i, given, own, pad)
            leaves, spec = tree_flatten(graph.replay())
        finally:
            self._busy.release()
        cut = iter(self._batched)
        return tree_unflatten(
            [
                leaf[:rows].clone() if isinstance(leaf, Tensor) and next(cut) else leaf
                for leaf in leaves
            ],
            spec,
        )

    def _rows(self, inputs: Sequence[Tensor]) -> int:
        rows = {t.shape[0] for t, p in zip(inputs, self._padding, strict=True) if p is not None}
        if len(rows) != 1:
            raise ReplayError("rows of the batched inputs", sorted(rows), "one number for all")
        return rows.pop()

    def _place(self, i: int, given: Tensor, own: Tensor, pad: float | int | None) -> None:
        wanted = own.shape if pad is None else (given.shape[0], *own.shape[1:])
        # A copy would cast silently: 64-bit slots cut to 32 bits, say.
        if given.shape != wanted or given.dtype is not own.dtype:
            raise ReplayError(
                f"input {i}", f"{given.dtype}{list(given.shape)}", f"{own.dtype}{list(wanted)}"
            )
        if pad is None:
            own.copy_(given)
        else:
            own[: given.shape[0]].copy_(given)
            own[given.shape[0] :].fill_(pad)

    def seal(self) -> None:
        """Refuse, from here on, whoever would move a state that the graphs use."""
        for graph in self.graphs.values():
            graph.seal()

    def release(self) -> None:
        """Undo `seal`."""
        for graph in self.graphs.values():
            graph.release()


def capture_buckets(
    fn: Callable[..., object],
    *largest: Tensor,
    sizes: Iterable[int],
    padding: Sequence[float | int | None],
    batched: Sequence[bool] | None = None,
    generators: Iterable[torch.Generator] = (),
    owners: Mapping[str, object] | None = None,
    name: str | None = None,
    backend: Backend = "auto",
) -> BucketedGraphs:
    """Capture `fn` once for each size, on the leading rows of shared static inputs.

    Args:
        largest: static inputs for the largest size; dimension 0 of a batched one is the rows.
        sizes: the batch sizes to capture, from the largest down, so that state grows first.
        padding: for each input the value of the rows that pad, None for an input without rows.
        batched: for each tensor that `fn` returns whether dimension 0 is the rows; all by default.

    While it is captured, all rows hold the padding. Raises CaptureRefused.
    """
    wanted = sorted(set(sizes), reverse=True)
    batch = [t for t, p in zip(largest, padding, strict=True) if p is not None]
    if not wanted or wanted[-1] < 1 or not batch or any(t.shape[0] != wanted[0] for t in batch):
        raise CaptureRefused(
            "inputs",
            f"sizes {wanted} with inputs of {[t.shape[0] for t in batch]} rows",
            "sizes from 1 up, the largest that of every batched input",
        )
    shown = name or getattr(fn, "__qualname__", type(fn).__name__)
    for t, pad in zip(largest, padding, strict=True):
        if pad is not None:
            t.fill_(pad)
    graphs: dict[int, CapturedGraph] = {}
    cut: tuple[bool, ...] = ()
    for size in wanted:
        inputs = [t if p is None else t[:size] for t, p in zip(largest, padding, strict=True)]
        graph = capture(
            fn,
            *inputs,
            generators=tuple(generators),
            owners=owners,
            name=f"{shown}[{size}]",
            backend=backend,
        )
        results = [v for v in tree_flatten(graph.outputs)[0] if isinstance(v, Tensor)]
        cut = tuple(batched) if batched is not None else (True,) * len(results)
        for i, (t, is_batched) in enumerate(zip(results, cut, strict=True)):
            if is_batched and (t.ndim == 0 or t.shape[0] != size):
                raise CaptureRefused(
                    "outputs",
                    f"result {i} of {shown} has shape {list(t.shape)} for {size} rows",
                    "batched= saying which results have rows",
                )
        graphs[size] = graph
    return BucketedGraphs(name=shown, graphs=graphs, padding=padding, batched=cut)
