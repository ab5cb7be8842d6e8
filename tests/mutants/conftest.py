"""Engine runs over kernels that are broken on purpose."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from oracle.engine import run
from oracle.events import Finished, Found
from oracle.finding import Finding
from oracle.kinds import kind_of
from oracle.plan import Selection
from oracle.store import Store

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
