"""The judge of transfers between processes: bytes, notices, and that a fault costs no other."""

from __future__ import annotations

from collections.abc import Iterator

from oracle.observation.engines import Bytes, Ended, EnginesReturned
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable
from reference.transfer import MIXED_SENTINEL, SENTINEL, mixed

from .transfers import TransferEvidence

ENDS = {
    "": ("done",),
    "kill": ("failed", "done"),
    "stop": ("deadline", "failed", "done"),
    "restart": ("failed", "done"),
    "garble": ("failed", "refused"),
    "abort": ("aborted", "done"),
}
"""How the request under a fault may end: it may be done before the fault strikes, but not where
its producer's metadata never was any good."""


def transfer_engines(evidence: TransferEvidence) -> Verdict:
    """All bytes land between real engines; a fault costs its request and nothing else."""
    name, seen = "transfer-engines", evidence.observation
    if not isinstance(seen, EnginesReturned):
        return not_applicable(name, "one-process")
    for kind, place in _faults(evidence, seen):
        return disagrees(name, kind, place)
    return agrees(name)


def _faults(evidence: TransferEvidence, seen: EnginesReturned) -> Iterator[tuple[str, Place]]:
    fault = evidence.case.fault
    if seen.first.status not in ENDS[fault]:
        yield "ended-wrongly", _ended("request", seen.first, " or ".join(ENDS[fault]))
    if fault:
        for what, ended in (("bystander", seen.bystander), ("again", seen.again)):
            if ended is None or ended.status != "done":
                yield f"{what}-not-done", _ended(what, ended, "done")
    for what, cells in (("memory", seen.cells), ("bystander", seen.bystander_cells)):
        yield from _bytes(evidence, what, cells)
    if seen.outside:
        place = Place(name="outside", observed=f"{seen.outside} bytes changed", expected="none")
        yield "written-outside", place
    yield from _told(evidence, seen)
    held = sorted(request for request, back in seen.freed.items() if not back)
    if held:
        place = Place(name="blocks", observed=f"still held: {held}", expected="all are back")
        yield "not-freed", place
    if seen.first.quarantined and fault not in ("", "kill") and not seen.reuse_refused:
        place = Place(name="blocks", observed="given away while data could land", expected="kept")
        yield "given-away", place


def _ended(what: str, ended: Ended | None, expected: str) -> Place:
    observed = "never asked" if ended is None else f"{ended.status} {ended.error}".strip()
    return Place(name=what, observed=observed, expected=expected)


def _bytes(evidence: TransferEvidence, what: str, cells: Bytes) -> Iterator[tuple[str, Place]]:
    for stage, tensors in enumerate(cells):
        for t, got in enumerate(tensors):
            wanted = evidence.expectation.consumers[stage][t]
            if got.shape != wanted.codes.shape:
                place = Place(name=what, observed=str(got.shape), expected=str(wanted.codes.shape))
                yield "page-size", place
                return
            differ = (got != mixed(wanted.codes)) & ~(wanted.free & (got == MIXED_SENTINEL))
            if differ.any():
                at = tuple(int(index[0]) for index in differ.nonzero())
                untouched = int(wanted.codes[at]) == SENTINEL
                place = Place(
                    name=what,
                    index=(stage, at[0], t, at[1], at[2]),
                    observed=f"{int(got[at]):#04x}",
                    expected="untouched" if untouched else f"{int(mixed(wanted.codes)[at]):#04x}",
                )
                yield ("written-outside" if untouched else "wrong-byte"), place
                return


def _told(evidence: TransferEvidence, seen: EnginesReturned) -> Iterator[tuple[str, Place]]:
    """Notices of requests that were done came once each; no notice came twice."""
    told = {(n.producer, n.consumer, n.request): count for n, count in seen.told.items()}
    suffixes = ("/again", "/bystander") if evidence.case.fault else ("",)
    for producer, consumer, request in sorted(evidence.expectation.notifications):
        for suffix in suffixes:
            count = told.get((producer, consumer, request + suffix), 0)
            if count != 1:
                place = Place(
                    name="notification",
                    index=(*producer, *consumer),
                    observed=f"{request + suffix!r} told {count} times",
                    expected="once",
                )
                yield "not-notified" if not count else "notified-wrongly", place
    known = {(p, c) for p, c, _ in evidence.expectation.notifications}
    for (producer, consumer, request), count in sorted(told.items()):
        if count > 1 or (producer, consumer) not in known:
            place = Place(
                name="notification",
                index=(*producer, *consumer),
                observed=f"{request!r} told {count} times",
                expected="at most once, by those that face",
            )
            yield "notified-wrongly", place
