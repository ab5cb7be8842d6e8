"""Are the outputs what the contract says: arity, dtype, shape, and every element's interval?"""

from __future__ import annotations

import numpy as np

from oracle.observation import ObservedTensor
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.dtypes import FORMATS, decode, ordinal
from reference.expectation import ExpectedOutput

from .evidence import Evidence

WIDEST = 4
"""Ulps of the output format that an interval may span and still decide anything."""


def values(evidence: Evidence) -> Verdict:
    """Every element lies in its interval, with its NaN-ness and its sign of zero."""
    name = "values"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return not_applicable(name, "no-outputs")
    if len(returned.outputs) != len(expected.outputs):
        place = Place(
            name="outputs", observed=str(len(returned.outputs)), expected=str(len(expected.outputs))
        )
        return disagrees(name, "arity", place)
    wide = False
    for observed, wanted in zip(returned.outputs, expected.outputs, strict=True):
        verdict = compare(name, observed, wanted)
        if verdict is not None:
            return verdict
        wide = wide or too_wide(wanted)
    return undecided(name, "bound-too-wide") if wide else agrees(name)


def compare(judge: str, observed: ObservedTensor, wanted: ExpectedOutput) -> Verdict | None:
    """The verdict where an output differs in dtype, shape or an element; None where it is right."""
    return _metadata(judge, observed, wanted) or _elements(judge, observed, wanted)


def _metadata(judge: str, observed: ObservedTensor, wanted: ExpectedOutput) -> Verdict | None:
    if observed.dtype != wanted.dtype:
        place = Place(name=wanted.name, observed=observed.dtype, expected=wanted.dtype)
        return disagrees(judge, "dtype", place)
    if observed.shape != wanted.shape:
        place = Place(name=wanted.name, observed=str(observed.shape), expected=str(wanted.shape))
        return disagrees(judge, "shape", place)
    return None


def _elements(judge: str, observed: ObservedTensor, wanted: ExpectedOutput) -> Verdict | None:
    found = decode(observed.values, observed.dtype)
    lo, hi, nan = wanted.interval.lo, wanted.interval.hi, wanted.interval.nan
    is_nan = np.isnan(found)
    nan_wrong = np.where(is_nan, nan == 0, nan == 2)
    with np.errstate(invalid="ignore"):
        value_wrong = ~is_nan & (nan != 2) & ((found < lo) | (found > hi))
    zero = (found == 0) & (nan != 2)
    negative = np.signbit(found)
    sign_wrong = zero & (
        (negative & (lo == 0) & ~np.signbit(lo)) | (~negative & (hi == 0) & np.signbit(hi))
    )
    for kind, wrong in (("value", value_wrong), ("nan", nan_wrong), ("zero-sign", sign_wrong)):
        count = int(wrong.sum())
        if count:
            return disagrees(judge, kind, _place(wanted, found, wrong, observed.dtype), count)
    return None


def _place(wanted: ExpectedOutput, found: np.ndarray, wrong: np.ndarray, dtype: str) -> Place:
    """The element farthest from its interval, so that the first number shown is the worst."""
    flat = np.flatnonzero(wrong)
    lo = wanted.interval.lo.reshape(-1)[flat]
    hi = wanted.interval.hi.reshape(-1)[flat]
    value = found.reshape(-1)[flat]
    with np.errstate(invalid="ignore"):
        distance = np.nan_to_num(np.maximum(lo - value, value - hi), nan=np.inf, posinf=np.inf)
    worst = int(flat[int(np.argmax(distance))])
    index = tuple(int(i) for i in np.unravel_index(worst, found.shape))
    return Place(
        name=wanted.name,
        index=index,
        observed=show(found.reshape(-1)[worst], dtype),
        expected=show_interval(wanted, worst, dtype),
    )


def show(value: float, _dtype: str) -> str:
    """A value as people read it: every decimal digit that its format can hold, signed zeros."""
    return repr(float(value))


def show_interval(wanted: ExpectedOutput, position: int, dtype: str) -> str:
    """The interval of one element as text: a point, a range, NaN, or both."""
    lo = float(wanted.interval.lo.reshape(-1)[position])
    hi = float(wanted.interval.hi.reshape(-1)[position])
    nan = int(wanted.interval.nan.reshape(-1)[position])
    if nan == 2:
        return "nan"
    same = lo == hi and np.signbit(lo) == np.signbit(hi)
    text = show(lo, dtype) if same else f"[{show(lo, dtype)}, {show(hi, dtype)}]"
    return f"{text} or nan" if nan == 1 else text


def too_wide(wanted: ExpectedOutput) -> bool:
    """Whether some element's interval spans more ulps than a verdict may rest on."""
    if wanted.cancellation or FORMATS[wanted.dtype].kind != "float":
        return False
    interval = wanted.interval
    open_ = (interval.nan != 2) & (interval.lo != interval.hi)
    if not open_.any():
        return False
    span = ordinal(interval.hi[open_], wanted.dtype) - ordinal(interval.lo[open_], wanted.dtype)
    return bool((span > WIDEST).any())


def is_telling(evidence: Evidence) -> bool:
    """Whether agreeing says anything: the expected output is neither constant nor an input."""
    expected = evidence.expected
    if expected is None:
        return False
    inputs = [
        decode(view.of(array), evidence.case.storages[view.storage].dtype)
        for view, array in _inputs(evidence)
    ]
    for output in expected.outputs:
        lo = output.interval.lo
        if lo.size < 2 or (lo == lo.reshape(-1)[0]).all() or (output.interval.nan == 2).all():
            continue
        if not any(_equal(value, lo) for value in inputs):
            return True
    return False


def _inputs(evidence: Evidence):
    arrays = evidence.case.arrays()
    return [(view, arrays[view.storage]) for view in evidence.case.views().values()]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())
