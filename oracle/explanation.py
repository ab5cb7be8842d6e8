"""What the passes did to one graph, as plain data: what ``irverify explain`` shows and writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PassDone:
    """One pass over one graph. ``rows`` belong to ``columns``; ``notes`` are lines below."""

    name: str
    before: int
    after: int
    said: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``graphs``: (stage, Python source) in the order in which they came to be."""

    item: str
    inputs: tuple[str, ...]
    passes: tuple[PassDone, ...]
    graphs: tuple[tuple[str, str], ...]
