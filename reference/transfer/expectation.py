"""What a case must come to: refusals, the memory of every rank, who is told, what gets free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from reference.model.transfer import Transfer, TransferCase

from .cache import tensors_of
from .codes import POISON, SENTINEL, Codes
from .expected import (
    ExpectedTensor,
    Rank,
    expected_notifications,
    expected_stage,
    producer_stage,
)
from .legal import Refused, refused_pair, refused_request

Notes = dict[tuple[Rank, Rank, str], int]


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpectedTransfer:
    """The meaning of one case. `refused` are the engines; `requests` says for each why it is.

    Arrays of a stage have its ranks as their first axis, then blocks, then bytes.
    """

    case: TransferCase
    refused: Refused | None
    requests: tuple[Refused | None, ...]

    @property
    def served(self) -> tuple[tuple[int, Transfer], ...]:
        """The requests that must be served, with their numbers."""
        pairs = zip(self.case.requests, self.requests, strict=True)
        return tuple((i, r) for i, (r, refused) in enumerate(pairs) if refused is None)

    @cached_property
    def producers(self) -> tuple[tuple[Codes, ...], ...]:
        """By stage, the producer's tensors before the transfer, requests to be refused left out."""
        case = self.case
        groups, engine = case.model.groups, case.producer
        found = []
        for stage in range(len(engine.stage_layers)):
            tensors = [
                np.full((engine.tp, engine.num_blocks, n), POISON, dtype=np.uint64)
                for n in tensors_of(groups, engine, stage)[1]
            ]
            for i, request in self.served:
                placed = producer_stage(groups, engine, stage, request, number=i)
                tensors = [
                    np.where(new != np.uint64(POISON), new, old)
                    for new, old in zip(placed, tensors, strict=True)
                ]
            found.append(tuple(tensors))
        return tuple(found)

    @cached_property
    def consumers(self) -> tuple[tuple[ExpectedTensor, ...], ...]:
        """By stage, the consumer's tensors after the transfer of all requests."""
        case = self.case
        groups, engine = case.model.groups, case.consumer
        found = []
        for stage in range(len(engine.stage_layers)):
            merged: list[ExpectedTensor] = [
                ExpectedTensor(
                    np.full((engine.tp, engine.num_blocks, n), SENTINEL, dtype=np.uint64),
                    np.zeros((engine.tp, engine.num_blocks, n), dtype=np.bool_),
                )
                for n in tensors_of(groups, engine, stage)[1]
            ]
            for i, request in self.served:
                placed = expected_stage(groups, case.producer, engine, stage, request, number=i)
                merged = [
                    ExpectedTensor(np.maximum(old.codes, new.codes), old.free | new.free)
                    for old, new in zip(merged, placed, strict=True)
                ]
            found.append(tuple(merged))
        return tuple(found)

    @cached_property
    def notifications(self) -> Notes:
        """Who tells whom, how often, over all requests that are served."""
        case = self.case
        told: Notes = {}
        for _, request in self.served:
            notes = expected_notifications(case.model.groups, case.producer, case.consumer, request)
            for note, count in notes.items():
                told[note] = told.get(note, 0) + count
        return told


@lru_cache(maxsize=4)
def expect_transfer(case: TransferCase) -> ExpectedTransfer:
    """What the reference says of a case; its memory is worked out when first asked for."""
    refused = refused_pair(case)
    requests = () if refused else tuple(refused_request(case, r) for r in case.requests)
    return ExpectedTransfer(case=case, refused=refused, requests=requests)
