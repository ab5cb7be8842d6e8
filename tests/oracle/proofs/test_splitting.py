"""Maps of ranks that are right, and each way to be wrong."""

from dataclasses import replace

import pytest

from fuzz.lattices.tp import attention_case, split_case
from oracle.observation.split import PartSplit, RankSplit, Split
from oracle.proofs.splitting import prove_split
from oracle.subjects.transfers.splits import split

CASE = attention_case((4, 2, 1), ("HND", "HND"), 1)
COPIED = attention_case((2, 4, 2), ("HND", "HND"), 1)


def _split(case) -> Split:
    found = split(case)
    assert isinstance(found, Split)
    return found


def _with(part: PartSplit, **rank) -> Split:
    """The right map of `CASE`, with another first part on its one rank."""
    (good,) = _split(CASE).ranks
    groups = ((part, *good.groups[0][1:]), *good.groups[1:])
    return Split((replace(RankSplit(groups, good.notified, good.awaited), **rank),))


GOOD = PartSplit(2, 4, ((0, 0, 0, 2), (1, 0, 2, 2)))
WRONG = {
    "a run is missing": (replace(GOOD, runs=GOOD.runs[:1]), "covered-twice-or-outside"),
    "nothing is read": (replace(GOOD, runs=()), "uncovered"),
    "runs overlap": (replace(GOOD, runs=((0, 0, 0, 2), (1, 0, 1, 2))), "covered-twice"),
    "runs leave a hole": (replace(GOOD, runs=((0, 0, 0, 1), (1, 0, 2, 2))), "uncovered"),
    "a run begins late": (replace(GOOD, runs=((0, 0, 1, 2), (1, 0, 3, 2))), "uncovered"),
    "a run is too long": (replace(GOOD, runs=((0, 1, 0, 2), (1, 0, 2, 2))), "read-outside"),
    "no such rank": (replace(GOOD, runs=((0, 0, 0, 2), (2, 0, 2, 2))), "read-outside"),
    "runs change places": (replace(GOOD, runs=((1, 0, 0, 2), (0, 0, 2, 2))), "wrong-source"),
    "the producer holds more": (replace(GOOD, producer_holds=4), "page-size"),
    "the consumer holds less": (replace(GOOD, consumer_holds=2), "page-size"),
}


def test_the_map_under_test_is_right():
    assert _with(GOOD) == _split(CASE)
    assert prove_split(CASE, _with(GOOD)).refuted is None


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_map_is_refuted(wrong: str):
    part, kind = WRONG[wrong]
    refuted = prove_split(CASE, _with(part)).refuted
    assert refuted is not None
    assert refuted.kind == kind


@pytest.mark.parametrize(
    ("rank", "kind"),
    [
        ({"notified": (0,)}, "not-notified"),
        ({"notified": (0, 1, 1)}, "notified-wrongly"),
        ({"awaited": 2}, "notified-wrongly"),
    ],
)
def test_everyone_concerned_is_told_once(rank, kind: str):
    refuted = prove_split(CASE, _with(GOOD, **rank)).refuted
    assert refuted is not None
    assert refuted.kind == kind


def test_ranks_with_copies_are_told_though_they_are_not_read():
    found = _split(COPIED).ranks[0]
    assert {source for source, *_ in found.groups[0][0].runs} == {0}
    assert found.notified == (0, 1)


def test_a_rank_that_is_left_out_is_missed_and_one_too_many_seen():
    ranks = _split(COPIED).ranks
    for found, kind in (((), "uncovered"), (ranks[:1], "uncovered")):
        refuted = prove_split(COPIED, Split(found)).refuted
        assert refuted is not None
        assert (refuted.kind, refuted.rank) == (kind, (0, len(found)))
    refuted = prove_split(COPIED, Split((*ranks, ranks[0]))).refuted
    assert refuted is not None
    assert (refuted.kind, refuted.rank) == ("covered-twice-or-outside", (0, len(ranks)))


def test_parts_that_come_together_in_no_known_way_are_open():
    good = _split(COPIED)
    assert prove_split(COPIED, good).unknown == ""
    first, *others = good.ranks
    # Values from the neighbour, who holds the same as the rank that keys come from.
    k, v = first.groups[0]
    apart = (k, replace(v, runs=((1, *v.runs[0][1:]),)))
    found = prove_split(COPIED, Split((replace(first, groups=(apart, *first.groups[1:])), *others)))
    assert (found.refuted, found.unknown) == (None, "no-such-copy")


@pytest.mark.parametrize("index", range(0, 4_648, 93))
def test_the_map_of_a_topology_is_right(index: int):
    case = split_case(index)
    found = prove_split(case, _split(case))
    assert (found.unknown, found.refuted) == ("", None)
    assert found.claims > 10
