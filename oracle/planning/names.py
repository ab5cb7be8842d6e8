"""How ranks and runs of numbers are written, in text and in pictures alike."""

from __future__ import annotations

from collections.abc import Sequence

from oracle.planning.view import EngineView, Rank


def rank_name(engine: EngineView, rank: Rank) -> str:
    """A rank by its number; by ``stage.rank`` where the engine has several stages."""
    stage, number = rank
    return f"{stage}.{number}" if len(engine.stage_layers) > 1 else str(number)


def rank_names(engine: EngineView, ranks: Sequence[Rank]) -> str:
    """Ranks by name, runs of three or more shortened, stage by stage where there are several."""
    of_stage: dict[int, list[int]] = {}
    for stage, number in ranks:
        of_stage.setdefault(stage, []).append(number)
    prefixes = {stage: f"{stage}." if len(engine.stage_layers) > 1 else "" for stage in of_stage}
    return ", ".join(
        listed_numbers(numbers, prefix=prefixes[stage]) for stage, numbers in of_stage.items()
    )


def span(first: int, count: int) -> str:
    """``count`` numbers from ``first`` on: ``3`` or ``3-5``."""
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def listed_numbers(numbers: Sequence[int], *, prefix: str = "") -> str:
    """Numbers in their order, each after `prefix`, runs of three or more as ``0-3``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [
        [f"{prefix}{run[0]}-{prefix}{run[-1]}"]
        if len(run) > 2
        else [f"{prefix}{number}" for number in run]
        for run in runs
    ]
    return ", ".join(text for run in shown for text in run)
