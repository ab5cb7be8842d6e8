"""The lattice of topologies: what it counts, and that every case is what it says."""

import pytest

from fuzz.lattices.tp import (
    LIMIT,
    POINTS,
    REFUSED,
    admitted,
    attention_case,
    counts,
    lattice_case,
    lattice_size,
    pairs,
    points_in,
    proof_case,
    refused,
    refused_in,
)
from reference.model import digest
from reference.transfer import refused_pair, refused_request


def test_the_counts_are_pinned():
    assert (len(admitted()), len(pairs()), len(refused())) == (3_160, 496, 32_184)
    assert counts() == (101_120, 11_904, 32_184)
    assert lattice_size() == 145_208
    assert POINTS == 3_160 * 2 * 4 * 8 + 496 * 8 + 496 * 3 * 8 * 3 == 241_920
    assert REFUSED == LIMIT**3 - 3_160 == 258_984


def test_what_is_refused_and_what_is_admitted_are_all_topologies():
    covered = sum(LIMIT if d is None else 1 for _, _, d in refused())
    assert covered + len(admitted()) == LIMIT**3


@pytest.mark.slow
def test_the_cases_of_the_lattice_are_its_points():
    cases = [lattice_case(i) for i in range(lattice_size())]
    assert sum(map(points_in, cases)) == POINTS
    assert sum(map(refused_in, cases)) == REFUSED


def test_cases_differ_and_any_stretch_is_spread():
    cases = [lattice_case(i) for i in range(600)]
    assert len({digest(case) for case in cases}) == 600
    assert 390 < sum(case.model.groups[0].kind == "full" for case in cases if case.requests) < 450
    assert 30 < sum(case.model.groups[0].kind == "mla" for case in cases) < 70


@pytest.mark.parametrize("index", range(0, 145_208, 4_700))
def test_a_case_is_refused_just_where_it_stands_for_refusals(index: int):
    case = lattice_case(index)
    assert (refused_pair(case) is not None) == (refused_in(case) > 0)
    assert (points_in(case) > 0) == (refused_in(case) == 0)
    if points_in(case):
        assert [refused_request(case, request) for request in case.requests] == [None]


def test_a_case_from_elsewhere_is_no_point():
    case = attention_case((2, 1, 2), ("HND", "NHD"), 3)
    assert points_in(case) == 2
    assert points_in(proof_case(7)) == 0
    assert refused_in(case) == 0


def test_proof_cases_are_every_topology_once():
    found = {
        (case.model.groups[0].parts[0].units, case.producer.tp, case.consumer.tp)
        for case in map(proof_case, range(len(admitted())))
    }
    assert found == set(admitted())
