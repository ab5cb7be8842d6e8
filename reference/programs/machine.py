"""The interpreter: storages as they are now, values made so far, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..declaration import Refusal
from ..dtypes import FORMATS, decode
from ..expectation import Unknown
from ..model import ProgramStep, Storage, View
from .answers import NotKnown, Refused
from .arguments import Arguments, Held
from .ir_calls import (
    Asked,
    ExpectedCall,
    Observed,
    call_results,
    expected_call,
    ir_parameters,
    split_target,
)
from .memory import Memory, Tensor, is_exact, kind_of
from .stateful import STATEFUL
from .vocabulary import ATEN

STRICT = Asked()
METADATA_ONLY = Asked(intervals=False)


class Machine:
    """A program underway. A step that is refused or unknown changes no value.

    ``calls`` are what the ops of the IR must return, up to one whose results are unknown.
    """

    def __init__(
        self,
        storages: Sequence[Storage],
        tensors: Sequence[View],
        inputs: Sequence[int],
        *,
        asked: Asked = STRICT,
    ) -> None:
        self.asked = asked
        self.storages = [_memory(storage) for storage in storages]
        self.tensors = [
            Tensor(self.storages[v.storage], v.shape, v.strides, v.offset) for v in tensors
        ]
        self.values: list[Tensor] = [self.tensors[number] for number in inputs]
        self.calls: list[ExpectedCall] = []
        self.steps = 0

    def apply(
        self, step: ProgramStep, observed: Observed | None = None
    ) -> Refusal | Unknown | None:
        """Run one step; ``observed`` are the outputs that a subject saw of an op of the IR."""
        try:
            results = self._results(step, observed)
            if len(results) != step.results:
                raise Refused(f"returns {len(results)} tensors")
        except Refused as refused:
            return Refusal(step.target, refused.rule)
        except NotKnown as unknown:
            return Unknown(unknown.because)
        self.values.extend(results)
        self.steps += 1
        return None

    def _results(self, step: ProgramStep, observed: Observed | None) -> tuple[Tensor, ...]:
        target = ATEN.get(step.target) or STATEFUL.get(step.target)
        if target is not None:
            a = target.parameters.bind(step, self.values)
            _check_kept(a)
            return target.rule(a)
        found = split_target(step.target)
        if found is None:
            raise NotKnown("target-not-modelled")
        declaration, overload = found
        a = ir_parameters(declaration).bind(step, self.values)
        _check_kept(a)
        expected = expected_call(self.steps, declaration, overload, a, asked=self.asked)
        if not isinstance(expected, ExpectedCall):
            return call_results(declaration, overload, a, expected, None)
        # Known even where what was observed, and so everything after it, is not.
        self.calls.append(expected)
        return call_results(declaration, overload, a, expected.outputs, observed)


def _check_kept(a: Arguments) -> None:
    """What was given away is not used again, not even to make a view."""
    for operand in a.given.values():
        for tensor in _tensors(operand):
            if tensor.is_lost:
                raise NotKnown("given-away")


def _tensors(operand: Held) -> Iterator[Tensor]:
    if isinstance(operand, Tensor):
        yield operand
    elif isinstance(operand, tuple):
        for item in operand:
            yield from _tensors(item)


def _memory(storage: Storage) -> Memory:
    raw = storage.array()
    if FORMATS[storage.dtype].kind != "float":
        return Memory(storage.dtype, raw.astype(kind_of(storage.dtype)), 0)
    values = decode(raw, storage.dtype)
    if not np.isfinite(values).all():
        raise NotKnown("not-finite")
    unit = unit_of(values)
    # Content of many digits counts as observed: whatever would round it is unknown.
    return Memory(storage.dtype, values, unit if is_exact(values, unit, storage.dtype) else None)


def unit_of(values: np.ndarray) -> int:
    """The largest multiple of 4, up to 0, to whose power of two all values are multiples."""
    unit, scaled = 0, values
    while (scaled != np.rint(scaled)).any():
        unit, scaled = unit - 4, scaled * 16.0
    return unit
