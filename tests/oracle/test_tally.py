"""A run adds up: distinct cases, checks beside them, and what was decided where."""

from oracle.checking import CheckResult
from oracle.events import Counts
from oracle.tally import Tally
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided

PLACE = Place(name="y", observed="1", expected="2")


def _result(verdict: Verdict, case: str = "a", *, route: str = "eager", telling: bool = True):
    return CheckResult(
        prop="numerics",
        subject="ir",
        op="rms_norm",
        dtype="float32",
        provider="native",
        route=route,
        contract=None,
        case=case,
        verdict=verdict,
        telling=telling,
    )


def _tally(*results: CheckResult) -> Tally:
    tally = Tally()
    for result in results:
        tally.add(result)
    return tally


def test_cases_are_counted_once_and_checks_each_time():
    tally = _tally(
        _result(agrees("values")),
        _result(agrees("values"), route="opaque"),
        _result(disagrees("values", "value", PLACE), "b"),
        _result(undecided("values", "bound-too-wide"), "c"),
        _result(not_applicable("refusal", "nothing-to-refuse"), "c"),
    )
    counts = Counts(cases=3, checks=5, agrees=2, disagrees=1, undecided=1, not_applicable=1)
    assert tally.total() == counts
    assert [row.counts for row in tally.rows()] == [counts]


def test_only_agreeing_or_not_decides():
    tally = _tally(
        _result(undecided("values", "no-compiler"), route="caller"),
        _result(not_applicable("values", "no-outputs"), route="opaque"),
        _result(agrees("values")),
        _result(disagrees("values", "nan", PLACE), "b"),
    )
    assert dict(tally.decided) == {("ir", "numerics", "rms_norm", "native", "eager"): 2}


def test_a_judge_that_is_undecided_throughout_is_silent_whatever_another_says():
    tally = _tally(
        _result(agrees("completion")),
        _result(agrees("completion"), "b"),
        _result(undecided("values", "as-stock-torch")),
        *[_result(undecided("values", "bound-too-wide"), str(i)) for i in range(2)],
        _result(not_applicable("values", "no-outputs"), "d"),
        # Nothing to decide, one case decided, and a route on which nobody decides.
        _result(not_applicable("refusal", "nothing-to-refuse")),
        _result(agrees("completion"), route="opaque"),
        _result(undecided("values", "bound-too-wide"), route="opaque"),
        _result(disagrees("values", "value", PLACE), "b", route="opaque"),
        _result(undecided("completion", "no-compiler"), route="caller"),
    )
    cell = ("ir", "numerics", "rms_norm", "native", "eager")
    reasons = {"bound-too-wide": 2, "as-stock-torch": 1}
    assert list(tally.silent()) == [(cell, "values", reasons)]
    assert list(next(tally.silent())[2]) == list(reasons)


def test_a_telling_case_is_one_the_value_judge_decided():
    tally = _tally(
        _result(agrees("values"), "a"),
        _result(agrees("values"), "a"),
        _result(agrees("completion"), "b"),
        _result(agrees("values"), "c", telling=False),
        _result(undecided("values", "bound-too-wide"), "d"),
    )
    assert dict(tally.telling) == {("ir", "rms_norm", "native", "float32", "eager"): {"a"}}


def test_reasons_are_listed_by_how_often_they_came():
    tally = _tally(
        _result(undecided("values", "no-compiler")),
        *[_result(undecided("values", "bound-too-wide"), str(i)) for i in range(3)],
        _result(not_applicable("refusal", "nothing-to-refuse")),
        *[_result(not_applicable("values", "no-outputs"), str(i)) for i in range(2)],
    )
    tally.spent("ir", "numerics", 1.5)
    tally.spent("ir", "numerics", 1.0)
    (row,) = tally.rows()
    assert list(row.undecided.items()) == [("bound-too-wide", 3), ("no-compiler", 1)]
    assert list(row.not_applicable.items()) == [("no-outputs", 2), ("nothing-to-refuse", 1)]
    assert row.seconds == 2.5


def test_cases_of_two_properties_are_counted_once_in_the_total():
    tally = _tally(_result(agrees("values")))
    tally.buckets["ir", "contract"].cases.add("a")
    assert tally.total().cases == 1
