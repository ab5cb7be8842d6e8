"""Does a program give the bytes that it means: outputs, ops of the IR, memory afterwards?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oracle.observation import ObservedTensor, Raised
from oracle.observation.program import ProgramPerturbed
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable, undecided
from reference.dtypes import FORMATS, decode, numpy_dtype
from reference.expectation import ExpectedOutput
from reference.interval import Interval
from reference.model import touched_elements

from .programs_evidence import ProgramEvidence
from .values import compare, too_wide


def program_completion(evidence: ProgramEvidence) -> Verdict:
    """A program that torch takes returns; one that it refuses raises."""
    name = "program-completion"
    observation = evidence.observation
    if isinstance(observation, ProgramPerturbed):
        return not_applicable(name, "not-run")
    if evidence.refusal is not None:
        if isinstance(observation, Raised):
            return agrees(name)
        place = Place(name="program", observed="outputs", expected=evidence.refusal.rule)
        return disagrees(name, "not-refused", place)
    if isinstance(observation, Raised):
        text = f"{observation.type}: {observation.message.strip().splitlines()[:1]}"
        place = Place(name="program", observed=text, expected="outputs")
        return disagrees(name, "raised", place)
    if evidence.returned is None:
        how = getattr(observation, "how", "")
        kind = "timeout" if how == "timeout" else "crash"
        return disagrees(name, kind, Place(name="process", observed=how, expected="outputs"))
    return agrees(name)


def program_values(evidence: ProgramEvidence) -> Verdict:
    """Every output has its dtype, its shape and, bit for bit, its elements."""
    name = "program-values"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    if len(returned.outputs) != len(expected.outputs):
        place = Place(
            name="outputs", observed=str(len(returned.outputs)), expected=str(len(expected.outputs))
        )
        return disagrees(name, "arity", place)
    for i, (found, wanted) in enumerate(zip(returned.outputs, expected.outputs, strict=True)):
        if found.dtype != wanted.dtype:
            place = Place(name="output", index=(i,), observed=found.dtype, expected=wanted.dtype)
            return disagrees(name, "dtype", place)
        if found.shape != wanted.shape:
            place = Place(
                name="output", index=(i,), observed=str(found.shape), expected=str(wanted.shape)
            )
            return disagrees(name, "shape", place)
        values = np.frombuffer(wanted.content, numpy_dtype(wanted.dtype)).reshape(wanted.shape)
        verdict = differing(name, "value", "output", (i,), found, values)
        if verdict is not None:
            return verdict
    return agrees(name)


def differing(
    judge: str,
    kind: str,
    what: str,
    number: tuple[int, ...],
    found: ObservedTensor,
    wanted: np.ndarray,
) -> Verdict | None:
    """The verdict where two arrays of one dtype and shape differ in a bit, else None."""
    one, two = _bits(found.values), _bits(wanted)
    wrong = one != two
    if not wrong.any():
        return None
    first = int(np.flatnonzero(wrong)[0])
    place = Place(
        name=what,
        index=(*number, *(int(i) for i in np.unravel_index(first, found.shape))),
        observed=_shown(found.values, first, found.dtype),
        expected=_shown(wanted, first, found.dtype),
    )
    return disagrees(judge, kind, place, int(wrong.sum()))


def _bits(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{flat.itemsize}"))


def _shown(values: np.ndarray, at: int, dtype: str) -> str:
    flat = np.ascontiguousarray(values).reshape(-1)
    if FORMATS[dtype].kind == "float":
        return repr(float(decode(flat, dtype)[at]))
    return repr(flat[at].item())


def program_routes(evidence: ProgramEvidence) -> Verdict:
    """A route gives the bits that the same program gives step by step in torch."""
    name = "program-routes"
    returned = evidence.returned
    if returned is None or returned.eager is None:
        return _nothing(name)
    if not returned.exact:
        return not_applicable(name, "rounds-otherwise")
    if len(returned.outputs) != len(returned.eager):
        return _nothing(name)
    for i, (found, wanted) in enumerate(zip(returned.outputs, returned.eager, strict=True)):
        if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
            return not_applicable(name, "shape")
        verdict = differing(name, "route-differs", "output", (i,), found, wanted.values)
        if verdict is not None:
            return verdict
    return agrees(name)


def program_steps(evidence: ProgramEvidence) -> Verdict:
    """What each op of the IR returned lies in its contract's interval, wherever it is read.

    What nobody reads, a pass may have written over.
    """
    name = "program-steps"
    returned = evidence.returned
    if returned is None:
        return _nothing(name)
    if not evidence.calls:
        return not_applicable(name, "no-op-of-the-ir")
    wide = False
    for call in evidence.calls:
        first = evidence.case.first_result(call.step)
        for number, wanted in enumerate(call.outputs, first):
            found = returned.seen.get(number)
            if found is None:
                # Nothing used it, so the graph need not have made it.
                continue
            found, wanted = _read_part(found, wanted, evidence.wanted.get(number))
            verdict = compare(name, found, wanted)
            if verdict is not None:
                return verdict
            wide = wide or too_wide(wanted)
    if evidence.unknown:
        return undecided(name, evidence.unknown)
    return undecided(name, "bound-too-wide") if wide else agrees(name)


def _read_part(
    found: ObservedTensor, wanted: ExpectedOutput, read: np.ndarray | None
) -> tuple[ObservedTensor, ExpectedOutput]:
    """Both with zeros where nobody reads."""
    if read is None or read.all() or found.shape != read.shape:
        return found, wanted
    values = np.where(read, found.values, np.zeros((), found.values.dtype))
    interval = wanted.interval
    lo, hi = np.where(read, interval.lo, 0.0), np.where(read, interval.hi, 0.0)
    nan = np.where(read, interval.nan, np.zeros((), interval.nan.dtype))
    return replace(found, values=values), replace(wanted, interval=Interval(lo, hi, nan))


def program_inputs(evidence: ProgramEvidence) -> Verdict:
    """Every storage holds afterwards, bit for bit, what the program left in it."""
    name = "program-inputs"
    expected, returned = evidence.expected, evidence.returned
    if expected is None or returned is None:
        return undecided(name, evidence.unknown) if evidence.unknown else _nothing(name)
    for number, (after, wanted) in enumerate(
        zip(returned.inputs_after, expected.storages, strict=True)
    ):
        dtype = evidence.case.storages[number].dtype
        content = np.frombuffer(wanted.content, numpy_dtype(dtype))
        wrong = _bits(after) != _bits(content)
        if wanted.free is not None:
            wrong &= ~wanted.free
        if not wrong.any():
            continue
        first = int(np.flatnonzero(wrong)[0])
        before = evidence.case.storages[number].array()
        place = Place(
            name="input" if _in_view(evidence, number, first) else "beside inputs",
            index=(number, first),
            observed=_shown(after, first, dtype),
            expected=_shown(content, first, dtype),
        )
        kept = bool((_bits(before) == _bits(content)).all())
        return disagrees(name, "input-written" if kept else "input-after", place, int(wrong.sum()))
    return agrees(name)


def _in_view(evidence: ProgramEvidence, number: int, element: int) -> bool:
    case = evidence.case
    return any(
        (touched_elements(case.tensors[i]) == element).any()
        for i in case.inputs
        if case.tensors[i].storage == number
    )


def _nothing(judge: str) -> Verdict:
    return not_applicable(judge, "no-outputs")
