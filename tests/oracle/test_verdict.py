"""Fingerprints are pinned: a change would orphan every stored and every known disagreement."""

import pytest

from oracle.verdict import Outcome, Place, agrees, disagrees, fingerprint, undecided

NAMES = {
    "prop": "numerics",
    "subject": "ir",
    "op": "rms_norm",
    "provider": "triton",
    "route": "eager",
    "kind": "value",
    "output": "y",
}


def test_a_fingerprint_is_what_it_always_was():
    assert fingerprint(**NAMES) == "f53953aa3dc5"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_counts(name: str):
    assert fingerprint(**NAMES | {name: "other"}) != fingerprint(**NAMES)


def test_another_contract_is_another_fingerprint():
    assert fingerprint(**NAMES, contract=None) == fingerprint(**NAMES)
    assert fingerprint(**NAMES, contract="rms_norm/fp32-weight") != fingerprint(**NAMES)


def test_names_do_not_run_into_each_other():
    one = fingerprint(**NAMES | {"op": "ab", "provider": "c"})
    assert one != fingerprint(**NAMES | {"op": "a", "provider": "bc"})


def test_a_place_reads_as_a_sentence():
    place = Place(name="y", index=(0, 1), observed="2.0", expected="1.0")
    assert str(place) == "y[0, 1]: observed 2.0, expected 1.0"
    assert str(Place(name="y", observed="a", expected="b")) == "y: observed a, expected b"


def test_a_verdict_names_the_output_where_it_shows():
    place = Place(name="y", observed="a", expected="b")
    assert disagrees("values", "value", place, 3).output == "y"
    assert agrees("values").output == ""
    assert undecided("values", "bound-too-wide").outcome is Outcome.UNDECIDED
