"""What a judge of programs is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from oracle.observation import Observation
from oracle.observation.program import ProgramPerturbed, ProgramReturned
from reference.declaration import Refusal
from reference.model import ProgramCase
from reference.programs import ExpectedCall, ExpectedProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEvidence:
    """One run of a program beside what it means.

    ``expected`` follows from the values that ops of the IR were seen to return; None where torch
    must refuse the program, where it did not return, and where ``unknown`` says why nobody can
    tell. ``calls`` are the ops of the IR as far as they are known; ``wanted``, by the number of
    a value that they return, says which of its elements anybody reads.
    """

    case: ProgramCase
    expected: ExpectedProgram | None
    refusal: Refusal | None
    calls: tuple[ExpectedCall, ...]
    wanted: Mapping[int, np.ndarray]
    observation: Observation | ProgramReturned | ProgramPerturbed
    unknown: str = ""
    route: str = ""
    """The way that the program took; empty where it was not driven."""
    stock: ProgramEvidence | None = None
    """Of stock torch.compile on the same program, where our compiled route differs from eager."""

    @property
    def returned(self) -> ProgramReturned | None:
        found = self.observation
        return found if isinstance(found, ProgramReturned) else None
