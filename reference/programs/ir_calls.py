"""Ops of the IR inside a program: an interval for each output, then on with what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..declaration import REQUIRED as REQUIRED_BY_OP
from ..declaration import OpDeclaration, Refusal
from ..dtypes import decode, numpy_dtype
from ..expectation import ExpectedOutput, Unknown, expect, expected_metadata
from ..interval import Interval
from ..legal import DECLARATIONS
from ..model import Argument, Name, OpCase, Plain, Storage, View
from .answers import NotKnown, Refused
from .arguments import REQUIRED, Arguments, Parameters
from .memory import Memory, Tensor, give_away

Observed = Sequence[np.ndarray]
"""The outputs of one step as a subject saw them, each of its shape, in its dtype's NumPy form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What contracts are asked under, as ``expect`` takes it.

    Without ``intervals`` no contract is asked: ops of the IR return ones, of the right metadata.
    """

    contract: str | None = None
    rounding: str = "strict"
    backend: str = "cpu"
    intervals: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCall:
    """What step number ``step`` must return, given the values that came before it."""

    step: int
    op: str
    overload: str
    contract: str
    outputs: tuple[ExpectedOutput, ...]


def split_target(target: str) -> tuple[OpDeclaration, str] | None:
    """The declaration and overload that ``ir.<op>.<overload>`` names; None for another target."""
    prefix, _, rest = target.partition(".")
    op, _, overload = rest.rpartition(".")
    if prefix != "ir" or op not in DECLARATIONS or overload not in ("default", "maybe_inplace"):
        return None
    # What an op keeps between calls is no operand of a program's step.
    return None if DECLARATIONS[op].states else (DECLARATIONS[op], overload)


def ir_parameters(declaration: OpDeclaration) -> Parameters:
    """The op's parameters, each to be given by place or by name."""
    defaults = {
        spec.name: REQUIRED if spec.default is REQUIRED_BY_OP else spec.default
        for spec in declaration.parameters
    }
    return Parameters(defaults, len(defaults))


def ir_case(declaration: OpDeclaration, overload: str, a: Arguments) -> OpCase:
    """The call as a case of its own, on the memory as it is now."""
    numbers: dict[int, int] = {}
    storages: list[Storage] = []
    arguments: list[Argument] = []
    for name, operand in a.given.items():
        if isinstance(operand, Tensor):
            memory = operand.memory
            if id(memory) not in numbers:
                numbers[id(memory)] = len(storages)
                storages.append(Storage(memory.dtype, len(memory.array), memory.content()))
            value: View | Plain = View(
                numbers[id(memory)], operand.shape, operand.strides, operand.offset
            )
        elif isinstance(operand, Name | tuple):
            raise Refused("a tensor or a plain value")
        else:
            value = operand
        arguments.append(Argument(name, value))
    chosen = "maybe_inplace" if overload == "maybe_inplace" else "default"
    return OpCase(declaration.op, tuple(storages), tuple(arguments), chosen)


def expected_call(
    step: int, declaration: OpDeclaration, overload: str, a: Arguments, *, asked: Asked
) -> ExpectedCall | tuple[ExpectedOutput, ...]:
    """What the call must return; where no contract is asked, its outputs' metadata alone."""
    case = ir_case(declaration, overload, a)
    if not asked.intervals:
        binding = declaration.bind(case)
        if isinstance(binding, Refusal):
            raise Refused(f"{declaration.op}: {binding.argument} {binding.rule}")
        return expected_metadata(declaration, case, binding)
    found = expect(
        declaration,
        case,
        contract=asked.contract if _names(asked.contract, declaration.op) else None,
        rounding="optional" if asked.rounding == "optional" else "strict",
        backend=asked.backend,
    )
    if isinstance(found, Refusal):
        raise Refused(f"{declaration.op}: {found.argument} {found.rule}")
    if isinstance(found, Unknown):
        raise NotKnown(found.because)
    return ExpectedCall(
        step=step,
        op=declaration.op,
        overload=overload,
        contract=found.contract,
        outputs=found.outputs,
    )


def _names(contract: str | None, op: str) -> bool:
    return contract is not None and contract.partition("/")[0] == op


def call_results(
    declaration: OpDeclaration,
    overload: str,
    a: Arguments,
    outputs: Sequence[ExpectedOutput],
    observed: Observed | None,
) -> tuple[Tensor, ...]:
    """The results of a call: as observed, or some admitted values.

    The activations of ``maybe_inplace`` are given away, and its outputs may lie where they lay.
    """
    if observed is not None and len(observed) != len(outputs):
        raise NotKnown("observation-does-not-fit")
    made: list[Tensor] = []
    for i, output in enumerate(outputs):
        if output.strides is None:
            raise NotKnown("layout-is-free")
        values = _admitted(output.interval) if observed is None else _seen(output, observed[i])
        array = np.zeros(values.size)
        memory = Memory(output.dtype, array, None)
        tensor = Tensor(memory, output.shape, output.strides)
        tensor.window(array)[...] = values
        if output.may_alias is not None:
            memory.may_be(a.tensor(output.may_alias).memory)
        made.append(tensor)
    if overload == "maybe_inplace":
        for name in declaration.activations:
            give_away(a.tensor(name))
    return tuple(made)


def _admitted(interval: Interval) -> np.ndarray:
    """One value of each interval, finite where one is."""
    return np.where(np.isfinite(interval.lo), interval.lo, interval.hi)


def _seen(output: ExpectedOutput, values: np.ndarray) -> np.ndarray:
    if values.shape != output.shape or values.dtype != numpy_dtype(output.dtype):
        raise NotKnown("observation-does-not-fit")
    seen = decode(values, output.dtype)
    if not np.isfinite(seen).all():
        raise NotKnown("not-finite")
    return seen
