"""Judges of transfers: bytes on the consumer, what lies around them, the protocol, refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from oracle.observation import Died, Raised
from oracle.observation.engines import EnginesReturned
from oracle.observation.proof import Copies, Proof
from oracle.observation.split import Split
from oracle.observation.transfer import Rank, TransferReturned
from oracle.proofs.outcome import Proved
from oracle.proofs.prover import prove
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.model import TransferCase
from reference.transfer import SENTINEL, ExpectedTensor, ExpectedTransfer, decode

FAMILY = "TransferError"
"""The base of every refusal that ``ir.transfer`` documents."""
ERRORS = {
    "engine": ("GeometryError",),
    "pair": ("IncompatibleEnginesError",),
    "request": ("RequestError",),
}


Provable = Proof | Copies | Split
"""What is proved instead of run."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TransferEvidence:
    """Everything one check of a transfer knows."""

    case: TransferCase
    expectation: ExpectedTransfer
    observation: TransferReturned | EnginesReturned | Provable | Raised | Died

    @cached_property
    def proved(self) -> Proved | None:
        """What came of proving the formulas that were observed; None where there are none."""
        seen = self.observation
        return prove(self.case, seen) if isinstance(seen, Provable) else None

    @property
    def returned(self) -> TransferReturned | None:
        """The observation where engines met and requests were pulled, as they should."""
        seen = self.observation
        if not isinstance(seen, TransferReturned) or self.expectation.refused is not None:
            return None
        return None if any(seen.meeting) else seen


def transfer_refusal(evidence: TransferEvidence) -> Verdict:
    """What must be refused is, by the right error with the right names, and nothing else is."""
    name = "transfer-refusal"
    seen, refused = evidence.observation, evidence.expectation.refused
    if isinstance(seen, Provable):
        return not_applicable(name, "only-proved")
    if isinstance(seen, EnginesReturned):
        return not_applicable(name, "between-processes")
    if isinstance(seen, Died):
        kind = "timeout" if seen.how == "timeout" else "crash"
        return disagrees(name, kind, _call(f"the process ended: {seen.how}", "an answer"))
    if isinstance(seen, Raised):
        return disagrees(name, "raised", _call(f"{seen.type}: {seen.message}", "an answer"))
    if refused is not None:
        wanted = f"{refused.scope} refused: {refused.rule}"
        for rank, error in zip(seen.ranks, seen.meeting, strict=True):
            found = _mismatch(error, refused.scope, refused.names)
            if found:
                kind, text = found
                return disagrees(name, kind, _place("engines", rank, text, wanted))
        return agrees(name)
    for rank, error in zip(seen.ranks, seen.meeting, strict=True):
        if error is not None:
            text = f"{error.type}: {error.message}"
            kind = "refused-legal" if FAMILY in (error.type, *error.bases) else "raised"
            return disagrees(name, kind, _place("engines", rank, text, "a plan"))
    for i, (answers, wanted) in enumerate(
        zip(seen.requests, evidence.expectation.requests, strict=True)
    ):
        for rank, error in zip(seen.ranks, answers, strict=True):
            at = f"request {i} on stage {rank[0]} rank {rank[1]}"
            if wanted is None and error is not None:
                kind = "refused-legal" if FAMILY in (error.type, *error.bases) else "raised"
                text = f"{error.type}: {error.message}"
                return disagrees(name, kind, _place("request", rank, text, f"{at} is served"))
            if wanted is not None:
                found = _mismatch(error, "request", wanted.names)
                if found:
                    text = f"{at} refused: {wanted.rule}"
                    return disagrees(name, found[0], _place("request", rank, found[1], text))
    return agrees(name)


def _mismatch(error: Raised | None, scope: str, names: tuple[str, ...]) -> tuple[str, str] | None:
    """The kind of disagreement and the answer in words, where a refusal is not as it must be."""
    if error is None:
        return "not-refused", "accepted"
    text = f"{error.type}: {error.message}"
    if error.type not in ERRORS[scope]:
        return "wrong-error", text
    if not all(repr(name) in error.message for name in names):
        return "unnamed", text
    return None


def _call(observed: str, expected: str) -> Place:
    return Place(name="call", observed=observed, expected=expected)


