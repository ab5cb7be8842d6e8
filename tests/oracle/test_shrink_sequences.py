"""Shorter sequences of a paged cache: each has a meaning, and a new layout alone changes none."""

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies import free_signature, legal_case
from oracle.simplify.sequences import shorter_sequences
from reference.declaration import FLOATS
from reference.expectation import Expected, expect
from reference.legal import DECLARATIONS
from reference.model import OpCase

ATTENTION = DECLARATIONS["paged_decode_attention"]


def drawn(count: int) -> list[OpCase]:
    return [
        legal_case(
            ATTENTION, free_signature(ATTENTION, FLOATS[i % 3]), SeededChooser(4, "sequences", i)
        )
        for i in range(count)
    ]


def shape(case: OpCase, name: str) -> tuple[int, ...]:
    return case.views()[name].shape


def lengths(case: OpCase) -> list[int]:
    view = case.views()["seq_lens"]
    return view.of(case.arrays()[view.storage]).tolist()


def outputs(case: OpCase) -> list[np.ndarray]:
    found = expect(ATTENTION, case)
    assert isinstance(found, Expected)
    interval = found.outputs[0].interval
    return [interval.lo, interval.hi, interval.nan]


def test_every_candidate_has_a_meaning_and_as_many_sequences():
    seen = 0
    for case in drawn(60):
        for candidate in shorter_sequences(ATTENTION, case):
            outputs(candidate)
            assert shape(candidate, "query") == shape(case, "query")
            assert all(a <= b for a, b in zip(lengths(candidate), lengths(case), strict=True))
            seen += 1
    assert seen > 200


def test_other_blocks_for_the_same_rows_change_no_output():
    fewer_blocks = joined = 0
    for case in drawn(60):
        for candidate in shorter_sequences(ATTENTION, case):
            if lengths(candidate) == lengths(case):
                fewer_blocks += shape(candidate, "kv_cache")[1] < shape(case, "kv_cache")[1]
                joined += shape(candidate, "kv_cache")[2] > shape(case, "kv_cache")[2]
                for mine, theirs in zip(outputs(candidate), outputs(case), strict=True):
                    assert np.array_equal(mine, theirs, equal_nan=True)
    assert fewer_blocks > 10
    assert joined > 20


@pytest.mark.parametrize("op", sorted(set(DECLARATIONS) - {"paged_decode_attention"}))
def test_ops_without_sequences_have_none(op: str):
    declaration = DECLARATIONS[op]
    case = legal_case(declaration, free_signature(declaration, "float32"), SeededChooser(1, op))
    assert list(shorter_sequences(declaration, case)) == []
