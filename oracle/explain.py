"""``irverify explain``: the passes of one model or graph on a screen, and its graphs in files."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from oracle.errors import OracleError, UsageError
from oracle.explanation import Explanation, PassDone
from oracle.reports.columns import table


def explain_to_text(
    item: str,
    *,
    imports: tuple[str, ...] = (),
    providers: tuple[str, ...] = (),
    warm: bool = False,
    write: Path | None = None,
) -> int:
    """Print what the passes did, and write the graphs; 0, or 2 with a line on stderr."""
    from oracle.subjects.explain import explain

    console = Console(highlight=False)
    try:
        found = explain(item, imports=imports, providers=providers, warm=warm)
        show(found, console)
        if write is not None:
            for path in written(found, write):
                console.print(f"wrote {path}", soft_wrap=True, markup=False)
    except OracleError as error:
        print(f"irverify: {error}", file=sys.stderr)
        return 2
    return 0


def show(found: Explanation, console: Console) -> None:
    """Each pass in turn: its counts in a line, what it did to which node in a table."""
    given = f"({', '.join(found.inputs)})" if found.inputs else ""
    console.print(f"{found.item}{given}", markup=False)
    for done in found.passes:
        console.print()
        _show_pass(done, console)


def _show_pass(done: PassDone, console: Console) -> None:
    line = f"{done.name}: {done.before} -> {done.after} nodes; {done.said}"
    console.print(line, markup=False)
    if done.rows:
        made = table(*done.columns, whole=done.columns[:1])
        for row in done.rows:
            made.add_row(*(cell.replace("[", r"\[") for cell in row))
        console.print(Padding(made, (0, 0, 0, 2)))
    for note in done.notes:
        console.print(f"  {note}", markup=False)


def written(found: Explanation, folder: Path) -> list[Path]:
    """Write one Python file a stage. Raises ``UsageError`` where the folder cannot be written."""
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (stage, text) in enumerate(found.graphs):
            path = folder / f"{number}_{stage}.py"
            path.write_text(text)
            paths.append(path)
    except OSError as error:
        raise UsageError(f"--write {folder}: {error}; accepted: a folder to write") from error
    return paths
