"""What a judge of captured functions is given, and what its judges say places with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from oracle.observation import Died, Raised
from oracle.observation.capture import CaptureReturned, EventSeen
from oracle.verdict import Place, Verdict, not_applicable
from reference.dtypes import numpy_dtype
from reference.model.capture import CaptureCase, CaptureEvent, Replay
from reference.programs import ExpectedTensor
from reference.replays import ExpectedCapture, ExpectedEvent

Step = tuple[int, CaptureEvent, ExpectedEvent, EventSeen]


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptureEvidence:
    """Everything that one check of a captured function knows.

    ``expected`` is None where the reference does not know, and ``unknown`` says why.
    """

    case: CaptureCase
    expected: ExpectedCapture | None
    observation: CaptureReturned | Raised | Died
    unknown: str = ""

    @property
    def returned(self) -> CaptureReturned | None:
        found = self.observation
        return found if isinstance(found, CaptureReturned) else None

    @cached_property
    def padded(self) -> frozenset[int]:
        """Storages of which the rows that pad a batch are the graph's concern."""
        positions = range(self.case.static if self.case.sizes else 0)
        return frozenset(self.case.body.input_view(i).storage for i in positions)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The events as far as what was to be refused was, and nothing else."""
        return tuple(self._followed())

    def _followed(self) -> Iterator[Step]:
        expected, returned = self.expected, self.returned
        if expected is None or returned is None or expected.refused or returned.refused:
            return
        for number, (event, wanted, seen) in enumerate(
            zip(self.case.events, expected.events, returned.events, strict=True)
        ):
            if seen.raised is not None or (wanted.refused is None) != (seen.refused is None):
                return
            yield number, event, wanted, seen

    @property
    def replays(self) -> Iterator[Step]:
        """Those of the events that are replays which returned."""
        for step in self.steps:
            if isinstance(step[1], Replay) and step[2].refused is None:
                yield step


def is_telling(evidence: CaptureEvidence) -> bool:
    """Agreeing says something where a refusal is due, or results hold unlike elements."""
    expected = evidence.expected
    if expected is None:
        return False
    if expected.refused is not None or any(e.refused is not None for e in expected.events):
        return True
    arrays = [content_of(o) for event in expected.events for o in event.outputs]
    return any(len(np.unique(bits_of(a))) > 1 for a in arrays)


def content_of(wish: ExpectedTensor) -> np.ndarray:
    return np.frombuffer(wish.content, numpy_dtype(wish.dtype)).reshape(wish.shape)


def bits_of(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.dtype(f"u{flat.itemsize}"))


def place_at(name: str, at: tuple[int, ...], observed: str, expected: str) -> Place:
    return Place(name=name, index=at, observed=observed, expected=expected)


def no_results(judge: str) -> Verdict:
    return not_applicable(judge, "no-results")
