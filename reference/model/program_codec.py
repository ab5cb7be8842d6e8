"""The body of a program as JSON."""

from __future__ import annotations

from typing import Any

from .memory_codec import (
    CaseFormatError,
    plain_from_json,
    plain_to_json,
    storage_from_json,
    storage_to_json,
    view_from_json,
    view_to_json,
)
from .program import Name, ProgramCase, ProgramOperand, ProgramStep, Value


def program_to_json(case: ProgramCase) -> dict[str, Any]:
    """What of the program is its own: everything but ``format`` and ``kind``."""
    return {
        "storages": [storage_to_json(storage) for storage in case.storages],
        "tensors": [view_to_json(view) for view in case.tensors],
        "inputs": list(case.inputs),
        "donated": list(case.donated),
        "steps": [_step_to_json(step) for step in case.steps],
        "outputs": list(case.outputs),
    }


def program_from_json(data: dict[str, Any]) -> ProgramCase:
    """The program of ``data``. Raises ``CaseFormatError`` where a number names nothing."""
    storages = tuple(storage_from_json(item) for item in data["storages"])
    case = ProgramCase(
        storages=storages,
        tensors=tuple(
            view_from_json(item, storages, f"tensor {i}") for i, item in enumerate(data["tensors"])
        ),
        inputs=tuple(data["inputs"]),
        donated=tuple(data["donated"]),
        steps=tuple(_step_from_json(item) for item in data["steps"]),
        outputs=tuple(data["outputs"]),
    )
    _check_numbers(case)
    return case


def _operand_to_json(operand: ProgramOperand) -> Any:
    if isinstance(operand, Value):
        return {"value": operand.number}
    if isinstance(operand, Name):
        return {"name": operand.name}
    if isinstance(operand, tuple):
        return {"list": [_operand_to_json(item) for item in operand]}
    return plain_to_json(operand)


def _operand_from_json(data: dict[str, Any]) -> ProgramOperand:
    if "value" in data:
        return Value(data["value"])
    if "name" in data:
        return Name(data["name"])
    if "list" in data:
        return tuple(_operand_from_json(item) for item in data["list"])
    return plain_from_json(data)


def _step_to_json(step: ProgramStep) -> dict[str, Any]:
    data: dict[str, Any] = {
        "target": step.target,
        "operands": [_operand_to_json(operand) for operand in step.operands],
    }
    if step.keywords:
        data["keywords"] = [[name, _operand_to_json(operand)] for name, operand in step.keywords]
    if step.results != 1:
        data["results"] = step.results
    return data


def _step_from_json(data: dict[str, Any]) -> ProgramStep:
    return ProgramStep(
        data["target"],
        tuple(_operand_from_json(item) for item in data["operands"]),
        tuple((name, _operand_from_json(item)) for name, item in data.get("keywords", ())),
        data.get("results", 1),
    )


def _check_numbers(case: ProgramCase) -> None:
    _check_below("input", case.inputs, len(case.tensors))
    _check_below("donated input", case.donated, len(case.inputs))
    known = len(case.inputs)
    for i, step in enumerate(case.steps):
        _check_below(f"operand of step {i}", tuple(step.values()), known)
        if not isinstance(step.target, str) or not _is_count(step.results):
            raise CaseFormatError(
                f"step {i} calls {step.target!r} with {step.results!r} results; "
                "accepted: a name and a number of at least 0"
            )
        known += step.results
    _check_below("output", case.outputs, known)


def _check_below(what: str, numbers: tuple[int, ...], limit: int) -> None:
    for number in numbers:
        if not _is_count(number) or number >= limit:
            raise CaseFormatError(f"{what} {number!r}; accepted: 0 to {limit - 1}")


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
