"""Blocks between caches and files, moved by NIXL: what this connector does that others do not."""

from pathlib import Path

import pytest
import torch

from ir.connector import ConnectorError, ModelSize, PagedModel, Runner, Scheduler
from ir.connector.nixl import NixlFileConnector
from ir.connector.store import entry_key

PROMPT = (7, 8, 9, 10, 11, 12, 13, 14)

pytestmark = pytest.mark.usefixtures("nixl")


def serve(root: Path, size: ModelSize) -> tuple[dict[str, list[int]], dict[str, str], int]:
    """Tokens, failures, and how many tokens of the prompt were loaded."""
    connector = NixlFileConnector(root, model="m", block_size=size.block_size)
    runner = Runner(PagedModel(size, seed=1), connector)
    scheduler = Scheduler(size, connector, rows=8)
    scheduler.add("r", PROMPT, tokens=3)
    done: dict[str, list[int]] = {}
    failed: dict[str, str] = {}
    loaded = 0
    while not scheduler.idle:
        output = scheduler.step()
        loaded += sum(r.load for r in output.requests)
        result = runner.step(output)
        failed.update(result.failed)
        done.update(scheduler.update(result.tokens, result.failed))
    return done, failed, loaded


@pytest.mark.parametrize("block_size", [2, 4, 8])
def test_an_engine_with_other_blocks_loads_what_one_has_saved(tmp_path: Path, block_size: int):
    saved = serve(tmp_path, ModelSize())
    assert saved[1:] == ({}, 0)
    other = ModelSize(block_size=block_size, blocks_per_request=16 // block_size)
    assert serve(tmp_path, other) == (saved[0], {}, len(PROMPT))


def test_an_entry_of_another_number_of_tokens_is_refused(tmp_path: Path):
    saved = serve(tmp_path, ModelSize())
    connector = NixlFileConnector(tmp_path, model="m", block_size=4)
    runner = Runner(PagedModel(ModelSize(), seed=1), connector)
    connector.store.save(
        entry_key("m", PROMPT), connector._engine(), connector._bases, tokens=4, blocks=((1,),)
    )
    runner.dummy_run()
    done, failed, _ = serve(tmp_path, ModelSize())
    assert (done, list(failed)) == ({}, ["r"])
    assert "is of 4 tokens; accepted: 8" in failed["r"]
    assert saved[0].keys() == {"r"}


@pytest.mark.parametrize(
    ("caches", "refused"),
    [
        (
            {"layer.0": torch.zeros(2, 3, 4, 2, 8).transpose(1, 2)},
            r"the cache of layer 'layer.0' is .* on cpu; accepted: contiguous memory of the host",
        ),
        ({"layer.0": torch.zeros(2, 3, 8, 2, 8)}, "block_size is 4; accepted: 8"),
    ],
)
def test_caches_that_blocks_cannot_be_read_from_are_refused(tmp_path: Path, caches, refused: str):
    connector = NixlFileConnector(tmp_path, model="m", block_size=4)
    with pytest.raises(ConnectorError, match=refused):
        connector.register_kv_caches(caches)
