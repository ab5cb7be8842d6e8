"""Which part of a property's programs is compiled too: costly routes see a fixed part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oracle.known_programs import known_programs
from oracle.plan import KNOWN, Stream
from reference.model import ProgramCase

STOCK = ("eager", "aot-eager")
"""Routes of subject ``torch``; it shares ``inductor`` with ``ir``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a stream's programs, drawn under a label of its own, and routes beside FX.

    ``percent`` of a quick count, ``full`` of a full one. ``lowering`` and ``clones`` are routes
    of that property alone.
    """

    label: str
    percent: float
    full: float
    routes: tuple[str, ...] = ()
    lowering: tuple[str, ...] = ()
    clones: tuple[str, ...] = ()

    def of(self, count: int, *, full: bool = False) -> int:
        return round(count * (self.full if full else self.percent) / 100)


SHARES = (
    Share(label="", percent=60, full=63, clones=("fx-blind",)),
    Share(label="-inplace", percent=25, full=32.5, lowering=("fx-inplace", "fx-blind")),
    Share(label="-backend", percent=10, full=3.5, routes=("backend", "aot-eager")),
    Share(label="-inductor", percent=5, full=1, routes=("inductor",)),
)
"""A quick run takes 10 % through our backend and 5 % through Inductor, a full one 3.5 and 1 %."""

_SHOWN = (
    "eager", "fx-cold", "fx-warm", "fx-uncached", "fx-inplace", "fx-blind", "backend", "aot-eager",
    "inductor",
)  # fmt: skip


def known_stream(op: str) -> Stream:
    """The smallest programs that torch itself gets wrong: each must go on showing it."""
    return Stream(
        name=KNOWN,
        op=op,
        dtype="",
        count=len(known_programs()),
        case=_known,
        routes=(*STOCK, "inductor"),
        fixed_count=True,
        # What is known of torch is asked of torch: others have it left undecided as torch's.
        subjects=("torch",),
    )


def _known(_seed: int, index: int) -> ProgramCase:
    return known_programs()[index]


def share_lines(measures: Mapping[str, int]) -> tuple[str, ...]:
    """How many programs were driven, and which share of them on each costly route."""
    every = measures.get("route fx-cold", 0) or measures.get("route eager", 0)
    if not every:
        return ()
    counts = {name: measures.get(f"route {name}", 0) for name in _SHOWN}
    parts = [f"{name} {n:,} ({100 * n / every:.1f} %)" for name, n in counts.items() if n]
    return (f"programs by route: {', '.join(parts)}",)


def stock_lines(name: str, measures: Mapping[str, int]) -> tuple[str, ...]:
    """Who decides what property ``name`` leaves undecided as stock's, where there is any."""
    count = measures.get("as stock", 0)
    if not count:
        return ()
    return (
        f"{count:,} compiled runs differ from running step by step as torch.compile's do without "
        f"us: `irverify run --subject torch --property {name}` judges those",
    )
