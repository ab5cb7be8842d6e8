"""What a run must have decided, and how it says what it did not."""

from typing import cast

import pytest

from oracle.checking import CaseChecker, CheckResult
from oracle.decided import little_decided, nothing_decided
from oracle.observation import Died, Observation, Raised, Unavailable
from oracle.plan import Selection
from oracle.properties import PROPERTIES
from oracle.subject import Provider, Subject
from oracle.tally import Tally
from oracle.verdict import Verdict, agrees, not_applicable, undecided
from reference.model import ProgramCase, Storage, View

PROVIDERS = {"ir": (Provider(op="rms_norm", name="native", routes=("eager", "opaque")),)}
SELECTED = Selection(properties=("numerics",), ops=("rms_norm",), dtypes=("float32",))


def _tally(unasked: tuple[Verdict, ...] = (), **verdicts: tuple[Verdict, ...]) -> Tally:
    tally = Tally()
    for route, each in verdicts.items():
        for verdict in (*unasked, *each):
            result = CheckResult(
                prop="numerics",
                subject="ir",
                op="rms_norm",
                dtype="float32",
                provider="native",
                route=route,
                contract=None,
                case="a",
                verdict=verdict,
                telling=True,
                asked=verdict not in unasked,
            )
            tally.add(result)
    return tally


def test_a_judge_that_decided_nothing_on_a_route_is_named_with_its_reasons():
    tally = _tally(
        eager=(agrees("completion"), undecided("values", "bound-too-wide")),
        opaque=(agrees("completion"), agrees("values")),
    )
    assert nothing_decided(SELECTED, PROVIDERS, tally) == (
        "ir numerics rms_norm native eager, judge values: bound-too-wide 1",
    )


def test_a_judge_that_had_nothing_to_decide_is_not_named():
    tally = _tally(
        eager=(agrees("completion"), not_applicable("values", "no-outputs")),
        opaque=(agrees("completion"),),
    )
    assert nothing_decided(SELECTED, PROVIDERS, tally) == ()


def test_a_judge_is_not_blamed_for_calls_that_could_not_be_driven():
    """One that has nothing to decide of the others would be named for them."""
    tally = _tally(
        unasked=(undecided("completion", "no-gpu"), undecided("values", "no-gpu")),
        eager=(agrees("completion"), not_applicable("values", "no-outputs")),
        opaque=(agrees("completion"),),
    )
    assert nothing_decided(SELECTED, PROVIDERS, tally) == ()


def test_a_route_on_which_nobody_decides_is_named_once():
    both = (undecided("completion", "no-compiler"), undecided("values", "no-compiler"))
    tally = _tally(eager=(agrees("completion"), agrees("values")), opaque=both)
    assert nothing_decided(SELECTED, PROVIDERS, tally) == ("ir numerics rms_norm native opaque",)


def test_few_telling_cases_are_counted_for_each_route():
    tally = _tally(eager=(agrees("values"),))
    assert little_decided(SELECTED, PROVIDERS, tally) == (
        "ir rms_norm native float32 eager: 1 telling cases",
        "ir rms_norm native float32 opaque: 0 telling cases",
    )


class _Silent:
    """A subject that nothing is asked of."""

    name = "ir"
    version = ""


@pytest.mark.parametrize(
    ("observation", "asked"),
    [(Unavailable("no-compiler"), False), (Raised("E", (), ""), False), (Died("timeout"), True)],
    ids=["unavailable", "unknown", "died"],
)
def test_no_judge_is_asked_where_the_reference_cannot_tell(observation: object, asked: bool):
    """Here for an input that is not finite: a judge that applies to no other case is not blamed."""
    program = ProgramCase(
        storages=(Storage("float32", 1, b"\0\0\x80\x7f"),),
        tensors=(View(0, (1,), (1,)),),
        inputs=(0,),
        steps=(),
        outputs=(0,),
    )
    checker = CaseChecker(cast(Subject, _Silent()), PROPERTIES["clones"], program, "cpu")
    results = list(checker.judge("passes", "fx-cold", None, cast(Observation, observation)))
    assert {result.asked for result in results} == {asked}
