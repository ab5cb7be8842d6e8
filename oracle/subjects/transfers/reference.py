"""The reference's own transfers: memory as it must be, every notification sent."""

from __future__ import annotations

from collections import Counter

from oracle.observation import Raised
from oracle.observation.transfer import Freed, Rank, Told, TransferReturned
from reference.model import TransferCase
from reference.transfer import SENTINEL, ExpectedTransfer, Refused, expect_transfer

ERRORS = {
    "engine": "GeometryError",
    "pair": "IncompatibleEnginesError",
    "request": "RequestError",
}


def observe(case: TransferCase) -> TransferReturned:
    """What the reference says must be seen, dressed as an observation."""
    expected = expect_transfer(case)
    stages = range(len(case.consumer.stage_layers))
    ranks = tuple((stage, rank) for stage in stages for rank in range(case.consumer.tp))
    if expected.refused is not None:
        # Of an engine without ranks the refusal is all there is.
        ranks = ranks or ((0, 0),)
        return TransferReturned(ranks=ranks, meeting=(_raised(expected.refused),) * len(ranks))
    return _served(expected, ranks)


def _raised(refused: Refused) -> Raised:
    names = " and ".join(map(repr, refused.names))
    return Raised(
        ERRORS[refused.scope], ("TransferError", "ValueError"), f"{names}: {refused.rule}"
    )


def _served(expected: ExpectedTransfer, ranks: tuple[Rank, ...]) -> TransferReturned:
    told = tuple(Told(*note) for note in sorted(expected.notifications))
    heard = Counter((note.producer, note.request) for note in told)
    return TransferReturned(
        ranks=ranks,
        meeting=(None,) * len(ranks),
        requests=tuple(
            (None if refused is None else _raised(refused),) * len(ranks)
            for refused in expected.requests
        ),
        cells=tuple(tuple(t.codes for t in stage) for stage in expected.consumers),
        writes=tuple(
            tuple((t.codes != SENTINEL).astype("int32") for t in stage)
            for stage in expected.consumers
        ),
        told=told,
        freed=tuple(Freed(producer, request, n) for (producer, request), n in heard.items()),
    )
