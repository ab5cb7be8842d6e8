"""Candidates of a case: legal as the case is, strictly simpler, and inside their storages."""

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies import free_signature, illegal_case, illegal_kinds, legal_case
from oracle.simplify import candidates, cost
from oracle.simplify.cost import plain_rank, value_ranks
from oracle.simplify.memory import isolated, narrowed, positions, squeezed, strided
from reference.declaration import FLOATS, Refusal
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Storage, View, case_from_json, case_to_json


@pytest.mark.parametrize("op", sorted(DECLARATIONS))
def test_every_candidate_is_legal_strictly_simpler_and_survives_json(op: str):
    declaration = DECLARATIONS[op]
    for i in range(12):
        signature = free_signature(declaration, FLOATS[i % 3])
        case = legal_case(declaration, signature, SeededChooser(3, op, i))
        count = 0
        for candidate in candidates(declaration, case):
            assert not isinstance(declaration.bind(candidate), Refusal)
            assert cost(declaration, candidate) < cost(declaration, case)
            for view in candidate.views().values():
                assert view.extent <= candidate.storages[view.storage].numel
            again = case_from_json(case_to_json(candidate))
            assert [s.array().tobytes() for s in again.storages] == [
                s.array().tobytes() for s in candidate.storages
            ]
            count += 1
            if count == 150:
                break
        assert count > 0


@pytest.mark.parametrize("op", sorted(DECLARATIONS))
def test_candidates_of_an_illegal_case_are_refused_for_the_same_reason(op: str):
    declaration = DECLARATIONS[op]
    for kind in illegal_kinds(declaration)[::7]:
        case = illegal_case(declaration, SeededChooser(1, op), kind=kind)
        for count, candidate in enumerate(candidates(declaration, case)):
            assert declaration.bind(candidate) == declaration.bind(case)
            assert cost(declaration, candidate) < cost(declaration, case)
            if count == 60:
                break


def _case(view: View, numel: int, content: bytes | Fill | None = None) -> OpCase:
    filled = Fill("ramp", 0) if content is None else content
    return OpCase("silu_and_mul", (Storage("float32", numel, filled),), (Argument("x", view),))


def test_squeezing_closes_gaps_and_keeps_order_overlap_and_values():
    padded = _case(View(0, (2, 4), (7, 1), 3), 20)
    tight = squeezed(padded, positions(padded))
    assert tight is not None
    assert tight.views()["x"] == View(0, (2, 4), (4, 1), 0)
    before, after = (c.views()["x"].of(c.storages[0].array()) for c in (padded, tight))
    assert np.array_equal(before, after)
    expanded = _case(View(0, (3, 4), (0, 2), 1), 9)
    tight = squeezed(expanded, positions(expanded))
    assert tight is not None
    assert tight.views()["x"] == View(0, (3, 4), (0, 1), 0)


def test_a_fill_stays_a_fill_only_where_its_beginning_is_kept():
    case = _case(View(0, (3, 4), (4, 1)), 12)
    first = squeezed(case, {"x": positions(case)["x"][:2]})
    last = squeezed(case, {"x": positions(case)["x"][1:]})
    assert first is not None
    assert last is not None
    assert first.storages == (Storage("float32", 8, Fill("ramp", 0)),)
    assert isinstance(last.storages[0].content, bytes)
    assert last.storages[0].array().tolist() == [5 / 8, 6 / 8, 7 / 8, 1, 9 / 8, 1.25, 11 / 8, 1.5]


def test_positions_that_no_strides_give_are_refused():
    case = _case(View(0, (6,), (1,)), 6)
    uneven = {"x": np.array([0, 1, 3])}
    assert narrowed(case, uneven) is None
    assert squeezed(case, uneven) is not None
    backwards = np.array([2, 1, 0])
    assert strided(backwards, storage=0) is None
    assert squeezed(case, {"x": backwards}) is None


def test_isolating_one_tensor_leaves_the_other_and_its_storage():
    view = View(0, (2, 2), (2, 1))
    case = OpCase(
        "fused_add_rms_norm",
        (Storage("float32", 6, Fill("ramp", 0)),),
        (Argument("x", view), Argument("x_residual", View(0, (2, 2), (2, 1), 2))),
    )
    alone = isolated(case, "x_residual")
    assert alone.views()["x"] == view
    assert alone.views()["x_residual"] == View(1, (2, 2), (2, 1))
    assert alone.storages[0] == case.storages[0]
    assert alone.storages[1].array().tolist() == [3 / 8, 4 / 8, 5 / 8, 6 / 8]
    assert isolated(case, "x").storages[0] == Storage("float32", 4, Fill("ramp", 0))


def test_values_rank_from_plain_to_odd():
    plain = [0.0, 1.0, 2.0, 3.0, 1.1, np.inf, np.nan]
    ranks = value_ranks(np.array(plain)).tolist()
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
    assert value_ranks(np.array([-0.0, -1.0])).tolist() > value_ranks(np.array([0.0, 1.0])).tolist()
    plains = [plain_rank(v) for v in (None, True, "none", "sigmoid", 0.1, float("nan"))]
    assert plains == sorted(plains)
    assert plain_rank(False) == 0
