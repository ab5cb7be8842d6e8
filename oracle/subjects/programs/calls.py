"""A step of a program as a call: which function of torch, with which arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from reference.model import Name, ProgramCase, ProgramStep, Value

Call = Callable[..., Any]


@functools.cache
def target_of(name: str) -> Any:
    """The overload that a step names, such as ``aten.add_.Tensor``."""
    import torch

    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return found


@functools.cache
def unwrapped(name: str) -> Call:
    """What runs a step of the IR when the torch wrap is off; others as ``target_of``."""
    namespace, op, overload = name.split(".")
    if namespace != "ir":
        return target_of(name)
    from ir.op import IrOp

    found = IrOp.registry[op]
    return found.maybe_inplace if overload == "maybe_inplace" else found


@functools.cache
def native(name: str) -> Call:
    """What runs a step without us: an op of the IR is the function that defines it."""
    namespace, op, _ = name.split(".")
    if namespace != "ir":
        return target_of(name)
    from ir.op import IrOp

    return IrOp.registry[op].impls["native"].impl_fn


def is_ir(step: ProgramStep) -> bool:
    return step.target.startswith("ir.")


def arguments(step: ProgramStep, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, values put in for their numbers."""
    args = tuple(_operand(o, values) for o in step.operands)
    return args, {name: _operand(o, values) for name, o in step.keywords}


def _operand(operand: Any, values: Sequence[Any]) -> Any:
    if isinstance(operand, Value):
        return values[operand.number]
    if isinstance(operand, Name):
        import torch

        return getattr(torch, operand.name)
    if isinstance(operand, tuple):
        return [_operand(o, values) for o in operand]
    return operand


def run_steps(
    case: ProgramCase,
    inputs: Sequence[Any],
    *,
    find: Callable[[str], Call] = target_of,
    after: Callable[[int, ProgramStep, list[Any]], None] | None = None,
    identity: frozenset[int] = frozenset(),
) -> list[Any]:
    """Every value of the program, its steps run one by one.

    after: told of each step's first result number, step and results. identity: numbers of values
    of clones that are not made: their operand stands in for them.
    """
    from .memory import tensors_of

    values = list(inputs)
    for step in case.steps:
        args, kwargs = arguments(step, values)
        if step.results and len(values) in identity:
            values.append(args[0])
            continue
        results = tensors_of(find(step.target)(*args, **kwargs))[: step.results]
        if len(results) != step.results:
            raise TypeError(f"{step.target} returns {len(results)} tensors, not {step.results}")
        if after is not None:
            after(len(values), step, results)
        values += results
    return values
