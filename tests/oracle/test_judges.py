"""Each kind of each judge fires on what it is for, at the exact place, and on nothing less."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from oracle.judges import JUDGES, Evidence, judge_named
from oracle.judges.table import CODES, LATER
from oracle.observation import Declined, Died, FakeTensorInfo, Observation, Raised, Returned
from oracle.subject import Probes
from oracle.subjects import SubjectOptions
from oracle.subjects.reference import ReferenceSubject
from oracle.verdict import Outcome, Place, Verdict
from reference.declaration import Refusal
from reference.expectation import Unknown, expect
from reference.interval import Interval
from reference.legal import DECLARATIONS
from reference.model import Argument, OpCase, Storage, View

Change = Callable[[Returned], Returned]


def _floats(*values: float, dtype: str = "float32") -> Storage:
    assert dtype == "float32"
    return Storage(dtype, len(values), np.array(values, np.float32).tobytes())


def _norm(overload: str = "default") -> OpCase:
    """x is (2, 2) inside a storage of 6, with a canary before and after."""
    return OpCase(
        "rms_norm",
        (_floats(9.0, 3.0, 4.0, -0.0, 1.0, 9.0), _floats(1.0, 1.0)),
        (
            Argument("x", View(0, (2, 2), (2, 1), 1)),
            Argument("weight", View(1, (2,), (1,))),
            Argument("epsilon", 0.0),
        ),
        overload,  # type: ignore[arg-type]
    )


def _sum(overload: str = "default") -> OpCase:
    return OpCase(
        "fused_add_rms_norm",
        (_floats(1.0, 2.0), _floats(2.0, 2.0)),
        (
            Argument("x", View(0, (2,), (1,))),
            Argument("x_residual", View(1, (2,), (1,))),
            Argument("weight", None),
            Argument("epsilon", 0.0),
        ),
        overload,  # type: ignore[arg-type]
    )


def _illegal() -> OpCase:
    return _norm().with_argument("epsilon", -1.0)


def _observed(case: OpCase) -> Observation:
    probes = Probes(fake=True, refill=True)
    return ReferenceSubject(SubjectOptions()).observe(case, "1", "reference", probes)


def _evidence(case: OpCase, observation: Observation | None = None) -> Evidence:
    declaration = DECLARATIONS[case.op]
    return Evidence(
        declaration=declaration,
        case=case,
        expectation=expect(declaration, case),
        observation=_observed(case) if observation is None else observation,
    )


def _changed(case: OpCase, change: Change) -> Evidence:
    observed = _observed(case)
    assert isinstance(observed, Returned)
    return _evidence(case, change(observed))


def _output(number: int = 0, **changes) -> Change:
    def change(returned: Returned) -> Returned:
        outputs = list(returned.outputs)
        outputs[number] = replace(outputs[number], **changes)
        return replace(returned, outputs=tuple(outputs))

    return change


def _element(index: tuple[int, ...], value: float, which: str = "outputs") -> Change:
    def change(returned: Returned) -> Returned:
        outputs = list(getattr(returned, which))
        values = outputs[0].values.copy()
        values[index] = value
        outputs[0] = replace(outputs[0], values=values)
        return replace(returned, **{which: tuple(outputs)})

    return change


def _written(storage: int, element: int, value: float) -> Change:
    def change(returned: Returned) -> Returned:
        arrays = [a.copy() for a in returned.inputs_after]
        arrays[storage][element] = value
        return replace(returned, inputs_after=tuple(arrays))

    return change


def _fake(**changes) -> Change:
    def change(returned: Returned) -> Returned:
        assert isinstance(returned.fake, tuple)
        return replace(returned, fake=(replace(returned.fake[0], **changes), *returned.fake[1:]))

    return change


def _judge(name: str, evidence: Evidence) -> Verdict:
    verdict = judge_named(name).judge(evidence)
    assert verdict.judge == name
    return verdict


def _disagrees(name: str, evidence: Evidence, kind: str, place: Place, differing: int = 0):
    found = _judge(name, evidence)
    assert (found.outcome, found.kind, found.place, found.differing) == (
        Outcome.DISAGREES,
        kind,
        place,
        differing,
    )
    assert kind in JUDGES[name].kinds


LEGAL = ("completion", "values", "layout", "fake", "mutation", "aliasing", "uninitialized")


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize(
    "case", [_norm(), _sum(), _norm("maybe_inplace"), _sum("maybe_inplace")], ids=str
)
def test_every_judge_agrees_with_the_reference(name: str, case: OpCase):
    assert _judge(name, _evidence(case)).outcome is Outcome.AGREES


def test_the_refusal_judge_agrees_with_the_reference():
    assert _judge("refusal", _evidence(_illegal())).outcome is Outcome.AGREES


@pytest.mark.parametrize("name", LEGAL)
def test_judges_of_outputs_leave_illegal_cases_to_the_refusal_judge(name: str):
    found = _judge(name, _evidence(_illegal()))
    assert found.outcome is Outcome.NOT_APPLICABLE
    assert found.kind == ("must-be-refused" if name == "completion" else "no-outputs")


def test_the_refusal_judge_leaves_legal_cases_to_the_others():
    found = _judge("refusal", _evidence(_norm()))
    assert (found.outcome, found.kind) == (Outcome.NOT_APPLICABLE, "nothing-to-refuse")


# completion


@pytest.mark.parametrize(
    ("observation", "kind", "place"),
    [
        (
            Raised("ZeroDivisionError", ("ArithmeticError", "Exception"), "by zero"),
            "raised",
            Place(name="call", observed="ZeroDivisionError: by zero", expected="outputs"),
        ),
        (
            Raised("WidthError", ("InputError", "ValueError"), "odd"),
            "refused-legal",
            Place(name="call", observed="WidthError: odd", expected="outputs"),
        ),
        (
            Died("SIGSEGV"),
            "crash",
            Place(name="process", observed="SIGSEGV", expected="outputs"),
        ),
        (
            Died("timeout"),
            "timeout",
            Place(name="process", observed="timeout", expected="outputs"),
        ),
    ],
)
def test_a_legal_call_that_does_not_return_is_told_by_how(observation, kind, place):
    _disagrees("completion", _evidence(_norm(), observation), kind, place)


@pytest.mark.parametrize("name", ["values", "layout", "fake", "mutation", "aliasing"])
def test_a_call_that_does_not_return_has_no_outputs_to_judge(name: str):
    found = _judge(name, _evidence(_norm(), Died("SIGSEGV")))
    assert (found.outcome, found.kind) == (Outcome.NOT_APPLICABLE, "no-outputs")


# refusal

WANTED = "InputError, since epsilon is at least 0.0"


@pytest.mark.parametrize(
    ("observation", "kind", "observed"),
    [
        (Raised("RuntimeError", ("Exception",), "no"), "wrong-error", "RuntimeError: no"),
        (Died("SIGABRT"), "crash", "died (SIGABRT)"),
        (Died("timeout"), "timeout", "died (timeout)"),
    ],
)
def test_an_illegal_call_that_is_not_refused_properly_is_told_by_how(observation, kind, observed):
    evidence = _evidence(_illegal(), observation)
    assert isinstance(evidence.expectation, Refusal)
    wanted = f"InputError, since epsilon {evidence.expectation.rule}"
    _disagrees("refusal", evidence, kind, Place(name="epsilon", observed=observed, expected=wanted))


def test_an_illegal_call_that_returns_was_not_refused():
    evidence = _evidence(_illegal(), _observed(_norm()))
    assert isinstance(evidence.expectation, Refusal)
    wanted = f"InputError, since epsilon {evidence.expectation.rule}"
    place = Place(name="epsilon", observed="outputs", expected=wanted)
    _disagrees("refusal", evidence, "not-refused", place)


def test_a_subclass_of_the_documented_error_is_the_documented_error():
    raised = Raised("DtypeError", ("InputError", "ValueError"), "")
    assert _judge("refusal", _evidence(_illegal(), raised)).outcome is Outcome.AGREES


# values


def test_an_output_too_few_is_arity():
    evidence = _changed(_sum(), lambda r: replace(r, outputs=r.outputs[:1]))
    _disagrees("values", evidence, "arity", Place(name="outputs", observed="1", expected="2"))


def test_another_dtype_is_dtype():
    evidence = _changed(_norm(), _output(dtype="float64"))
    place = Place(name="y", observed="float64", expected="float32")
    _disagrees("values", evidence, "dtype", place)


def test_another_shape_is_shape():
    evidence = _changed(_norm(), _output(shape=(4,)))
    place = Place(name="y", observed="(4,)", expected="(2, 2)")
    _disagrees("values", evidence, "shape", place)


def test_an_element_outside_its_interval_is_value_and_the_worst_is_shown():
    wrong = _changed(_norm(), _element((0, 1), 1.5))
    place = replace(_judge("values", wrong).place or _no_place(), expected="")
    assert place == Place(name="y", index=(0, 1), observed="1.5", expected="")
    worse = _element((1, 1), -7.0)
    both = _changed(_norm(), lambda r: worse(_element((0, 1), 1.5)(r)))
    found = _judge("values", both)
    assert found.place is not None
    assert (found.kind, found.place.index, found.differing) == ("value", (1, 1), 2)
    assert found.place.expected.startswith("[1.414213")


def _no_place() -> Place:
    raise AssertionError("no place")


def test_one_step_outside_the_interval_is_enough_and_its_ends_are_not():
    evidence = _evidence(_norm())
    assert evidence.expected is not None
    interval = evidence.expected.outputs[0].interval
    for end, outward in ((interval.lo, -np.inf), (interval.hi, np.inf)):
        value = np.float32(end[0, 1])
        inside = _changed(_norm(), _element((0, 1), float(value)))
        assert _judge("values", inside).outcome is Outcome.AGREES
        outside = float(np.nextafter(value, np.float32(outward)))
        assert _judge("values", _changed(_norm(), _element((0, 1), outside))).kind == "value"


def test_nan_where_a_number_is_expected_is_nan():
    found = _judge("values", _changed(_norm(), _element((1, 1), float("nan"))))
    assert found.place is not None
    assert (found.kind, found.place.index, found.place.observed) == ("nan", (1, 1), "nan")


def test_a_number_where_nan_is_expected_is_nan():
    case = replace(
        _norm(), storages=(_floats(9.0, float("nan"), 4.0, 0.0, 1.0, 9.0), _norm().storages[1])
    )
    evidence = _changed(case, _element((0, 1), 1.0))
    place = Place(name="y", index=(0, 1), observed="1.0", expected="nan")
    _disagrees("values", evidence, "nan", place, 1)


@pytest.mark.parametrize(("given", "wrong"), [(-0.0, 0.0), (0.0, -0.0)])
def test_a_zero_of_the_wrong_sign_is_zero_sign(given: float, wrong: float):
    case = replace(_norm(), storages=(_floats(9.0, 3.0, 4.0, given, 1.0, 9.0), _norm().storages[1]))
    assert _judge("values", _evidence(case)).outcome is Outcome.AGREES
    place = Place(name="y", index=(1, 0), observed=repr(wrong), expected=repr(given))
    _disagrees("values", _changed(case, _element((1, 0), wrong)), "zero-sign", place, 1)


def _with_interval(evidence: Evidence, interval: Interval, *, cancellation: bool) -> Evidence:
    assert evidence.expected is not None
    output = replace(evidence.expected.outputs[0], interval=interval, cancellation=cancellation)
    return replace(evidence, expectation=replace(evidence.expected, outputs=(output,)))


def _spread(evidence: Evidence, ulps: int) -> Interval:
    assert evidence.expected is not None
    lo = evidence.expected.outputs[0].interval.lo.copy()
    hi = lo.copy()
    lo[0, 0], hi[0, 0] = 1.0, 1.0 + ulps * 2.0**-23
    return Interval(lo, hi, np.zeros(lo.shape, np.uint8))


@pytest.mark.parametrize(("ulps", "outcome"), [(4, "AGREES"), (5, "UNDECIDED")])
def test_an_interval_of_more_than_four_ulps_decides_nothing(ulps: int, outcome: str):
    plain = _changed(_norm(), _element((0, 0), 1.0))
    found = _judge("values", _with_interval(plain, _spread(plain, ulps), cancellation=False))
    assert found.outcome == outcome
    assert found.kind == ("" if outcome == "AGREES" else "bound-too-wide")
    declared = _with_interval(plain, _spread(plain, ulps), cancellation=True)
    assert _judge("values", declared).outcome is Outcome.AGREES


def test_what_lies_outside_a_wide_interval_still_disagrees():
    plain = _changed(_norm(), _element((0, 0), 2.0))
    found = _judge("values", _with_interval(plain, _spread(plain, 1000), cancellation=False))
    assert found.kind == "value"


def test_an_interval_that_also_admits_nan_is_shown_so():
    plain = _changed(_norm(), _element((0, 0), 2.0))
    interval = _spread(plain, 1)
    interval.nan[0, 0] = 1
    found = _judge("values", _with_interval(plain, interval, cancellation=False))
    assert found.place is not None
    assert found.place.expected == "[1.0, 1.0000001192092896] or nan"


# layout


def test_other_strides_are_stride():
    place = Place(name="y", observed="strides (1, 2)", expected="strides (2, 1) for shape (2, 2)")
    _disagrees("layout", _changed(_norm(), _output(strides=(1, 2))), "stride", place)


def test_an_output_inside_a_buffer_is_offset():
    place = Place(name="y", observed="offset 3", expected="offset 0")
    _disagrees("layout", _changed(_norm(), _output(offset=3)), "offset", place)


def test_an_output_elsewhere_is_device():
    place = Place(name="y", observed="meta", expected="cpu")
    _disagrees("layout", _changed(_norm(), _output(device="meta")), "device", place)


def test_an_activation_that_comes_back_keeps_its_own_layout():
    back = _output(storage=0, strides=(1, 2), offset=1)
    assert _judge("layout", _changed(_norm("maybe_inplace"), back)).outcome is Outcome.AGREES


def test_a_free_layout_is_free():
    evidence = _changed(_norm(), _output(strides=(7, 3)))
    assert evidence.expected is not None
    free = replace(evidence.expected.outputs[0], strides=None)
    evidence = replace(evidence, expectation=replace(evidence.expected, outputs=(free,)))
    assert _judge("layout", evidence).outcome is Outcome.AGREES


@pytest.mark.parametrize("name", ["layout", "aliasing"])
def test_judges_of_each_output_leave_a_wrong_number_of_them_to_values(name: str):
    found = _judge(name, _changed(_sum(), lambda r: replace(r, outputs=r.outputs[:1])))
    assert (found.outcome, found.kind) == (Outcome.NOT_APPLICABLE, "arity")


def test_layout_leaves_a_wrong_shape_to_values():
    found = _judge("layout", _changed(_norm(), _output(shape=(4,))))
    assert (found.outcome, found.kind) == (Outcome.NOT_APPLICABLE, "shape")


# fake


def test_a_fake_that_raises_is_fake_raises():
    change = _changed(_norm(), lambda r: replace(r, fake=Raised("KeyError", (), "weight")))
    place = Place(name="fake", observed="KeyError: weight", expected="metadata of outputs")
    _disagrees("fake", change, "fake-raises", place)


def test_a_fake_with_fewer_outputs_is_fake_arity():
    change = _changed(_sum(), lambda r: replace(r, fake=(r.fake or ())[:1]))  # type: ignore[index]
    place = Place(name="fake", observed="1 outputs", expected="2")
    _disagrees("fake", change, "fake-arity", place)


@pytest.mark.parametrize(
    ("kind", "changes", "observed", "expected"),
    [
        ("fake-dtype", {"dtype": "float16"}, "fake float16", "real float32"),
        ("fake-shape", {"shape": (2, 1)}, "fake (2, 1)", "real (2, 2)"),
        ("fake-stride", {"strides": (1, 2)}, "fake strides (1, 2)", "real (2, 1)"),
    ],
)
def test_fake_metadata_that_is_not_the_real_one_is_named(kind, changes, observed, expected):
    place = Place(name="y", observed=observed, expected=expected)
    _disagrees("fake", _changed(_norm(), _fake(**changes)), kind, place)


def test_the_fake_cannot_know_the_strides_of_a_donated_activation():
    back = _output(storage=0, strides=(1, 2))
    assert _judge("fake", _changed(_norm("maybe_inplace"), back)).outcome is Outcome.AGREES


def test_without_a_fake_run_the_fake_is_undecided():
    found = _judge("fake", _changed(_norm(), lambda r: replace(r, fake=None)))
    assert (found.outcome, found.kind) == (Outcome.UNDECIDED, "no-fake-run")


def test_outputs_beyond_the_declared_ones_are_named_by_number():
    def extra(returned: Returned) -> Returned:
        assert isinstance(returned.fake, tuple)
        meta = FakeTensorInfo(dtype="int8", shape=(), strides=(), offset=0, device="cpu")
        return replace(
            returned,
            outputs=(*returned.outputs, returned.outputs[0]),
            again=(*returned.outputs, replace(returned.outputs[0], dtype="int8")),
            fake=(*returned.fake, meta),
        )

    evidence = _changed(_norm(), extra)
    for name in ("fake", "uninitialized"):
        found = _judge(name, evidence)
        assert found.place is not None
        assert found.place.name == "output 1"


# mutation


@pytest.mark.parametrize(
    ("storage", "element", "kind", "name", "index", "before"),
    [
        (0, 2, "input-written", "x", (0, 1), "4.0"),
        (1, 1, "input-written", "weight", (1,), "1.0"),
        (0, 0, "canary-written", "storage 0", (0,), "9.0"),
        (0, 5, "canary-written", "storage 0", (5,), "9.0"),
    ],
)
def test_every_byte_of_every_input_is_watched(storage, element, kind, name, index, before):
    place = Place(name=name, index=index, observed="5.0", expected=before)
    _disagrees("mutation", _changed(_norm(), _written(storage, element, 5.0)), kind, place, 1)


def test_a_sign_of_zero_that_changes_is_a_write():
    found = _judge("mutation", _changed(_norm(), _written(0, 3, 0.0)))
    assert (found.kind, found.differing) == ("input-written", 1)


@pytest.mark.parametrize(("element", "kind"), [(2, ""), (0, "canary-written")])
def test_only_the_elements_of_a_donated_activation_may_be_written(element: int, kind: str):
    found = _judge("mutation", _changed(_norm("maybe_inplace"), _written(0, element, 5.0)))
    assert found.kind == kind


def test_a_weight_is_never_donated():
    found = _judge("mutation", _changed(_norm("maybe_inplace"), _written(1, 0, 5.0)))
    assert found.kind == "input-written"


# aliasing


@pytest.mark.parametrize(("storage", "owner"), [(0, "x"), (1, "weight")])
def test_an_output_on_an_inputs_storage_is_output_aliases_input(storage: int, owner: str):
    place = Place(name="y", observed=f"shares storage with {owner}", expected="its own")
    evidence = _changed(_norm(), _output(storage=storage))
    _disagrees("aliasing", evidence, "output-aliases-input", place)


def test_outputs_on_one_storage_are_outputs_share_storage():
    place = Place(name="residual", observed="shares storage with y", expected="its own")
    evidence = _changed(_sum(), _output(1, storage=-1))
    _disagrees("aliasing", evidence, "outputs-share-storage", place)


def test_donated_storage_may_come_back_as_the_output_that_is_declared_for_it_alone():
    own = _changed(_sum("maybe_inplace"), lambda r: _output(1, storage=1)(_output(storage=0)(r)))
    assert _judge("aliasing", own).outcome is Outcome.AGREES
    swapped = _changed(_sum("maybe_inplace"), _output(storage=1))
    place = Place(name="y", observed="shares storage with x_residual", expected="its own")
    _disagrees("aliasing", swapped, "output-aliases-input", place)


def test_an_output_in_the_storage_of_an_earlier_calls_is_output_reused():
    place = Place(
        name="residual",
        observed="storage of an earlier call's output",
        expected="storage of its own in every call",
    )
    evidence = _changed(_sum(), lambda returned: replace(returned, reused=(1,)))
    _disagrees("aliasing", evidence, "output-reused", place)


# uninitialized


def test_a_result_that_changes_with_the_fill_is_an_uninitialized_read():
    evidence = _changed(_norm(), _element((1, 0), 2.0, "again"))
    place = Place(
        name="y",
        index=(1, 0),
        observed="-0.0 and 2.0 over two fills of fresh memory",
        expected="one value",
    )
    _disagrees("uninitialized", evidence, "uninitialized-read", place, 1)


def test_metadata_that_changes_with_the_fill_is_one_too():
    def other(returned: Returned) -> Returned:
        return replace(returned, again=(replace(returned.outputs[0], shape=(4,)),))

    place = Place(name="y", observed="float32(4,)", expected="float32(2, 2)")
    _disagrees("uninitialized", _changed(_norm(), other), "uninitialized-read", place)


def test_without_a_second_fill_nothing_is_said_of_the_first():
    found = _judge("uninitialized", _changed(_norm(), lambda r: replace(r, again=None)))
    assert (found.outcome, found.kind) == (Outcome.UNDECIDED, "no-second-fill")


def test_a_second_call_that_fails_under_another_fill_is_an_uninitialized_read():
    place = Place(name="outputs", observed="0 over the second fill", expected="1")
    evidence = _changed(_norm(), lambda r: replace(r, again=()))
    _disagrees("uninitialized", evidence, "uninitialized-read", place)


# the table


def test_every_code_has_a_judge_or_says_which_property_brings_it():
    answered = {code for judge in JUDGES.values() for code in judge.codes}
    assert answered | set(LATER) == set(CODES)


def test_a_judge_that_there_is_not_is_named():
    with pytest.raises(KeyError, match=r"judge 'taste'; accepted: completion, refusal, values"):
        judge_named("taste")


def test_unknown_and_declined_are_no_evidence():
    evidence = replace(_evidence(_norm()), expectation=Unknown("positions-out-of-range"))
    assert evidence.expected is None
    assert replace(evidence, observation=Declined("size")).returned is None
