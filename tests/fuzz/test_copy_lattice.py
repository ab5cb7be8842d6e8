"""The lattice of layouts and block ratios: what it counts, and that every case is legal."""

import pytest

from fuzz.lattices.copies import PLACEMENTS, PLAIN, SHAPES, copy_case, copy_count
from fuzz.lattices.tp import LAYOUTS, admitted, pairs, split_case, split_count
from reference.model import digest
from reference.transfer import refused_pair, refused_request


def test_the_counts_are_pinned():
    assert (len(LAYOUTS), len(PLACEMENTS), len(PLAIN), len(SHAPES)) == (4, 4, 15, 24)
    # Full attention, with a window, latents, three kinds of state.
    assert copy_count() == 4 * 4 * 24 + 4 * 4 * 15 + 4 * 24 + 3 == 723
    assert split_count() == 3_160 + 496 * 3 == 4_648


def test_copies_are_all_different_and_legal():
    cases = [copy_case(i) for i in range(copy_count())]
    assert len({digest(case) for case in cases}) == copy_count()
    assert {refused_pair(case) for case in cases} == {None}
    assert {refused_request(case, case.requests[0]) for case in cases} == {None}


def test_block_ratios_are_1_to_8_on_either_side():
    ratios = {p[0] / d[0] for p, d in PLAIN}
    assert ratios == {n for n in range(1, 9)} | {1 / n for n in range(1, 9)}


def test_splits_are_every_topology_and_every_pair_once():
    cases = [split_case(i) for i in range(split_count())]
    attention = [c for c in cases if c.model.groups[0].kind == "full"]
    states = [c for c in cases if c.model.groups[0].kind == "mla"]
    assert {
        (c.model.groups[0].parts[0].units, c.producer.tp, c.consumer.tp) for c in attention
    } == set(admitted())
    assert len(attention) == len(admitted())
    assert {(c.producer.tp, c.consumer.tp) for c in states} == set(pairs())
    assert len({digest(c) for c in states}) == len(states) == 496 * 3


@pytest.mark.parametrize("index", range(0, 4_648, 331))
def test_a_split_is_of_engines_that_can_meet(index: int):
    assert refused_pair(split_case(index)) is None
