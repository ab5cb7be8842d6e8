"""What the engine asks of a subject: which providers and routes it has, and to observe a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .observation import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One implementation of one op. ``unavailable`` says why it cannot run here (empty: it can).

    ``contract`` is the contract it declares for itself, None for the op's own. ``routes`` are
    those that it can be driven on. ``interpreted`` marks what Triton's interpreter runs, whose
    cost is per program instance.
    """

    op: str
    name: str
    routes: tuple[str, ...]
    contract: str | None = None
    unavailable: str = ""
    interpreted: bool = False
    source: str | None = None
    """Path of the user's file that registered it; None for the subject's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What to observe beside outputs and inputs: a fake run, a second run under another fill."""

    fake: bool = False
    refill: bool = False


class Subject(Protocol):
    """Observes, never judges. One instance lives in each worker process."""

    @property
    def name(self) -> str:
        """What the subject is called."""
        ...

    def version(self) -> str:
        """Versions of what is judged, for the report."""
        ...

    def providers(self) -> tuple[Provider, ...]:
        """Every provider it knows, those that cannot run here included."""
        ...

    def observe(self, case: Any, provider: str, route: str, probes: Probes) -> Observation:
        """Run ``case`` through ``provider`` on ``route``. Raises nothing the subject raised."""
        ...
