"""Kind ``program``: straight-line operations on tensors that may share memory."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping

import numpy as np

from oracle.judges.programs_evidence import ProgramEvidence
from oracle.judges.programs_stock import as_stock
from oracle.observation import Observation
from oracle.observation.program import ProgramPerturbed, ProgramRaised, ProgramReturned
from oracle.program_text import operand_text
from oracle.programs_script import SCRIPTED, render
from oracle.simplify.programs import PROGRAM_PASSES
from reference.declaration import Refusal
from reference.dtypes import numpy_dtype
from reference.expectation import Unknown
from reference.model import ProgramCase
from reference.programs import (
    Asked,
    ExpectedCall,
    ExpectedProgram,
    ProgramExpectation,
    expect_program,
    known_calls,
)

from .kind import CaseKind, Terms

SHOWN = 8
"""Elements up to which a tensor is shown with its values."""


def _asked(terms: Terms) -> Asked:
    return Asked(
        contract=terms.contract,
        rounding=terms.rounding,
        backend="cuda" if terms.device.startswith("cuda") else "cpu",
    )


def _expect(case: ProgramCase, terms: Terms) -> ProgramExpectation:
    return expect_program(case, asked=_asked(terms))


def _unknown(expectation: ProgramExpectation) -> str:
    return expectation.because if isinstance(expectation, Unknown) else ""


def _evidence(
    case: ProgramCase,
    expectation: ProgramExpectation,
    observation: Observation | ProgramReturned | ProgramRaised | ProgramPerturbed,
    terms: Terms,
) -> ProgramEvidence:
    driven = isinstance(observation, ProgramReturned | ProgramRaised | ProgramPerturbed)
    route = observation.route if driven else ""
    compiled = isinstance(observation, ProgramReturned | ProgramRaised)
    stock = observation.stock if compiled else None
    beside = None if stock is None else _evidence(case, expectation, stock, terms)
    if isinstance(observation, ProgramRaised):
        observation = observation.raised
    calls = expectation.calls if isinstance(expectation, ExpectedProgram) else ()
    wanted = expectation.wanted if isinstance(expectation, ExpectedProgram) else {}
    found = expectation
    if calls and isinstance(observation, ProgramReturned):
        found, calls = _expected(case, _observed(case, observation), _asked(terms))
    return ProgramEvidence(
        case=case,
        expected=found if isinstance(found, ExpectedProgram) else None,
        refusal=found if isinstance(found, Refusal) else None,
        calls=calls,
        wanted=wanted,
        observation=observation,
        unknown=found.because if isinstance(found, Unknown) else "",
        route=route,
        stock=beside,
    )


Bits = tuple[str, tuple[int, ...], bytes]
"""An array that can be compared: its NumPy dtype by name, its shape, its bytes."""


def _observed(
    case: ProgramCase, returned: ProgramReturned
) -> tuple[tuple[int, tuple[Bits, ...]], ...]:
    """What each op of the IR returned, by the number of its step."""
    found: list[tuple[int, tuple[Bits, ...]]] = []
    for number, step in enumerate(case.steps):
        if not step.target.startswith("ir."):
            continue
        first = case.first_result(number)
        seen = [returned.seen.get(first + k) for k in range(step.results)]
        bits = tuple((s.dtype, s.shape, s.values.tobytes()) for s in seen if s is not None)
        if len(bits) == step.results:
            found.append((number, bits))
    return tuple(found)


@functools.lru_cache(maxsize=4)
def _expected(
    case: ProgramCase, observed: tuple[tuple[int, tuple[Bits, ...]], ...], asked: Asked
) -> tuple[ProgramExpectation, tuple[ExpectedCall, ...]]:
    """What follows from these values, and what its calls must return as far as that is known.

    Most routes see the same values.
    """
    arrays = {
        step: [np.frombuffer(raw, numpy_dtype(dtype)).reshape(shape) for dtype, shape, raw in bits]
        for step, bits in observed
    }
    found = expect_program(case, observed=arrays, asked=asked)
    if isinstance(found, ExpectedProgram):
        return found, found.calls
    return found, known_calls(case, observed=arrays, asked=asked)


def _telling(evidence: ProgramEvidence) -> bool:
    """Agreeing says something where an output holds unlike elements."""
    expected = evidence.expected
    return expected is not None and any(
        len(set(_pieces(o.content, o.shape))) > 1 for o in expected.outputs
    )


def _pieces(content: bytes, shape: tuple[int, ...]) -> list[bytes]:
    count = int(np.prod(shape))
    if not count:
        return []
    size = len(content) // count
    return [content[k : k + size] for k in range(0, len(content), size)]


def _measures(evidence: ProgramEvidence) -> Mapping[str, int]:
    """Counts of one run; ``runs`` of one route are found under the route by the property."""
    counts: Counter[str] = Counter({f"route {evidence.route}": 1} if evidence.route else ())
    counts["as stock"] += as_stock(evidence)
    if isinstance(evidence.observation, ProgramPerturbed):
        pairs = evidence.observation.perturbed
        counts["perturbed"] += len(pairs)
        counts.update(
            f"needless {one.factor}" for one in pairs if one.same_graph and not one.same_key
        )
    returned = evidence.returned
    if returned is None:
        return +counts
    graph = returned.graph
    if graph is not None:
        if returned.route in ("fx-cold", "fx-inplace"):
            counts["cold look-ups"] += graph.hits + graph.misses
        for factor in graph.spurious:
            counts[f"spurious {factor}"] += 1
        counts["lowered"] += graph.lowered
        counts["hits"] += graph.hits
        counts["misses"] += graph.misses
        for reason, number in graph.bypasses.items():
            counts[reason] += number
    clones = returned.clones
    if clones is not None and clones.removable is not None:
        counts["programs with a removable clone"] += clones.removable > 0
        counts["programs with none"] += clones.removable == 0
        counts["removable"] += clones.removable
        if clones.removable:
            counts["removed"] += len(clones.removed)
        else:
            counts["removed of none"] += len(clones.removed)
        if len(clones.removed) < clones.removable:
            for _, reason in clones.kept:
                counts[f"kept {reason}"] += 1
    return +counts


def _size(case: ProgramCase) -> tuple[int, ...]:
    return (len(case.steps), case.values, sum(s.nbytes for s in case.storages))


def case_lines(case: ProgramCase) -> list[str]:
    """The program as people write it, one line a step."""
    lines: list[str] = []
    arrays = case.arrays()
    for i, number in enumerate(case.inputs):
        view = case.tensors[number]
        storage = case.storages[view.storage]
        text = f"x{i}: {storage.dtype}{list(view.shape)}"
        if not view.is_contiguous:
            text += f" strides {list(view.strides)}"
        if view.offset:
            text += f" offset {view.offset}"
        same = case.inputs.index(number)
        if same != i:
            text += f", the tensor x{same}"
        elif any(case.tensors[n].storage == view.storage for n in case.inputs[:i]):
            text += f" in storage {view.storage}"
        if view.numel <= SHOWN and same == i:
            text += f" = {view.of(arrays[view.storage]).reshape(-1).tolist()}"
        if i in case.donated:
            text += ", donated"
        lines.append(text)
    names = [f"x{i}" for i in range(len(case.inputs))]
    for step in case.steps:
        made = [f"v{len(names) + k}" for k in range(step.results)]
        given = [operand_text(o, names) for o in step.operands]
        given += [f"{key}={operand_text(o, names)}" for key, o in step.keywords]
        left = f"{', '.join(made)} = " if made else ""
        lines.append(f"{left}{step.target}({', '.join(given)})")
        names += made
    lines.append(f"return {', '.join(names[n] for n in case.outputs) or 'nothing'}")
    return lines


PROGRAM = CaseKind(
    name="program",
    ops=("program",),
    dtypes=lambda _op: ("",),
    expect=_expect,
    unknown=_unknown,
    evidence=_evidence,
    dtype=lambda _case: "",
    telling=_telling,
    measures=_measures,
    passes=PROGRAM_PASSES,
    size=_size,
    unit="steps",
    script=render,
    scripted=SCRIPTED,
    lines=case_lines,
)
