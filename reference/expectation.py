"""What the reference says of a case: expected outputs, a refusal, or unknown and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .contract import Operand, Rounding, contract_for, evaluate
from .declaration import Binding, OpDeclaration, OutputSpec, Refusal
from .dtypes import decode
from .interval import Interval, point
from .layout import dense_like, swapped_last_two
from .model.case import OpCase, Plain
from .model.storage import View, contiguous_strides


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutput:
    """One output: metadata exactly, values as an interval per element.

    ``strides`` is None where the declared layout is free. ``interval`` holds float64 arrays of the
    output's shape whose ends are values of ``dtype``. ``cancellation`` says that the contract
    declares a step that may lose any number of digits, so that no width is too wide.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    interval: Interval
    cancellation: bool
    may_alias: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """The op accepts the case; its outputs are these, in order, under this contract."""

    contract: str
    outputs: tuple[ExpectedOutput, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """The reference cannot say; ``because`` is the kebab-case slug that UNDECIDED shows."""

    because: str


Expectation = Expected | Refusal | Unknown


def expect(
    declaration: OpDeclaration,
    case: OpCase,
    *,
    contract: str | None = None,
    rounding: Rounding = "strict",
    backend: str = "cpu",
) -> Expectation:
    """What ``case`` must give under ``contract`` (the op's own where None).

    ``rounding`` is ``"strict"`` or ``"optional"`` (optional steps may skip their rounding).
    ``backend`` names the column of the table of elementary errors.
    """
    binding = declaration.bind(case)
    if isinstance(binding, Refusal):
        return binding
    arrays = case.arrays()
    if reason := _broken_precondition(declaration, case, binding, arrays):
        return Unknown(reason)
    arguments = _operands(declaration, case, arrays)
    chosen = contract_for(case.op, contract)
    intervals = evaluate(chosen, arguments, rounding=rounding, backend=backend)
    outputs = tuple(
        _output(declaration, case, binding, spec, intervals, chosen.cancellation)
        for spec in declaration.outputs
    )
    return Expected(chosen.name, outputs)


def expected_metadata(
    declaration: OpDeclaration, case: OpCase, binding: Binding
) -> tuple[ExpectedOutput, ...]:
    """The outputs of a legal case with ones for values: what is told without asking a contract."""
    ones = {
        spec.name: point(np.ones(output_shape(case, binding, spec))) for spec in declaration.outputs
    }
    return tuple(
        _output(declaration, case, binding, spec, ones, False) for spec in declaration.outputs
    )


def _operands(
    declaration: OpDeclaration, case: OpCase, arrays: list[np.ndarray]
) -> Mapping[str, Operand | Plain]:
    arguments: dict[str, Operand | Plain] = {}
    for name, value in declaration.values(case).items():
        if isinstance(value, View):
            dtype = case.storages[value.storage].dtype
            arguments[name] = Operand(decode(value.of(arrays[value.storage]), dtype), dtype)
        else:
            arguments[name] = value
    return arguments


def _broken_precondition(
    declaration: OpDeclaration, case: OpCase, binding: Binding, arrays: list[np.ndarray]
) -> str | None:
    for spec in declaration.tensors:
        view = case.views().get(spec.name)
        if spec.index_below is None or view is None or view.numel == 0:
            continue
        found = view.of(arrays[view.storage])
        if found.min() < 0 or found.max() >= binding.sizes[spec.index_below]:
            return f"{spec.name}-out-of-range"
    if declaration.preconditions:
        named = tensor_arrays(case, arrays)
        return next((slug for check in declaration.preconditions if (slug := check(named))), None)
    return None


def tensor_arrays(case: OpCase, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The tensor arguments of ``case`` by name, as windows onto its storages' ``arrays``."""
    return {name: view.of(arrays[view.storage]) for name, view in case.views().items()}


def memory_after(declaration: OpDeclaration, case: OpCase) -> list[np.ndarray]:
    """The storages of a legal ``case`` after the call: what it was, and what the op's state is."""
    arrays = case.arrays()
    if declaration.effect is not None:
        declaration.effect(tensor_arrays(case, arrays))
    return arrays


def _output(
    declaration: OpDeclaration,
    case: OpCase,
    binding: Binding,
    spec: OutputSpec,
    intervals: Mapping[str, Interval],
    cancellation: bool,
) -> ExpectedOutput:
    dtype = case.dtype_of(spec.dtype[1:]) if spec.dtype.startswith("@") else spec.dtype
    if dtype is None:
        raise ValueError(f"output {spec.name!r} takes its dtype from {spec.dtype}, which is absent")
    shape = output_shape(case, binding, spec)
    return ExpectedOutput(
        name=spec.name,
        dtype=dtype,
        shape=shape,
        strides=output_strides(declaration, case, spec, shape),
        interval=intervals[spec.name].reshape(shape),
        cancellation=cancellation,
        may_alias=spec.left_in or (spec.may_alias if case.overload == "maybe_inplace" else None),
    )


def output_shape(case: OpCase, binding: Binding, spec: OutputSpec) -> tuple[int, ...]:
    """The declared shape: axes, or the shape of the input that ``spec.shape`` names as ``@x``."""
    if spec.empty_without is not None and spec.empty_without not in case.views():
        return (0,)
    if isinstance(spec.shape, str):
        return case.views()[spec.shape[1:]].shape
    return binding.shape(spec.shape)


def output_strides(
    declaration: OpDeclaration, case: OpCase, spec: OutputSpec, shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The declared strides of an output of ``shape``, None where the layout is free."""
    if spec.layout.startswith("like:"):
        return dense_like(case.views()[spec.layout[5:]], shape)
    flag = declaration.values(case).get(spec.swapped_if) if spec.swapped_if else False
    if flag:
        return swapped_last_two(shape)
    return contiguous_strides(shape)
