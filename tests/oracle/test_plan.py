"""What a run will do is a function of the selection: not of workers, and exact in its counts."""

import math
from dataclasses import replace
from typing import Any

import pytest

from oracle.errors import UsageError
from oracle.kinds import KINDS
from oracle.plan import (
    CATALOGUE_FROM,
    FULL_FACTOR,
    Property,
    Selection,
    Stream,
    Unit,
    plan,
    wanted_routes,
)
from oracle.properties import PROPERTIES
from oracle.subject import Probes, Provider
from reference.legal import DECLARATIONS
from reference.model import OpCase

OPS = tuple(DECLARATIONS)
ROUTES = ("eager", "eager-unwrapped", "compiled-exact", "compiled-stock", "opaque", "caller")
NATIVES = tuple(Provider(op=op, name="native", routes=ROUTES) for op in OPS)


def _planned(selection: Selection, providers: tuple[Provider, ...] = NATIVES) -> list[Unit]:
    return plan(selection, PROPERTIES, {"ir": providers})


def _cases(units: list[Unit]) -> int:
    return sum(unit.stop - unit.start for unit in units)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_plan_is_the_same_for_any_number_of_workers(workers: int):
    assert _planned(Selection(workers=workers)) == _planned(Selection(workers=1))


@pytest.mark.parametrize("budget", [1, 2, 53, 100, 999, CATALOGUE_FROM, 5000])
@pytest.mark.parametrize("ops", [(), ("rms_norm",)])
def test_a_budget_of_cases_is_met_exactly(budget: int, ops: tuple[str, ...]):
    assert _cases(_planned(Selection(budget=budget, ops=ops))) == budget


def test_a_budget_goes_to_those_who_are_driven_alone():
    own = (*NATIVES, Provider(op="rms_norm", name="mine", routes=("eager",)))
    units = _planned(Selection(budget=120, providers=("mine",)), own)
    assert _cases(units) == 120
    assert {(u.op, u.drives) for u in units} == {("rms_norm", (("mine", "eager", None),))}


def test_units_of_one_stream_cover_it_once():
    units = _planned(Selection(budget="full", properties=("contract",), ops=("rms_norm",)))
    for stream in {(u.prop, u.op, u.dtype, u.stream) for u in units}:
        spans = sorted(
            (u.start, u.stop) for u in units if (u.prop, u.op, u.dtype, u.stream) == stream
        )
        assert [start for start, _stop in spans] == [0, *(stop for _start, stop in spans[:-1])]


def test_units_are_numbered_in_order_and_the_longest_come_first():
    units = _planned(Selection())
    assert [unit.number for unit in units] == list(range(len(units)))
    work = [(u.stop - u.start) * len(u.drives) for u in units]
    assert work == sorted(work, reverse=True)


@pytest.mark.parametrize(
    ("budget", "there"),
    [("quick", True), ("full", True), (CATALOGUE_FROM, True), (CATALOGUE_FROM - 1, False)],
)
def test_real_shapes_are_in_every_run_that_is_large_enough(budget, there: bool):
    units = _planned(Selection(budget=budget))
    assert any(unit.stream == "catalogue" for unit in units) is there


def test_a_full_run_draws_ten_times_as_many_but_real_shapes_once():
    named = ("numerics", "contract")
    quick, full = (_planned(Selection(properties=named, budget=b)) for b in ("quick", "full"))
    real = _cases([u for u in quick if u.stream == "catalogue"])
    assert real == _cases([u for u in full if u.stream == "catalogue"]) > 0
    assert _cases(full) - real == 10 * (_cases(quick) - real)


@pytest.mark.parametrize("budget", [0, -3, "large", "-5"])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(UsageError, match=r"accepted: quick, full or a number of cases >= 1"):
        _planned(Selection(budget=budget))


def test_what_was_not_selected_is_not_planned():
    units = _planned(
        Selection(
            properties=("numerics",),
            ops=("silu_and_mul",),
            routes=("eager", "opaque"),
            dtypes=("float16",),
        )
    )
    assert {(u.prop, u.op, u.dtype) for u in units} == {("numerics", "silu_and_mul", "float16")}
    drives = {drive for unit in units for drive in unit.drives}
    assert drives == {("native", "eager", None), ("native", "opaque", None)}


