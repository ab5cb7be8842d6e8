"""Which known disagreements a run must see again: those whose cases it planned whole."""

from dataclasses import replace
from typing import Any

import pytest

from oracle.findings import Disagreements
from oracle.known import Known, KnownEntry
from oracle.plan import CATALOGUE_FROM, Selection, plan
from oracle.properties import PROPERTIES
from oracle.subjects.programs import stock
from oracle.tally import Cell

ENTRIES = Known.load().entries
(VERSION,) = {entry.version for entry in ENTRIES}
PROVIDERS = {"torch": stock.providers()}


def _cell(entry: KnownEntry) -> Cell:
    return entry.subject, entry.property, entry.op, entry.provider, entry.route


def _missed(decided: set[Cell] | None = None, **chosen: Any) -> set[KnownEntry]:
    """What such a run of torch misses that sees none of them and ``decided`` something there."""
    selection = replace(Selection(subjects=("torch",)), **chosen)
    units = plan(selection, PROPERTIES, PROVIDERS)
    noted = Disagreements(selection, PROVIDERS, {"torch": VERSION}, units)
    everywhere = {_cell(entry) for entry in ENTRIES}
    lines = noted.unreproduced(dict.fromkeys(everywhere if decided is None else decided, 1))
    # Entries that share a fingerprint and a reason are told apart by what was observed.
    return {entry for entry in ENTRIES if f"{entry.fingerprint}: {entry.reason}" in lines}


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"budget": "full"},
        {"budget": CATALOGUE_FROM},
        {"ops": ("program",)},
        {"properties": ("lowering", "clones"), "seed": 7},
    ],
    ids=str,
)
def test_a_run_that_plans_their_cases_must_see_all(chosen: dict[str, Any]):
    assert _missed(**chosen) == set(ENTRIES)


@pytest.mark.parametrize(
    "chosen",
    [{"budget": CATALOGUE_FROM - 1}, {"dtypes": ("float32",)}, {"routes": ("eager",)}],
    ids=str,
)
def test_a_run_that_does_not_plan_them_can_miss_none(chosen: dict[str, Any]):
    assert _missed(**chosen) == set()


def test_a_run_must_see_those_of_its_properties_and_routes():
    wanted = {e for e in ENTRIES if (e.property, e.route) == ("clones", "aot-eager")}
    assert wanted
    assert _missed(properties=("clones",), routes=("aot-eager",)) == wanted


def test_each_is_looked_for_in_one_part_of_a_run():
    parts = [_missed(shard=(number, 7)) for number in range(1, 8)]
    assert set.union(*parts) == set(ENTRIES)
    assert sum(map(len, parts)) == len(ENTRIES)


def test_a_route_that_decided_nothing_misses_none():
    on_inductor = {_cell(e) for e in ENTRIES if e.route == "inductor"}
    assert _missed(on_inductor) == {e for e in ENTRIES if e.route == "inductor"}
    assert _missed(set()) == set()
