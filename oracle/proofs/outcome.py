"""What comes of a proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuted:
    """A claim that does not hold: what is wrong, of which rank, group, and at which sizes."""

    kind: str
    rank: tuple[int, int]
    group: int
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What came of a proof. `claims` were given to z3 or hold by their signs; `unknown` says why
    some are open. At most one refuted claim is told.

    `paths` is how many ways through the planner can be taken, at some sizes that were found; on
    the `dead` ones the assumptions contradict each other, and nothing was claimed of them.
    """

    claims: int
    unknown: str = ""
    refuted: Refuted | None = None
    paths: int = 0
    dead: int = 0
