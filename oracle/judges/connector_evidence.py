"""What the judges of connectors are given: what must be seen of a worker, and what was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from oracle.observation import Declined, Died, Raised, Unavailable
from oracle.observation.connector import RunSeen, StepSeen
from oracle.verdict import Place, Verdict, agrees, disagrees, not_applicable
from reference.model import ConnectorCase
from reference.serving import ExpectedRun, ExpectedStep

Fault = tuple[str, Place]
"""A kind of disagreement, and where it shows."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ConnectorEvidence:
    """Everything one check of a worker knows."""

    case: ConnectorCase
    expected: ExpectedRun
    observation: RunSeen | Raised | Died | Declined | Unavailable

    @property
    def seen(self) -> RunSeen | None:
        """The whole run, where there was one and there had to be."""
        seen = self.observation
        if not isinstance(seen, RunSeen) or self.expected.refused or seen.raised is not None:
            return None
        return seen

    @property
    def comparable(self) -> int:
        """How many steps can be compared: those up to a death that only one of the two died."""
        if self.seen is None:
            return 0
        # Lengths may differ: a death brings the step of a new worker's warm-up.
        pairs = zip(self.expected.steps, self.seen.steps, strict=False)
        for number, (wanted, seen) in enumerate(pairs):
            if seen.died != (wanted.moved is not None and wanted.moved.died):
                return number + 1
        return max(len(self.expected.steps), len(self.seen.steps))

    def steps(self) -> Iterator[tuple[int, ExpectedStep, StepSeen]]:
        """Steps with their numbers, expected and seen; none where the run was not whole.

        Those that only one of the two has are not among them: `connector_completion` sees them.
        """
        if self.seen is None:
            return
        count = self.comparable
        pairs = zip(self.expected.steps[:count], self.seen.steps[:count], strict=False)
        for number, (wanted, seen) in enumerate(pairs):
            yield number, wanted, seen

    def first(self, judge: str, faults: Iterator[Fault]) -> Verdict:
        """The first fault as a verdict."""
        if self.seen is None:
            return not_applicable(judge, "no-whole-run")
        for kind, place in faults:
            return disagrees(judge, kind, place)
        return agrees(judge)


def at_step(number: int, name: str, observed: object, expected: object) -> Place:
    """A place in a step: 0 is the first warm-up, others follow the events."""
    return Place(name=name, index=(number,), observed=str(observed), expected=str(expected))
