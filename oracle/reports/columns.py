"""One look for every table: narrow gaps and no frame, so that 80 columns are enough."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from rich import box
from rich.table import Table


def table(
    *names: str, title: str = "", right: Collection[str] = (), whole: Collection[str] = ()
) -> Table:
    """A table with these columns; long cells go on below, but those in ``right`` and ``whole``.

    ``right`` are numbers, ``whole`` are names that nobody could find again in two pieces.
    """
    made = Table(
        title=title or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    for name in names:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in right or name in whole,
        )
    return made


def listed(items: Iterable[str]) -> str:
    """Items for one cell, a line each: names are never broken."""
    return "\n".join(items)
