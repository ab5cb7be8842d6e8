"""Greedy shrinking of cases: take any simpler case that still fails, until none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from oracle.kinds import kind_of
from reference.model import digest


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The simplest failing case found, how many cases were tried, how many of them were taken."""

    case: Any
    tries: int
    steps: int


def shrink(case: Any, still_fails: Callable[[Any], bool], *, limit: int) -> Shrunk:
    """The simplest case reached from ``case`` for which ``still_fails`` holds.

    ``still_fails`` says whether a case shows the same disagreement (the caller holds the
    fingerprint fixed); it is not asked about ``case`` itself, nor twice about any case, and at
    most ``limit`` times. Below the limit, no candidate of the result fails.
    """
    passes = kind_of(case).passes
    seen = {digest(case)}
    tries = steps = 0

    def improved(simplify: Callable[[Any], Iterator[Any]]) -> Any:
        nonlocal tries
        for candidate in simplify(case):
            if tries >= limit:
                return None
            name = digest(candidate)
            if name in seen:
                continue
            seen.add(name)
            tries += 1
            if still_fails(candidate):
                return candidate
        return None

    before = -1
    while before != steps:
        # What a later pass took may help an earlier one: rounds go on until one takes nothing.
        before = steps
        for simplify in passes:
            while (found := improved(simplify)) is not None:
                case, steps = found, steps + 1
    return Shrunk(case, tries, steps)
