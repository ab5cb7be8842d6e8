"""The rows of one step, as tensors of fixed dtype: what the forward pass of a step is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ir.connector.contract import SchedulerOutput
from ir.connector.model import ModelSize

PADDING = (0, 0, -1, 0)
"""Of the rows that pad: token 0 at position 0 of the null block, and no slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """tokens, position, slot: (rows,) int64. table: (rows, blocks per request) int64.

    `ends` maps each request to the row of its last token.
    """

    tokens: Tensor
    position: Tensor
    slot: Tensor
    table: Tensor
    ends: dict[str, int]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.tokens, self.position, self.slot, self.table


def batch_of(output: SchedulerOutput, size: ModelSize) -> Batch:
    """One row for each scheduled token, request after request."""
    rows: list[tuple[int, int, int]] = []
    tables: list[list[int]] = []
    ends: dict[str, int] = {}
    for r in output.requests:
        table = [*r.blocks, *[0] * (size.blocks_per_request - len(r.blocks))]
        for i, token in enumerate(r.tokens):
            position = r.start + i
            slot = r.blocks[position // size.block_size] * size.block_size
            rows.append((token, position, slot + position % size.block_size))
            tables.append(table)
        ends[r.request] = len(rows) - 1
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).unbind(1)
    tokens, position, slot = (c.contiguous() for c in columns)
    return Batch(
        tokens=tokens,
        position=position,
        slot=slot,
        table=torch.tensor(tables, dtype=torch.int64).reshape(-1, size.blocks_per_request),
        ends=ends,
    )


def dummy_batch(rows: int, size: ModelSize) -> Batch:
    """Rows of padding alone: what warm-up and capture run."""
    tokens, position, slot, table = PADDING
    return Batch(
        tokens=torch.full((rows,), tokens),
        position=torch.full((rows,), position),
        slot=torch.full((rows,), slot),
        table=torch.full((rows, size.blocks_per_request), table),
        ends={},
    )
