"""What a judge is given: the case, what is expected of it, and what was observed."""

from __future__ import annotations

from dataclasses import dataclass

from oracle.observation import Observation, Returned
from reference.declaration import OpDeclaration
from reference.expectation import Expectation, Expected
from reference.model import OpCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything one check knows. ``device`` is where outputs must live (``cpu``, ``cuda:0``)."""

    declaration: OpDeclaration
    case: OpCase
    expectation: Expectation
    observation: Observation
    device: str = "cpu"

    @property
    def returned(self) -> Returned | None:
        return self.observation if isinstance(self.observation, Returned) else None

    @property
    def expected(self) -> Expected | None:
        return self.expectation if isinstance(self.expectation, Expected) else None
