"""``irverify bench``: what calling, lowering and planning cost, as ratios taken in one run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from oracle.errors import OracleError, UsageError
from oracle.reports.columns import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Processor seconds of the best round, for one unit of work; ``beside`` is what it is paired
    with and ``ratio`` how many times as long it takes, both empty where there is none."""

    what: str
    seconds: float
    per: str
    beside: str = ""
    ratio: float | None = None


def bench_to_text(rounds: int, json_file: Path | None) -> int:
    """Print every timing; 0, or 2 with a line on stderr."""
    from oracle.subjects.bench import timings

    try:
        if rounds < 1:
            raise UsageError(f"--rounds {rounds}; accepted: 1 or more")
        found = timings(rounds)
        show(found, Console(highlight=False))
        if json_file is not None:
            _write(found, json_file)
    except OracleError as error:
        print(f"irverify: {error}", file=sys.stderr)
        return 2
    return 0


def show(found: list[Timing], console: Console) -> None:
    """One row a timing. Only ratios carry over to another machine."""
    made = table("what", "time", "per", "ratio", "of", right=("time", "ratio"))
    made.padding = (0, 1, 0, 0)
    for timing in found:
        ratio = "" if timing.ratio is None else f"{timing.ratio:.2f}"
        made.add_row(timing.what, _time(timing.seconds), timing.per, ratio, timing.beside)
    console.print(made)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def _write(found: list[Timing], path: Path) -> None:
    data = {"format": 1, "timings": [asdict(t) for t in found]}
    try:
        path.write_text(json.dumps(data, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"--json {path}: {error}; accepted: a file to write") from error
