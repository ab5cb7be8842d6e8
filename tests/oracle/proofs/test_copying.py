"""What is said of any rank is what is said of each: formulas at numbers, and proofs."""

from dataclasses import replace

import pytest

from fuzz.lattices.copies import copy_case
from oracle.observation.proof import Copies, Copying, Proof, axis_of
from oracle.proofs.copying import AnyRank, is_even
from oracle.proofs.counterexample import counterexample, sizes_to_run
from oracle.proofs.definition import Side
from oracle.proofs.outcome import Refuted
from oracle.proofs.polynomial import Poly
from oracle.proofs.prover import prove
from oracle.subjects.transfers.copies import copies
from reference.transfer import refused_pair, refused_request

CASES = [copy_case(i) for i in range(0, 723, 61)]
EMPTY = Proof(paths=(), least={}, assumed=())


def _way(case, copied=()) -> Copying:
    parts = tuple(part.name for part in case.model.groups[0].parts)
    return Copying(copied=copied, parts=parts, proof=EMPTY)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_the_slot_of_any_unit_and_token_is_that_of_each(case):
    (group,) = case.model.groups
    units, first, taken = 6, 2, 3
    parts = tuple(replace(part, units=units) for part in group.parts)
    case = replace(case, model=replace(case.model, groups=(replace(group, parts=parts),)))
    scale = 3
    engine = replace(
        case.producer,
        block_tokens=case.producer.block_tokens * scale,
        kernel_tokens=case.producer.kernel_tokens * scale,
    )
    tokens = 1 if group.is_state else scale
    unit = tokens * min(case.producer.kernel_tokens, case.consumer.kernel_tokens)
    unit = 1 if group.is_state else unit
    one = Side("P", engine, case, frozenset())
    any_rank = AnyRank("P", case.producer, case, _way(case), frozenset())
    sizes = {f"u.0.{part.name}": 5 + i for i, part in enumerate(parts)} | {"w.P": 7}
    per_page = 1 if group.is_state else engine.block_tokens // unit
    for at in range(per_page):
        slots = {
            (s.layer, s.part, s.unit, s.token): s
            for s in one.slots((0, 0), 0, unit_tokens=unit, at=at)
        }
        for x in range(taken):
            for a in range(tokens):
                numbers = dict(sizes)
                for part in parts:
                    axis = axis_of(group.is_state, part.name)
                    numbers |= {f"x.{axis}": x, f"y.{axis}": taken - 1 - x}
                    numbers |= {f"take.{axis}": first, f"left.P.{axis}": units - first - taken}
                numbers |= {"a": a, "b": tokens - 1 - a}
                assert [s.at(numbers) for s in any_rank.strides(0)] == [
                    s.at(sizes) for s in one.strides(0)
                ]
                for slot in any_rank.slots((0, 0), 0, unit_tokens=unit, at=at):
                    wanted = slots[slot.layer, slot.part, first + x, a]
                    assert slot.tensor == wanted.tensor
                    assert slot.offset.at(numbers) == wanted.offset.at(sizes)
                    assert slot.length.at(numbers) == wanted.length.at(sizes)
                    assert slot.times.at(numbers) == taken * tokens


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("copied", [(), ("P",), ("D",), ("P", "D")])
def test_sizes_to_run_are_of_engines_that_can_meet(case, copied):
    if all(part.always_sharded for part in case.model.groups[0].parts):
        copied = ()
    found = list(sizes_to_run(case, _way(case, copied)))
    assert found
    for sizes in found[::7]:
        run = counterexample(case, Refuted(kind="", rank=(0, 0), group=0, sizes=sizes))
        assert refused_pair(run) is None
        assert [refused_request(run, request) for request in run.requests] == [None]


@pytest.mark.parametrize("index", [120, 250, 401, 560])
def test_copies_are_proved_whatever_ranks_hold(index: int):
    pytest.importorskip("z3", reason="needs z3-solver")
    case = copy_case(index)
    seen = copies(case)
    assert isinstance(seen, Copies)
    found = prove(case, seen)
    assert (found.unknown, found.refuted) == ("", None)
    assert found.claims > 100


def test_states_are_proved_with_their_sub_projections():
    pytest.importorskip("z3", reason="needs z3-solver")
    cases = [c for c in map(copy_case, range(723)) if c.model.groups[0].is_state]
    assert cases == [copy_case(i) for i in range(3)]
    assert [c.model.groups[0].kind for c in cases] == ["mamba1", "mamba2", "gdn"]
    for case in cases:
        seen = copies(case)
        assert isinstance(seen, Copies)
        found = prove(case, seen)
        assert (found.unknown, found.refuted) == ("", None)
    ways = {(way.copied, way.parts) for way in copies(cases[1]).ways}  # pyright: ignore[reportAttributeAccessIssue]
    assert (("P",), ("conv.x", "ssm")) in ways
    assert (("P", "D"), ("conv.x", "conv.B", "conv.C", "ssm")) in ways


def test_what_differs_from_unit_to_unit_is_not_one_for_all():
    case = copy_case(3)
    seen = copies(case)
    assert isinstance(seen, Copies)
    way = seen.ways[0]
    path = way.proof.paths[-1]
    assert is_even(way, path)
    first = Poly.symbol("x.heads") - 1
    assert not is_even(way, replace(path, conditions=(*path.conditions, first)))
    assert not is_even(way, replace(path, zero=frozenset({*path.zero, "a"}) - {"b"}))
    odd = replace(way, proof=replace(way.proof, paths=(replace(path, conditions=(first,)),)))
    assert prove(case, Copies(ways=(odd,))).unknown == "one-for-all"
