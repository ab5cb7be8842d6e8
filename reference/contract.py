"""Contracts as data: what an op means, step by step, with its roundings; and their interpreter.

A contract is a list of named steps. Each applies an exact function to earlier steps or to
arguments and rounds the result to a format. Evaluating it on exact inputs in interval
arithmetic gives, per output element, every value that the contract admits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from reference.dtypes import Float64
from reference.functions import FUNCTIONS, Scope
from reference.interval import Interval, point, rounded
from reference.ops import (
    activation,
    fp8_delayed,
    kv_cache,
    layernorm,
    quantization,
    rotary,
)
from reference.step import Contract, Step

__all__ = [
    "CONTRACTS",
    "Argument",
    "Contract",
    "Operand",
    "Rounding",
    "Step",
    "contract_for",
    "describe",
    "evaluate",
]

Rounding: TypeAlias = Literal["strict", "optional"]

# Rows are evaluated this many elements at a time, so that every temporary stays in cache.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor argument: its exact values as float64 (integers included) and its dtype's name."""

    values: Float64
    dtype: str


Argument: TypeAlias = Operand | float | int | bool | str | None


def evaluate(
    contract: Contract,
    arguments: Mapping[str, Argument],
    *,
    rounding: Rounding,
    backend: str = "cpu",
) -> dict[str, Interval]:
    """The admitted values of every output, by output name, in the output's shape.

    ``rounding="optional"`` also admits results of kernels that leave optional roundings out.
    ``backend`` is a device (cpu, cuda, interpreter: the loosest of its libraries) or a library
    of ``reference.elementary.TABLE``. ValueError for another name, KeyError for a missing
    argument.
    """
    if rounding not in ("strict", "optional"):
        raise ValueError(f"rounding={rounding!r} is unknown; accepted: 'strict', 'optional'")
    scope = Scope(
        dtypes={
            name: value.dtype for name, value in arguments.items() if isinstance(value, Operand)
        },
        plain={name: value for name, value in arguments.items() if not isinstance(value, Operand)},
        backend=backend,
    )
    rows: dict[str, Float64] = {}
    shared: dict[str, Interval] = {}
    lead: tuple[int, ...] | None = None
    for name, value in arguments.items():
        if not isinstance(value, Operand):
            continue
        if name not in contract.rows:
            shared[name] = point(value.values)
            continue
        cut = value.values.ndim - 1 if contract.leading is None else contract.leading
        lead = value.values.shape[:cut]
        rows[name] = value.values.reshape(_count(lead), *value.values.shape[cut:])
    if not contract.rows:
        return _run(contract, {}, shared, scope, rounding)
    if lead is None:
        raise KeyError(f"{contract.name} needs one of its row arguments {contract.rows}")
    count = _count(lead)
    # An empty block still runs once: the outputs' shapes come from the steps themselves.
    widest = max(_count(values.shape[1:]) for values in rows.values())
    size = max(1, _BLOCK // max(1, widest))
    blocks = [
        _run(contract, {name: point(part[start : start + size]) for name, part in rows.items()},
             shared, scope, rounding)
        for start in range(0, max(count, 1), size)
    ]  # fmt: skip
    return {
        public: _joined([block[public] for block in blocks], lead)
        if public in blocks[0]
        else point(np.empty(0))
        for public in contract.outputs
    }


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _joined(blocks: list[Interval], lead: tuple[int, ...]) -> Interval:
    if len(blocks) == 1:
        block = blocks[0]
        return block.reshape(lead + block.shape[1:])
    lo = np.concatenate([block.lo for block in blocks])
    points = all(block.is_point for block in blocks)
    hi = lo if points else np.concatenate([block.hi for block in blocks])
    nan = np.concatenate([block.nan for block in blocks])
    return Interval(lo, hi, nan).reshape(lead + lo.shape[1:])


def _run(
    contract: Contract,
    rows: Mapping[str, Interval],
    shared: Mapping[str, Interval],
    scope: Scope,
    rounding: Rounding,
) -> dict[str, Interval]:
    known: dict[str, Interval] = {**shared, **rows}
    for step in contract.steps:
        if step.needs is not None and step.needs not in scope.dtypes:
            if step.operands[0] in known:
                known[step.name] = known[step.operands[0]]
            continue
        operands = [known.get(name, name) for name in step.operands]
        result = FUNCTIONS[step.function].apply(scope, *operands)
        known[step.name] = _rounded(step, result, scope, rounding)
    # An output that hangs on an argument which was not given has no step.
    return {public: known[name] for public, name in contract.outputs.items() if name in known}


def _rounded(step: Step, result: Interval, scope: Scope, rounding: Rounding) -> Interval:
    if step.format is None:
        return result
    target = scope.format(step.format)
    if target == "float8_e4m3fn":
        return rounded(result, target, overflow="saturate")
    contracted = step.contracted == "always" or (step.contracted == rounding == "optional")
    single = rounded(result, "float32", optional=contracted)
    if target == "float32":
        return single
    elided = step.optional and rounding == "optional"
    if elided and step.unless_like is not None:
        elided = target != scope.format(f"@{step.unless_like}")
    return rounded(single, target, optional=elided)


def describe(contract: Contract) -> list[tuple[str, str, str]]:
    """The contract in words: each step's name, what it is, and how it is rounded, if it is."""
    return [
        (
            step.name,
            FUNCTIONS[step.function].text.format(*step.operands),
            "; ".join(_notes(step)),
        )
        for step in contract.steps
    ]


def _notes(step: Step) -> Iterator[str]:
    if step.format is not None:
        what = f"dtype of {step.format[1:]}" if step.format.startswith("@") else step.format
        yield f"rounds to {what}"
    if step.optional and step.unless_like is not None:
        yield f"optional where that is not the dtype of {step.unless_like}"
    elif step.optional:
        yield "optional"
    if step.contracted == "always":
        yield "or fused into the next step"
    elif step.contracted == "optional":
        yield "or, like an optional rounding, fused into the next step"
    if step.chain is not None:
        yield f"any order, chains of at most {step.chain} additions"
    if step.needs is not None:
        yield f"only with {step.needs}"


CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        contract.name: contract
        for family in (layernorm, activation, rotary, quantization, fp8_delayed, kv_cache)
        for contract in family.CONTRACTS
    }
)
"""Every contract by name; the first of an op is its own meaning, the others are variants."""


def contract_for(op: str, name: str | None = None) -> Contract:
    """The contract ``name`` of ``op``, or the op's first one; ValueError names what is known."""
    of_op = [contract for contract in CONTRACTS.values() if contract.op == op]
    for contract in of_op:
        if name is None or contract.name == name:
            return contract
    known = ", ".join(contract.name for contract in of_op or CONTRACTS.values())
    wanted = op if name is None else f"{op} named {name!r}"
    raise ValueError(f"no contract of {wanted}; known: {known}")
