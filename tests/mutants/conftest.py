"""Engine runs over kernels that are broken on purpose, and programs through passes that are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fuzz.chooser import SeededChooser
from ir.compilation import unregister_pass
from oracle.engine import run
from oracle.events import Finished, Found
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import Terms, kind_named, kind_of
from oracle.plan import Selection
from oracle.store import Store
from oracle.subjects.programs.subject import Programs
from oracle.verdict import Outcome as Answer
from oracle.verdict import Verdict
from reference.model import ProgramCase

KERNELS = Path(__file__).parent / "kernels"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: its exit code, its findings, and the run's own summary."""

    findings: tuple[Finding, ...]
    finished: Finished

    @property
    def cases(self) -> dict[tuple[str, str, str], str]:
        """The shrunk case by (provider, op, kind), as the report prints it."""
        return {
            (f.provider, f.op, f"{f.judge}: {f.kind}"): "; ".join(kind_of(f.case).lines(f.case))
            for f in self.findings
        }

    def differing(self, pinned: dict[tuple[str, str, str], str | tuple[str, ...]]) -> object:
        """What was not found, or did not shrink to (one of) its pinned cases; {} where all did.

        Several are pinned where no simplification leads from one smallest case to the other.
        """
        cases = self.cases
        return {
            key: cases.get(key)
            for key, wanted in pinned.items()
            if cases.get(key) not in ((wanted,) if isinstance(wanted, str) else wanted)
        }


Judged = Callable[..., Outcome]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Run the engine on files of ``kernels/``, with their faults or without."""

    def judge(*files: str, faulty: bool, **selection) -> Outcome:
        monkeypatch.setenv("MUTANT_FAULTS", "1" if faulty else "0")
        chosen = Selection(
            imports=tuple(str(KERNELS / f"{file}.py") for file in files), workers=1, **selection
        )
        events = list(run(chosen, Store(tmp_path / "findings")))
        findings = tuple(e.finding for e in events if isinstance(e, Found))
        finished = events[-1]
        assert isinstance(finished, Finished)
        return Outcome(findings, finished)

    return judge


@dataclass(slots=True)
class Driven:
    """Programs through passes that a test breaks.

    A mutant has the ``route``, ``provider`` and ``draw`` on which it is looked for in ``tries``
    programs, and the ``judge`` and ``kind`` that it shows to.
    """

    patch: pytest.MonkeyPatch
    subject: Programs = field(default_factory=Programs)
    registered: list[str] = field(default_factory=list)

    def break_with(self, plant: Callable[[pytest.MonkeyPatch], None], provider: str) -> None:
        plant(self.patch)
        if provider != "passes":
            self.registered.append(provider)

    def cases(self, mutant: Any, name: str) -> Iterator[ProgramCase]:
        for index in range(mutant.tries):
            yield mutant.draw(SeededChooser(0, "mutant", name, index))

    def _evidence(self, mutant: Any, case: ProgramCase) -> Any:
        program = kind_named("program")
        observation = self.subject.observe(case, mutant.provider, mutant.route)
        return program.evidence(case, program.expect(case, Terms()), observation, Terms())

    def verdict(self, mutant: Any, case: ProgramCase) -> Verdict:
        return JUDGES[mutant.judge].judge(self._evidence(mutant, case))

    def measures(self, mutant: Any, case: ProgramCase) -> Mapping[str, int]:
        return kind_named("program").measures(self._evidence(mutant, case))

    def shows(self, mutant: Any, case: ProgramCase) -> bool:
        found = self.verdict(mutant, case)
        return (found.outcome, found.kind) == (Answer.DISAGREES, mutant.kind)


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    made = Driven(monkeypatch)
    yield made
    for name in made.registered:
        unregister_pass(name)
