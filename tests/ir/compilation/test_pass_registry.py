"""Passes of one's own by name."""

from collections.abc import Iterator

import pytest
from torch import fx

from ir.compilation import register_pass, unregister_pass
from ir.compilation.registry import PASSES
from ir.errors import RegistrationError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = set(PASSES)
    yield
    for name in set(PASSES) - before:
        unregister_pass(name)


def test_a_registered_pass_is_found_by_its_name_and_stays_what_it_was():
    def drop(graph: fx.Graph) -> None:
        graph.eliminate_dead_code()

    assert register_pass("drop")(drop) is drop
    assert PASSES["drop"] is drop


def test_a_forgotten_pass_may_come_again():
    register_pass("again")(lambda graph: None)
    unregister_pass("again")
    assert "again" not in PASSES
    register_pass("again")(lambda graph: None)


@pytest.mark.parametrize("name", ["", "Mine", "1st", "a b", 3])
def test_a_bad_name_is_refused(name: str):
    with pytest.raises(RegistrationError, match="accepted: lower-case letters"):
        register_pass(name)


def test_a_taken_name_is_refused():
    register_pass("taken")(lambda graph: None)
    with pytest.raises(RegistrationError, match="already registered"):
        register_pass("taken")


def test_what_cannot_be_called_is_refused():
    with pytest.raises(RegistrationError, match="accepted: a function of one graph"):
        register_pass("nothing")(None)  # type: ignore[type-var]


def test_a_pass_that_is_not_there_cannot_be_forgotten():
    with pytest.raises(RegistrationError, match="no pass 'never'"):
        unregister_pass("never")
