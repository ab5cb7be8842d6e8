"""A disagreement that torch shows without us is nobody's verdict on us: it is left undecided."""

from __future__ import annotations

import re
from collections.abc import Callable

from oracle.observation import Raised
from oracle.observation.program import ProgramReturned
from oracle.verdict import Outcome, Verdict, undecided

from .programs_evidence import ProgramEvidence

AS_STOCK = "as-stock-torch"


def beside_stock(
    judge: Callable[[ProgramEvidence], Verdict],
) -> Callable[[ProgramEvidence], Verdict]:
    """The judge, asked of stock torch.compile's run of the same program where it disagrees.

    Undecided only where stock's run raised the same, with the same words, or is the same in all
    that these judges look at, and fails at the same place: one more wrong bit beside those that
    torch has wrong is ours.
    """

    def judged(evidence: ProgramEvidence) -> Verdict:
        verdict = judge(evidence)
        stock = evidence.stock
        if verdict.outcome is not Outcome.DISAGREES or stock is None:
            return verdict
        other = judge(stock)
        # Raised, the place holds the words, with the backend's name: `as_stock` compares those.
        raised = isinstance(evidence.observation, Raised)
        if (raised or other == verdict) and as_stock(evidence):
            return undecided(verdict.judge, AS_STOCK)
        return verdict

    return judged


def as_stock(evidence: ProgramEvidence) -> bool:
    """Whether a compiled run is, or failed, like stock's of the same program."""
    if evidence.stock is None:
        return False
    ours, stock = evidence.observation, evidence.stock.observation
    if isinstance(ours, Raised) and isinstance(stock, Raised):
        return same_failure(ours, stock)
    if isinstance(ours, ProgramReturned) and isinstance(stock, ProgramReturned):
        return same_run(ours, stock) and _same_seen(ours, stock)
    return False


def _same_seen(one: ProgramReturned, other: ProgramReturned) -> bool:
    """Whether the ops of the IR returned the same bits in both."""
    return one.seen.keys() == other.seen.keys() and all(
        (a.dtype, a.shape, a.strides) == (b.dtype, b.shape, b.strides)
        and a.values.tobytes() == b.values.tobytes()
        for a, b in ((one.seen[number], other.seen[number]) for number in one.seen)
    )


def same_failure(one: Raised, other: Raised) -> bool:
    """Whether two compilations failed alike: the same error, with the same words."""
    return (one.type, _first_line(one)) == (other.type, _first_line(other))


def _first_line(raised: Raised) -> str:
    """What was raised, in a line, without the name of the backend that it was raised in."""
    words = re.sub(r"^backend='[^']*' raised:\s*", "", raised.message.strip())
    return words.partition("\n")[0]


def same_run(one: ProgramReturned, other: ProgramReturned) -> bool:
    """Whether two runs of a program differ in nothing that shows after them."""
    if len(one.outputs) != len(other.outputs):
        return False
    pairs = zip(one.outputs, other.outputs, strict=True)
    return (
        all(
            (a.dtype, a.shape, a.strides, a.offset, a.storage)
            == (b.dtype, b.shape, b.strides, b.offset, b.storage)
            and a.values.tobytes() == b.values.tobytes()
            for a, b in pairs
        )
        and one.reached == other.reached
        and all(
            a.tobytes() == b.tobytes()
            for a, b in zip(one.inputs_after, other.inputs_after, strict=True)
        )
    )
