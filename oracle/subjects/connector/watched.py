"""A connector around another that notes every call, whose metadata it was, and when the hooks'
work ran on the device.

It is a connector as somebody else would write it: it shares no class with those of `ir`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oracle.observation.connector import Bound, Called, Told
from reference.model.connector import ConnectorCase
from reference.serving import POLICIES

MARKS = 64
"""Hooks that ran on the device since the marks were last read: more are not counted."""


def watched(case: ConnectorCase, root: Path, model: str) -> Any:
    """The case's connector on a store at `root`, for a model of this name, watched."""
    from ir.connector import FileConnector, GraphPolicy, StagedFileConnector

    block_size = case.size.block_size
    if case.connector == "staged":
        inner: Any = StagedFileConnector(
            root, model=model, block_size=block_size, capacity=case.capacity
        )
    else:
        inner = FileConnector(root, model=model, block_size=block_size)
    policy = POLICIES[case.connector]
    found = watching_class()(inner, marked=case.connector == "staged")
    found.graph_policy = (
        inner.graph_policy
        if case.connector in ("file", "staged")
        else None
        if policy is None
        else GraphPolicy(policy)
    )
    return found


@functools.cache
def watching_class() -> type:
    """The class; made on first use, since it holds tensors."""
    import torch

    class Watching:
        def __init__(self, inner: Any, *, marked: bool) -> None:
            self.inner = inner
            self.graph_policy: Any = None
            self.made: list[object] = []
            self.used = 0
            self.metadata: object = None
            self.steps: list[list[Called]] = []
            self.bounds: list[Bound] = []
            self.unbound = 0
            self.told: Told | None = None
            self.finished: frozenset[str] = frozenset()
            self.layers: dict[str, int] = {}
            self.marked = marked
            self.marks = torch.full((MARKS,), -1)
            self.count = torch.zeros(1, dtype=torch.int64)
            self.codes: list[Any] = []

        def matched_tokens(self, prompt: tuple[int, ...]) -> int:
            return self.inner.matched_tokens(prompt)

        def build_connector_meta(self, output: Any) -> object:
            self.made.append(self.inner.build_connector_meta(output))
            return self.made[-1]

        def register_kv_caches(self, caches: Mapping[str, Any]) -> None:
            self.layers = {layer: i for i, layer in enumerate(caches)}
            self.codes = [torch.tensor([i]) for i in range(2 * len(caches))]
            self.inner.register_kv_caches(caches)

        def bind_connector_metadata(self, metadata: object) -> None:
            at = next((i for i, made in enumerate(self.made) if made is metadata), -1)
            self.bounds.append(Bound(own=at >= 0, fresh=at == len(self.made) - 1 >= self.used))
            self.used = len(self.made)
            self.metadata = metadata
            self.steps.append([])
            self._note("bind_connector_metadata")
            self.inner.bind_connector_metadata(metadata)

        def _note(self, call: str, layer: str = "") -> None:
            if self.metadata is None:
                self.unbound += 1
            if not self.steps:
                self.steps.append([])
            self.steps[-1].append((call, self.layers.get(layer, -1) if layer else 0))

        def _mark(self, layer: str, which: int) -> None:
            """A note that is work on the device: a replayed graph takes it too."""
            if self.marked:
                at = self.count.clamp(max=MARKS - 1)
                self.marks.index_put_((at,), self.codes[2 * self.layers[layer] + which])
                self.count.add_(1)

        def start_load_kv(self) -> None:
            self._note("start_load_kv")
            self.inner.start_load_kv()

        def wait_for_layer_load(self, layer: str) -> None:
            self._note("wait_for_layer_load", layer)
            self.inner.wait_for_layer_load(layer)
            self._mark(layer, 0)

        def save_kv_layer(self, layer: str, cache: Any) -> None:
            self._note("save_kv_layer", layer)
            self.inner.save_kv_layer(layer, cache)
            self._mark(layer, 1)

        def wait_for_save(self) -> None:
            self._note("wait_for_save")
            self.inner.wait_for_save()

        def get_finished(self, finished: frozenset[str]) -> Any:
            self._note("get_finished")
            self.finished = finished
            found = self.inner.get_finished(finished)
            self.told = Told(found.sent, found.received, dict(found.failed))
            return found

        def clear_connector_metadata(self) -> None:
            self._note("clear_connector_metadata")
            self.inner.clear_connector_metadata()
            self.metadata = None

        def ran(self) -> tuple[Called, ...]:
            """The hooks whose work ran on the device since this was last asked."""
            count = int(self.count)
            codes = self.marks[: min(count, MARKS)].tolist()
            self.count.zero_()
            names = ("wait_for_layer_load", "save_kv_layer")
            return tuple((names[code % 2], code // 2) for code in codes)

        def forget(self) -> None:
            """Begin to note anew."""
            self.steps, self.bounds, self.unbound = [], [], 0
            self.told, self.finished = None, frozenset()

    return Watching
