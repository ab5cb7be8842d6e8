"""The reference dressed as a subject: the identity every property must hold on first.

It answers with the middle of each expected interval, so a judge that disagrees with it is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle.observation import (
    FakeTensorInfo,
    Observation,
    ObservedTensor,
    Raised,
    Returned,
    Unavailable,
)
from oracle.subject import Probes, Provider
from reference.contract import CONTRACTS
from reference.declaration import Refusal
from reference.dtypes import encode
from reference.expectation import Expected, ExpectedOutput, expect, memory_after
from reference.legal import DECLARATIONS
from reference.model import ConnectorCase, OpCase, ProgramCase, StateCase, TransferCase
from reference.model.capture import CaptureCase
from reference.model.storage import contiguous_strides

from . import SubjectOptions
from .capture import reference as captures
from .connector import OP as CONNECTOR
from .connector import reference as connectors
from .programs import reference as programs
from .state import OP as STATE
from .state import reference as states
from .transfers import OP as TRANSFER
from .transfers import reference as transfers

ROUTE = "reference"


class ReferenceSubject:
    """One provider per contract, named after what follows the slash (``1`` is the op's own)."""

    name = "reference"

    def __init__(self, options: SubjectOptions) -> None:
        self._device = options.device

    def version(self) -> str:
        return f"numpy {np.__version__}"

    def providers(self) -> tuple[Provider, ...]:
        ops = tuple(
            Provider(op=contract.op, name=name.split("/", 1)[1], routes=(ROUTE,), contract=name)
            for name, contract in CONTRACTS.items()
            if contract.op in DECLARATIONS
        )
        return (
            *ops,
            *programs.PROVIDERS,
            *captures.PROVIDERS,
            Provider(op=TRANSFER, name="1", routes=(ROUTE,)),
            Provider(op=STATE, name="1", routes=(ROUTE,)),
            Provider(op=CONNECTOR, name="1", routes=(ROUTE,)),
        )

    def observe(self, case: Any, provider: str, route: str, probes: Probes) -> Any:
        if isinstance(case, ConnectorCase):
            return connectors.observe(case)
        if isinstance(case, CaptureCase):
            return captures.observe(case)
        if isinstance(case, TransferCase):
            return transfers.observe(case)
        if isinstance(case, StateCase):
            return states.observe(case)
        if isinstance(case, ProgramCase):
            return programs.observe(case)
        return self._answer_call(case, provider, probes)

    def _answer_call(self, case: OpCase, provider: str, probes: Probes) -> Observation:
        declaration = DECLARATIONS[case.op]
        expectation = expect(declaration, case, contract=f"{case.op}/{provider}")
        if isinstance(expectation, Refusal):
            return Raised(
                "InputError", ("ValueError",), f"{expectation.argument} {expectation.rule}"
            )
        if not isinstance(expectation, Expected):
            return Unavailable(expectation.because)
        outputs = tuple(
            self._answer(case, output, number) for number, output in enumerate(expectation.outputs)
        )
        fakes = tuple(
            FakeTensorInfo(
                dtype=o.dtype, shape=o.shape, strides=o.strides, offset=0, device=o.device
            )
            for o in outputs
        )
        return Returned(
            outputs=outputs,
            inputs_after=tuple(memory_after(declaration, case)),
            again=outputs if probes.refill else None,
            fake=fakes if probes.fake else None,
        )

    def _answer(self, case: OpCase, output: ExpectedOutput, number: int) -> ObservedTensor:
        values = np.where(output.interval.nan == 2, np.nan, output.interval.lo)
        strides = output.strides
        if strides is None:
            strides = contiguous_strides(output.shape)
        return ObservedTensor(
            dtype=output.dtype,
            shape=output.shape,
            strides=strides,
            offset=0,
            device=self._device,
            storage=-1 - number,
            values=encode(values, output.dtype).reshape(output.shape),
        )