def test_who_cannot_run_here_is_not_driven():
    away = tuple(replace(p, unavailable="no triton") for p in NATIVES)
    assert _planned(Selection(), away) == []


def test_a_provider_is_judged_by_its_own_contract_unless_the_run_names_one_of_its_op():
    variant = "rms_norm/fp32-weight"
    own = (Provider(op="rms_norm", name="mine", routes=("eager",), contract=variant),)
    for chosen, used in (
        (None, variant),
        ("rms_norm/1", "rms_norm/1"),
        ("silu_and_mul/1", variant),
    ):
        units = _planned(Selection(contract=chosen, budget=10), own)
        assert {drive for u in units for drive in u.drives} == {("mine", "eager", used)}


def test_the_routes_that_must_be_decided_are_those_of_provider_property_and_user():
    prop = PROPERTIES["contract"]
    provider = NATIVES[0]
    assert wanted_routes(Selection(), prop, provider) == ("eager", "eager-unwrapped")
    assert wanted_routes(Selection(routes=("eager",)), prop, provider) == ("eager",)
    assert wanted_routes(Selection(routes=("caller",)), prop, provider) == ()
    reference = replace(provider, routes=("reference",))
    assert wanted_routes(Selection(), prop, reference) == ("reference",)


def test_interpreted_providers_are_marked_in_their_units():
    own = (*NATIVES, replace(NATIVES[0], name="triton", interpreted=True))
    units = _planned(Selection(budget=40, ops=(OPS[0],)), own)
    assert {unit.interpreted for unit in units} == {frozenset({"triton"})}


def test_streams_that_compile_stay_whole():
    def case(_seed: int, _index: int) -> OpCase:
        raise AssertionError("planning draws nothing")

    stream = Stream(name="s", op="rms_norm", dtype="float32", count=50, case=case, together=True)
    apart = replace(stream, name="t", together=False)
    prop = Property(
        name="p",
        claim="",
        judges=(),
        routes=("eager",),
        probes=Probes(),
        streams=lambda op, dtype: (stream, apart),
    )
    units = plan(
        Selection(ops=("rms_norm",), dtypes=("float32",)),
        {"p": prop},
        {"ir": (Provider(op="rms_norm", name="native", routes=("eager",)),)},
    )
    sizes = sorted((u.stream, u.stop - u.start) for u in units)
    assert sizes == [("s", 50), ("t", 2), ("t", 16), ("t", 16), ("t", 16)]


def test_shards_part_the_units_and_leave_none_out():
    whole = _planned(Selection())
    parts = [_planned(Selection(shard=(index, 3))) for index in (1, 2, 3)]

    def key(unit: Unit) -> tuple[str, ...]:
        return (unit.prop, unit.op, unit.dtype, unit.stream, str(unit.start))

    assert sorted(key(u) for part in parts for u in part) == sorted(key(u) for u in whole)
    assert all(unit.number == n for part in parts for n, unit in enumerate(part))


def test_what_is_not_named_takes_its_share_in_passing():
    """Named by its property or by its op; real shapes are taken whole."""
    passing = {"numerics": replace(PROPERTIES["numerics"], in_passing=0.25)}
    natives = {"ir": (Provider(op="rms_norm", name="native", routes=ROUTES),)}

    def counted(**chosen: Any) -> int:
        return _cases(plan(Selection(**chosen), passing, natives))

    dtypes = KINDS["op"].dtypes("rms_norm")
    streams = [s for d in dtypes for s in PROPERTIES["numerics"].streams("rms_norm", d)]
    drawn = [s.count for s in streams if not s.fixed_count]
    fixed = sum(s.count for s in streams if s.fixed_count)
    assert counted(properties=("numerics",)) == sum(drawn) + fixed
    assert counted(ops=("rms_norm",)) == sum(drawn) + fixed
    assert counted(budget="full") == FULL_FACTOR * sum(drawn) + fixed
    assert counted() == sum(math.ceil(n / 4) for n in drawn) + fixed
