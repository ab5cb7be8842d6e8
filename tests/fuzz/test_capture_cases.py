"""Captured functions are pure functions of their labels, and the reference knows them all."""

from collections import Counter
from collections.abc import Callable

import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.captures import (
    called_case,
    drawn_case,
    padded_case,
    refused_case,
    shared_case,
)
from fuzz.strategies.captures.owners import most_static
from reference.model import digest
from reference.model.capture import MISFITS, MOVES, OWNERS, CaptureCase, Misfit, Move, Replay
from reference.replays import ExpectedCapture, expect_capture

MAKERS: dict[str, Callable[..., CaptureCase]] = {
    "drawn": drawn_case,
    "called": called_case,
    "padded": padded_case,
    "refused": refused_case,
    "shared": shared_case,
}


def made(name: str, count: int, seed: int = 5) -> list[CaptureCase]:
    return [MAKERS[name](SeededChooser(seed, name, i)) for i in range(count)]


def expected(case: CaptureCase) -> ExpectedCapture:
    found = expect_capture(case)
    assert isinstance(found, ExpectedCapture), found
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_equal_labels_make_the_same_case_and_others_another(name: str):
    first = [digest(case) for case in made(name, 12)]
    assert [digest(case) for case in made(name, 12)] == first
    assert len({*first, *map(digest, made(name, 12, seed=6))}) == 24


@pytest.mark.parametrize("name", ["drawn", "called", "padded"])
def test_at_least_three_replays_return(name: str):
    for case in made(name, 30):
        replays = [
            seen
            for event, seen in zip(case.events, expected(case).events, strict=True)
            if isinstance(event, Replay)
        ]
        assert expected(case).refused is None
        assert sum(seen.refused is None for seen in replays) >= 3


@pytest.mark.parametrize("name", ["refused", "shared"])
def test_what_must_be_refused_is_said_to_be(name: str):
    assert all(expected(case).refused is not None for case in made(name, 30))


def test_static_inputs_lie_alone():
    for case in made("drawn", 60):
        assert case.static <= most_static(case.body)


def test_every_owner_and_every_misfit_occurs():
    cases = made("drawn", 150) + made("padded", 60)
    assert {owner for case in cases for owner in case.owners} == set(OWNERS)
    events = [event for case in cases for event in case.events]
    assert {e.how for e in events if isinstance(e, Misfit)} == set(MISFITS)


def test_no_move_is_rare():
    """Of as many cases as a quick run takes, of either kind."""
    cases = made("drawn", 330) + made("padded", 170)
    found = Counter(e.how for case in cases for e in case.events if isinstance(e, Move))
    assert set(found) == set(MOVES)
    assert {how: count for how, count in found.items() if count < 10} == {}


@pytest.mark.parametrize("name", ["drawn", "called"])
def test_most_functions_have_an_owner(name: str):
    cases = made(name, 120)
    assert sum(bool(case.owners) for case in cases) >= 60


def test_replays_are_refused_by_ledger_inputs_and_seal():
    cases = made("drawn", 100) + made("padded", 60)
    families = Counter(e.refused.family for c in cases for e in expected(c).events if e.refused)
    assert min(families[name] for name in ("ledger", "inputs", "seal")) >= 1


def test_batches_of_every_size_are_replayed():
    for case in made("padded", 20):
        assert len(case.padding) == case.static
        assert len(case.batched) == len(case.body.outputs)
        assert max(case.sizes) == case.body.input_view(0).shape[0]