def _place(name: str, rank: Rank, observed: str, expected: str) -> Place:
    return Place(name=name, index=rank, observed=observed, expected=expected)


@dataclass(frozen=True, eq=False, slots=True)
class _Compared:
    """One tensor of a stage, expected and seen."""

    stage: int
    tensor: int
    wanted: ExpectedTensor
    cells: np.ndarray
    writes: np.ndarray | None


def _compared(evidence: TransferEvidence, seen: TransferReturned) -> Iterator[_Compared]:
    for stage, tensors in enumerate(evidence.expectation.consumers):
        for t, wanted in enumerate(tensors):
            writes = None if seen.writes is None else seen.writes[stage][t]
            yield _Compared(stage, t, wanted, seen.cells[stage][t], writes)


def _shapes_differ(evidence: TransferEvidence, seen: TransferReturned) -> Place | None:
    """Where the subject's tensors are not as long as they must be: nothing can be compared."""
    wanted = [[t.codes.shape for t in tensors] for tensors in evidence.expectation.consumers]
    found = [[cells.shape for cells in tensors] for tensors in seen.cells]
    if wanted == found:
        return None
    return Place(name="tensors", observed=str(found), expected=str(wanted))


def transfer_bytes(evidence: TransferEvidence) -> Verdict:
    """Every byte that must arrive has, and it is the right one."""
    name = "transfer-bytes"
    seen = evidence.returned
    if seen is None:
        return not_applicable(name, "nothing-moved")
    shapes = _shapes_differ(evidence, seen)
    if shapes is not None:
        return disagrees(name, "page-size", shapes)
    for pair in _compared(evidence, seen):
        wanted = pair.wanted
        differ = pair.cells != wanted.codes
        if not differ.any():
            continue
        differ &= wanted.codes != SENTINEL
        # Tokens past the prompt may have arrived or not, each byte by itself.
        differ &= ~(wanted.free & (pair.cells == SENTINEL))
        if differ.any():
            return _wrong(evidence, name, pair, differ, _byte_kind)
    return agrees(name)


def _byte_kind(code: int) -> str:
    return "missing" if code == SENTINEL else "wrong-byte"


def transfer_outside(evidence: TransferEvidence) -> Verdict:
    """No byte beside those of the plan is written, and none outside the producer's memory read."""
    name = "transfer-outside"
    seen = evidence.returned
    if seen is None:
        return not_applicable(name, "nothing-moved")
    if _shapes_differ(evidence, seen) is not None:
        return not_applicable(name, "page-size")
    for stray in seen.strays:
        span = f"bytes {stray.first} to {stray.last} for stage {stray.consumer[0]}"
        place = Place(
            name=stray.side,
            index=stray.rank,
            observed=f"{span} rank {stray.consumer[1]}",
            expected="bytes of a tensor",
        )
        return disagrees(name, f"{stray.side}s-outside", place)
    for pair in _compared(evidence, seen):
        touched = pair.cells != SENTINEL
        if pair.writes is not None:
            touched |= pair.writes > 0
        touched &= pair.wanted.codes == SENTINEL
        if touched.any():
            return _wrong(evidence, name, pair, touched, lambda _code: "written-outside")
    return agrees(name)


def transfer_once(evidence: TransferEvidence) -> Verdict:
    """No byte is written twice."""
    name = "transfer-once"
    seen = evidence.returned
    if seen is None:
        return not_applicable(name, "nothing-moved")
    if seen.writes is None:
        return not_applicable(name, "writes-not-counted")
    if _shapes_differ(evidence, seen) is not None:
        return not_applicable(name, "page-size")
    for pair in _compared(evidence, seen):
        if pair.writes is not None and pair.writes.max(initial=0) > 1:
            twice = pair.writes > 1
            return _wrong(evidence, name, pair, twice, lambda _code: "written-twice")
    return agrees(name)


