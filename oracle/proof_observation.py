"""What a subject reports where a plan is to be proved instead of run: its formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Placeholder."""

    def measures(self) -> Mapping[str, int]:
        return {}
