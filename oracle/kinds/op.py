"""Kind ``op``: one call of one op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from oracle.judges import Evidence
from oracle.judges.values import is_telling
from oracle.observation import Observation
from oracle.script import SCRIPTED, render
from oracle.simplify import PASSES, Pass
from reference.contract import contract_for
from reference.expectation import Expectation, Unknown, expect
from reference.legal import DECLARATIONS
from reference.model import OpCase, View

from .kind import CaseKind, Terms

INTERPRETED_ROWS, INTERPRETED_FEW = 8, 4
"""Rows beyond which Triton's interpreter (1 to 3 ms a program instance) is not asked; the second
for ops of which each row is several programs: two heads of two sequences."""
SHOWN = 8
"""Elements up to which a tensor is shown with its values."""


def dtypes_of(op: str) -> tuple[str, ...]:
    """The dtypes that the op's first activation may have: its legal dtypes."""
    declaration = DECLARATIONS[op]
    for spec in declaration.tensors:
        if spec.name == declaration.dtype_parameter:
            return spec.dtypes
    raise KeyError(op)


def _expect(case: OpCase, terms: Terms) -> Expectation:
    return expect(
        DECLARATIONS[case.op],
        case,
        contract=terms.contract,
        rounding=terms.rounding,
        backend="cuda" if terms.device.startswith("cuda") else "cpu",
    )


def _unknown(expectation: Expectation) -> str:
    return expectation.because if isinstance(expectation, Unknown) else ""


def _evidence(
    case: OpCase, expectation: Expectation, observation: Observation, terms: Terms
) -> Evidence:
    return Evidence(
        declaration=DECLARATIONS[case.op],
        case=case,
        expectation=expectation,
        observation=observation,
        device=terms.device,
    )


def _dtype(case: OpCase) -> str:
    return case.dtype_of(DECLARATIONS[case.op].dtype_parameter) or ""


def _simplified(simplify: Pass, case: OpCase) -> Iterator[OpCase]:
    return simplify(DECLARATIONS[case.op], case)


def _passes() -> tuple[Callable[[OpCase], Iterator[OpCase]], ...]:
    return tuple(partial(_simplified, simplify) for simplify in PASSES)


def _size(case: OpCase) -> tuple[int, int]:
    return case.largest_input, sum(s.nbytes for s in case.storages)


def _too_big_to_interpret(case: OpCase) -> bool:
    declaration = DECLARATIONS[case.op]
    if case.op == "reshape_and_cache":
        # A short program copies all heads of a token.
        return case.views()[declaration.dtype_parameter].shape[0] > 2 * INTERPRETED_ROWS
    few = any(dim.few for dim in declaration.dims)
    return _rows(case) > (INTERPRETED_FEW if few else INTERPRETED_ROWS)


def _rows(case: OpCase) -> int:
    view = case.views().get(DECLARATIONS[case.op].dtype_parameter)
    if view is None or not view.shape or not view.shape[-1]:
        return 0
    return view.numel // view.shape[-1]


def case_lines(case: OpCase) -> list[str]:
    """The arguments of the case, one a line, small tensors with their values."""
    lines: list[str] = []
    arrays = case.arrays()
    for argument in case.arguments:
        value = argument.value
        if isinstance(value, View):
            storage = case.storages[value.storage]
            text = f"{storage.dtype}{list(value.shape)}"
            if not value.is_contiguous:
                text += f" strides {list(value.strides)}"
            if value.numel <= SHOWN:
                flat = value.of(arrays[value.storage]).reshape(-1).tolist()
                text += f" = {flat}"
        else:
            text = repr(value)
        lines.append(f"{argument.name}: {text}")
    if case.overload != "default":
        lines.append(f"overload: {case.overload}")
    return lines


OP = CaseKind(
    name="op",
    ops=tuple(DECLARATIONS),
    dtypes=dtypes_of,
    expect=_expect,
    unknown=_unknown,
    evidence=_evidence,
    dtype=_dtype,
    telling=is_telling,
    measures=lambda _evidence: {},
    passes=_passes(),
    size=_size,
    unit="elements in its largest input",
    script=render,
    scripted=(SCRIPTED,),
    lines=case_lines,
    contract=lambda op, contract: contract_for(op, contract).name,
    too_big_to_interpret=_too_big_to_interpret,
)
