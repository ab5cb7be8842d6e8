"""A connector as somebody else would write it, that notes every call and whose metadata it was."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ir.connector import (
    FileConnector,
    Finished,
    GraphPolicy,
    ModelSize,
    PagedModel,
    SchedulerOutput,
    StagedFileConnector,
)
from ir.connector.nixl import NixlFileConnector
from ir.transfer.nixl import NixlMissingError
from ir.transfer.nixl.binding import installed

CONNECTORS = {
    "file": FileConnector,
    "staged": StagedFileConnector,
    "nixl-file": NixlFileConnector,
}


class Noting:
    """Out of tree: no base class of ours, mutable metadata, and it trusts nobody."""

    def __init__(self, policy: GraphPolicy | None = GraphPolicy.PIECEWISE) -> None:
        self.graph_policy = policy
        self.calls: list[str] = []
        self.made: list[dict[str, object]] = []
        self.bound: dict[str, object] | None = None
        self.seen: list[bool] = []
        """For each bind whether the metadata was the connector's own."""

    def matched_tokens(self, prompt: tuple[int, ...]) -> int:
        return 0

    def build_connector_meta(self, output: SchedulerOutput) -> dict[str, object]:
        self.calls.append(f"build {len(output.requests)}")
        self.made.append({"requests": [r.request for r in output.requests]})
        return self.made[-1]

    def register_kv_caches(self, caches: Mapping[str, Tensor]) -> None:
        self.calls.append(f"register {len(caches)}")

    def bind_connector_metadata(self, metadata: object) -> None:
        self.seen.append(any(metadata is m for m in self.made))
        if not isinstance(metadata, dict):
            raise TypeError(f"not metadata of mine: {metadata!r}")
        self.bound = metadata
        self.calls.append("bind")

    def _note(self, call: str) -> None:
        if self.bound is None:
            raise AssertionError(f"{call} with nothing bound")
        self.calls.append(call)

    def start_load_kv(self) -> None:
        self._note("start")

    def wait_for_layer_load(self, layer: str) -> None:
        self._note(f"load {layer}")

    def save_kv_layer(self, layer: str, cache: Tensor) -> None:
        self._note(f"save {layer}")

    def wait_for_save(self) -> None:
        self._note("wait")

    def get_finished(self, finished: frozenset[str]) -> Finished:
        self._note(f"finished {sorted(finished)}")
        return Finished()

    def clear_connector_metadata(self) -> None:
        self._note("clear")
        self.bound = None


@pytest.fixture(scope="session")
def noting() -> type[Noting]:
    return Noting


@pytest.fixture(scope="session")
def nixl() -> None:
    """NIXL is there; tests that move data with it ask for it."""
    try:
        installed()
    except NixlMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def model() -> PagedModel:
    torch.manual_seed(0)
    return PagedModel(ModelSize(), seed=1)


@pytest.fixture(params=CONNECTORS)
def connector(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "nixl-file":
        request.getfixturevalue("nixl")
    return CONNECTORS[request.param](tmp_path / "store", model="m", block_size=4)
