"""The programs of the corpus, which some clone elimination gets wrong: what each must do."""

from __future__ import annotations

import numpy as np
import pytest

from fuzz.corpus import corpus_cases
from reference.model import ProgramCase
from reference.programs import ExpectedProgram, expect_program
from reference.programs.removal import clones, may_go

X = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
"""What the input of each holds."""
PROGRAMS = {
    entry.name: entry.case
    for entry in corpus_cases("program")
    if isinstance(entry.case, ProgramCase)
}
NEEDED = {
    "clone-written-through-a-view": ([[3, 5, 7, 9, 11, 13]], X),
    "clone-of-an-input-written-later": ([[2, 4, 6, 8, 10, 12]], [2, 3, 4, 5, 6, 7]),
    "clone-of-an-input-written-later-through-a-view": (
        [[2, 4, 6, 8, 10, 12]],
        [2, 3, 4, 4, 5, 6],
    ),
    "clone-written-while-a-view-of-its-original-is-read": (
        [[2, 4, 6, 8, 10, 12], [2, 3, 4, 5, 6, 7]],
        X,
    ),
    "clone-written-by-out": ([X, [2, 3, 4, 5, 6, 7]], X),
    "view-of-a-clone-of-an-input-written": ([[2, 3, 4, 4, 5, 6]], X),
}
REMOVABLE = {"clone-of-one-of-two-results": ([[4, 5], [1, 2, 3]], X)}


def test_each_program_of_the_corpus_is_here() -> None:
    assert set(PROGRAMS) == {*NEEDED, *REMOVABLE}


@pytest.mark.parametrize("name", [*NEEDED, *REMOVABLE])
def test_the_reference_says_what_it_does(name, eager, differs) -> None:
    case = PROGRAMS[name]
    outputs, inputs = (NEEDED | REMOVABLE)[name]
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    assert [np.frombuffer(o.content, np.float32).tolist() for o in found.outputs] == outputs
    assert np.frombuffer(found.storages[0].content, np.float32).tolist() == inputs
    assert differs(case, found, eager(case)) == ""


@pytest.mark.parametrize("name", [*NEEDED, *REMOVABLE])
def test_its_clone_may_go_or_must_stay(name) -> None:
    case = PROGRAMS[name]
    found = expect_program(case)
    assert isinstance(found, ExpectedProgram)
    assert may_go(case, clones(case), found) == (name in REMOVABLE)