def _wrong(evidence: TransferEvidence, name: str, pair: _Compared, differ, kind) -> Verdict:
    """The first byte that differs, said in the words of the model."""
    at = tuple(int(i) for i in np.argwhere(differ)[0])
    observed, expected = int(pair.cells[at]), int(pair.wanted.codes[at])
    if pair.writes is not None and kind(observed) == "written-twice":
        seen, wanted = f"written {int(pair.writes[at])} times", "written once"
    else:
        seen, wanted = _words(evidence.case, observed), _words(evidence.case, expected)
    rank, block, byte = at
    place = Place(
        name=_part_name(evidence.case, expected if expected != SENTINEL else observed),
        index=(pair.stage, rank, pair.tensor, block, byte),
        observed=seen,
        expected=wanted,
    )
    return disagrees(name, kind(observed), place, differing=int(differ.sum()))


def _part_name(case: TransferCase, code: int) -> str:
    """Kind of group and part, as in ``full k``: what is moved wrongly, not where."""
    at = decode(code)
    if not at:
        return "memory"
    for group in case.model.groups:
        if at["layer"] in group.layers and at["part"] < len(group.parts):
            return f"{group.kind} {group.parts[at['part']].name}"
    return "memory"


def _words(case: TransferCase, code: int) -> str:
    """A code as the byte it stands for."""
    if code == SENTINEL:
        return "untouched"
    at = decode(code)
    if not at:
        return "not of the request" if code == (1 << 64) - 1 else f"{code:#018x}"
    token = "token" if _part_name(case, code).split()[0] in ("full", "sliding", "mla") else "state"
    return (
        f"request {at['request']} layer {at['layer']} {_part_name(case, code)} unit {at['unit']} "
        f"{token} {at['position']} byte {at['byte']}"
    )


def transfer_protocol(evidence: TransferEvidence) -> Verdict:
    """Every producer that must hear of a request does, once, and frees it when all have told."""
    name = "transfer-protocol"
    seen = evidence.returned
    if seen is None:
        return not_applicable(name, "nothing-moved")
    wanted = evidence.expectation.notifications
    told = Counter((note.producer, note.consumer, note.request) for note in seen.told)
    for note in sorted({*wanted, *told}):
        if told[note] == wanted.get(note, 0):
            continue
        kind = "not-notified" if told[note] < wanted.get(note, 0) else "notified-wrongly"
        return disagrees(
            name,
            kind,
            Place(
                name="notification",
                index=(*note[0], *note[1]),
                observed=f"{note[2]!r} told {told[note]} times",
                expected=f"{wanted.get(note, 0)} times",
            ),
        )
    awaited = Counter((producer, request) for producer, _consumer, request in wanted)
    freed = {(each.producer, each.request): each.told_by for each in seen.freed}
    if len(freed) != len(seen.freed):
        return disagrees(name, "freed-wrongly", _call("freed twice", "freed once"))
    for at in sorted({*awaited, *freed}):
        if freed.get(at) != awaited.get(at):
            return disagrees(
                name,
                "freed-wrongly",
                Place(
                    name="blocks",
                    index=at[0],
                    observed=f"{at[1]!r} freed when told by {freed.get(at, 'nobody: held')}",
                    expected=f"when told by {awaited.get(at, 'nobody: held')}",
                ),
            )
    return agrees(name)


def transfer_proof(evidence: TransferEvidence) -> Verdict:
    """At all sizes every byte is covered once, from the right one, inside its memory."""
    name, proved = "transfer-proof", evidence.proved
    if proved is None:
        return not_applicable(name, "only-run")
    if proved.refuted is None:
        return undecided(name, proved.unknown) if proved.unknown else agrees(name)
    refuted = proved.refuted
    sizes = ", ".join(
        f"{symbol} {size}"
        for symbol, size in refuted.sizes.items()
        if symbol.startswith(("u.", "n.", "w.", "page."))
    )
    place = Place(
        name=evidence.case.model.groups[refuted.group].kind,
        index=refuted.rank,
        observed=f"wrong at {sizes}" if sizes else "wrong",
        expected="right at all sizes",
    )
    return disagrees(name, refuted.kind, place)


def is_telling(evidence: TransferEvidence) -> bool:
    """Something must arrive, or be refused."""
    wanted = evidence.expectation
    if wanted.refused is not None or any(wanted.requests):
        return True
    return any((t.codes != SENTINEL).any() for stage in wanted.consumers for t in stage)
