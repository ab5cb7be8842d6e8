"""What a proof says where nothing is claimed, or not all that must be: that it is open."""

from dataclasses import replace

import pytest

from fuzz.lattices.copies import copy_case, copy_count
from fuzz.lattices.tp import proof_case
from oracle.observation.proof import Copies, Proof
from oracle.proofs import query
from oracle.proofs.polynomial import Poly
from oracle.proofs.prover import prove
from oracle.proofs.ways import ways_of
from oracle.subjects.transfers.copies import copies
from oracle.subjects.transfers.symbolic import formulas

pytest.importorskip("z3", reason="needs z3-solver")

CASE = proof_case(11)
PADDING = Poly.symbol("w.P")


def _proof() -> Proof:
    found = formulas(CASE)
    assert isinstance(found, Proof)
    return found


def test_every_way_through_the_planner_is_taken_at_some_sizes():
    found = prove(CASE, _proof())
    assert (found.unknown, found.refuted) == ("", None)
    assert (found.paths, found.dead) == (len(_proof().paths), 0)


def test_assumptions_that_nothing_meets_prove_nothing():
    proof = _proof()
    never = PADDING - 3, 2 - PADDING
    dead = tuple(replace(path, conditions=never) for path in proof.paths)
    found = prove(CASE, replace(proof, paths=dead))
    assert (found.claims, found.unknown) == (0, "nothing-claimed")
    assert (found.paths, found.dead) == (0, len(dead))


def test_a_way_that_few_sizes_take_is_found_by_the_solver():
    proof = _proof()
    rarely = PADDING - 12_345, 12_345 - PADDING
    paths = tuple(replace(path, conditions=rarely) for path in proof.paths)
    found = prove(CASE, replace(proof, paths=paths))
    assert (found.paths, found.dead) == (len(paths), 0)


def _copies(case) -> Copies:
    found = copies(case)
    assert isinstance(found, Copies)
    return found


COPIED = _copies(copy_case(5))
"""Of keys and values, in six ways."""


@pytest.mark.parametrize("at", range(6))
def test_a_way_to_copy_whose_assumptions_contradict_each_other_is_open(at: int):
    way = COPIED.ways[at]
    never = replace(way.proof, assumed=(*way.proof.assumed, Poly({(): -1})))
    ways = (*COPIED.ways[:at], replace(way, proof=never), *COPIED.ways[at + 1 :])
    found = prove(copy_case(5), Copies(ways=ways))
    assert (found.refuted, found.unknown) == (None, "nothing-claimed")
    assert found.claims > 0
    assert found.dead > 0


@pytest.mark.parametrize("at", range(6))
def test_a_way_to_copy_that_is_left_out_is_open(at: int):
    ways = (*COPIED.ways[:at], *COPIED.ways[at + 1 :])
    found = prove(copy_case(5), Copies(ways=ways))
    assert (found.refuted, found.unknown) == (None, "nothing-claimed")
    assert prove(copy_case(5), COPIED).unknown == ""


def test_the_ways_that_are_proved_are_those_that_there_are():
    kinds = {case.model.groups[0].kind: case for case in map(copy_case, range(copy_count()))}
    assert len(kinds) == 6
    for case in kinds.values():
        seen = {(way.copied, way.parts) for way in _copies(case).ways}
        assert seen == ways_of(case.model.groups[0])


def test_ranks_that_a_plan_leaves_out_are_missed():
    proof = _proof()
    (path,) = proof.paths
    last = max(path.channels)
    fewer = {rank: channels for rank, channels in path.channels.items() if rank != last}
    found = prove(CASE, replace(proof, paths=(replace(path, channels=fewer),)))
    assert found.refuted is not None
    assert (found.refuted.kind, found.refuted.rank) == ("uncovered", last)


def test_pages_of_which_a_plan_says_nothing_are_missed():
    proof = _proof()
    (path,) = proof.paths
    found = prove(CASE, replace(proof, paths=(replace(path, strides={}),)))
    assert found.refuted is not None
    assert found.refuted.kind == "page-size"


def test_what_z3_gives_up_on_is_open_whatever_the_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(query, "STEPS", 100_000)
    proof = _proof()
    n, m, k = (Poly.symbol(name) for name in ("n.P", "n.D", "u.0.k"))
    # Fermat's, of which z3 knows nothing.
    sums = n * n * n + m * m * m - k * k * k
    hard = tuple(replace(path, conditions=(sums, -sums)) for path in proof.paths)
    assert prove(CASE, replace(proof, paths=hard)).unknown == "gave-up"
