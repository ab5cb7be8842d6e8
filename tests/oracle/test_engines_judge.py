"""What the judge of engines in processes sees: each law broken by itself."""

from dataclasses import replace

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.transfers import transfer_case
from oracle.judges import JUDGES
from oracle.judges.engines import transfer_engines
from oracle.judges.transfers import TransferEvidence
from oracle.observation.engines import Ended, EnginesReturned
from oracle.observation.transfer import Told, TransferReturned
from oracle.verdict import Outcome
from reference.transfer import expect_transfer, mixed

DONE = Ended("done")
PLAIN = transfer_case(SeededChooser(0, "judge", 1))
PLAIN = replace(PLAIN, requests=PLAIN.requests[:1])
STOPPED = replace(PLAIN, fault="stop")


def good(case) -> EnginesReturned:
    """What engines show where nothing is wrong."""
    expected = expect_transfer(case)
    cells = tuple(tuple(mixed(t.codes) for t in stage) for stage in expected.consumers)
    suffixes = ("/again", "/bystander") if case.fault else ("",)
    told = {
        Told(p, d, request + suffix): 1
        for p, d, request in expected.notifications
        for suffix in suffixes
    }
    return EnginesReturned(
        first=Ended("deadline", "its deadline has passed", True) if case.fault else DONE,
        again=DONE if case.fault else None,
        bystander=DONE if case.fault else None,
        cells=cells,
        bystander_cells=cells if case.fault else (),
        told=told,
        freed={note.request: True for note in told},
        outside=0,
        reuse_refused=bool(case.fault),
    )


def kind(case, seen) -> str:
    evidence = TransferEvidence(case=case, expectation=expect_transfer(case), observation=seen)
    verdict = transfer_engines(evidence)
    assert verdict.outcome in (Outcome.AGREES, Outcome.DISAGREES)
    return verdict.kind


def changed(seen: EnginesReturned, *, written: bool) -> tuple:
    """One byte flipped, of those that are written or of the others."""
    codes = expect_transfer(PLAIN).consumers[0][0].codes
    at = tuple(int(i) for i in np.argwhere((codes != 0) == written)[0])
    tensor = seen.cells[0][0].copy()
    tensor[at] ^= 0xFF
    return ((tensor, *seen.cells[0][1:]), *seen.cells[1:])


@pytest.mark.parametrize("case", [PLAIN, STOPPED], ids=["plain", "stopped"])
def test_what_is_right_agrees(case):
    assert kind(case, good(case)) == ""


SEEN = good(PLAIN)
AFTER = good(STOPPED)
NOTE = next(iter(SEEN.told))
BROKEN = {
    "ended-wrongly": (PLAIN, {"first": Ended("failed", "no reason")}),
    "bystander-not-done": (STOPPED, {"bystander": Ended("failed")}),
    "again-not-done": (STOPPED, {"again": None}),
    "wrong-byte": (PLAIN, {"cells": changed(SEEN, written=True)}),
    "written-outside": (PLAIN, {"outside": 1}),
    "page-size": (PLAIN, {"cells": ((SEEN.cells[0][0][:, :1],), *SEEN.cells[1:])}),
    "not-notified": (PLAIN, {"told": {}}),
    "notified-wrongly": (PLAIN, {"told": {**SEEN.told, NOTE: 2}}),
    "not-freed": (PLAIN, {"freed": {"p0": False}}),
    "given-away": (STOPPED, {"reuse_refused": False}),
}


@pytest.mark.parametrize("wanted", JUDGES["transfer-engines"].kinds)
def test_each_law_is_seen_broken(wanted: str):
    case, changes = BROKEN[wanted]
    assert kind(case, replace(AFTER if case is STOPPED else SEEN, **changes)) == wanted


def test_a_byte_beside_the_request_is_outside():
    assert kind(PLAIN, replace(SEEN, cells=changed(SEEN, written=False))) == "written-outside"


def test_a_bystanders_bytes_count():
    seen = replace(AFTER, bystander_cells=changed(AFTER, written=True))
    assert kind(STOPPED, seen) == "wrong-byte"


def test_a_notice_from_one_that_does_not_face_is_wrong():
    stranger = Told((7, 7), (7, 7), "p0")
    assert kind(PLAIN, replace(SEEN, told={**SEEN.told, stranger: 1})) == "notified-wrongly"


def test_transfers_in_one_process_are_not_its_matter():
    seen = TransferReturned(ranks=(), meeting=())
    evidence = TransferEvidence(case=PLAIN, expectation=expect_transfer(PLAIN), observation=seen)
    assert transfer_engines(evidence).outcome is Outcome.NOT_APPLICABLE
