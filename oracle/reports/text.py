"""The run on a terminal: a bar while it works, then the table and every disagreement."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from oracle.checking import UlpHistogram
from oracle.events import CaseDone, Checked, Event, Finished, Found, Shrinking, Started
from oracle.finding import Finding
from oracle.kinds import kind_of
from oracle.reports.columns import table
from oracle.store import script_of

LISTED = 12
"""Lines of one list before the rest is only counted."""


class TextReport:
    """Prints to ``console``; the bar only where that is a terminal."""

    def __init__(self, console: Console, *, bar: bool | None = None) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cases"),
            TextColumn("{task.fields[wrong]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not (console.is_terminal if bar is None else bar),
            transient=True,
        )
        self._task = None
        self._wrong = 0
        self._whole = False

    def handle(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Started():
                self._started(event)
            case Checked(result):
                self._wrong += result.verdict.outcome == "DISAGREES"
            case CaseDone(done):
                if self._task is not None:
                    wrong = f"[red]{self._wrong} disagree[/red]" if self._wrong else ""
                    self._progress.update(self._task, completed=done, wrong=wrong)
            case Shrinking():
                if self._task is not None:
                    note = f"shrunk in {event.tries} steps to {event.size} {event.unit}"
                    self._progress.update(self._task, description=f"shrinking, {note}")
            case Found():
                self._progress.stop()
                self._found(event)
            case Finished():
                self._progress.stop()
                self._finished(event)

    def close(self) -> None:
        """Leave the terminal as it was, whatever ended the run."""
        self._progress.stop()

    def _started(self, event: Started) -> None:
        # A handful of cases cannot decide each cell many times: only whole budgets promise it.
        self._whole = isinstance(event.budget, str)
        who = ", ".join(f"{name} ({version})" for name, version in event.versions.items())
        self._console.print(
            f"judging {who}: {_count(event.planned_cases, 'case')}, seed {event.seed}, "
            f"{_count(event.workers, 'worker')}",
            highlight=False,
        )
        for provider in event.interpreted:
            self._console.print(
                f"{provider}: in Triton's interpreter, no GPU code is compiled", highlight=False
            )
        self._task = self._progress.add_task("checking", total=event.planned_cases, wrong="")
        self._progress.start()

    def _found(self, event: Found) -> None:
        for line in finding_lines(event.finding, Path(event.path), event.known):
            self._console.print(line, highlight=False, soft_wrap=True)

    def _finished(self, event: Finished) -> None:
        console = self._console
        if any(event.histogram.counts.values()):
            console.print(histogram_table(event.histogram))
            console.print()
        console.print(result_table(event))
        for line in (*reason_lines(event), *event.notes):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        for title, lines in (
            ("skipped", event.skipped),
            ("nothing decided", event.nothing_decided),
            ("little decided", event.thin if self._whole else ()),
            ("one more disagreement, not shrunk", event.unshrunk),
            ("does not hold", event.unmet),
            ("known disagreement that no longer reproduces", event.unreproduced),
        ):
            _list(console, title, lines)
        for line in closing_lines(event):
            console.print(line, highlight=False)


def _list(console: Console, title: str, lines: tuple[str, ...]) -> None:
    for line in lines[:LISTED]:
        console.print(f"{title}: {line}", highlight=False, markup=False, soft_wrap=True)
    if len(lines) > LISTED:
        console.print(f"{title}: and {len(lines) - LISTED} more", highlight=False, markup=False)


def result_table(event: Finished) -> Table:
    """Subject x property: cases, checks, how they came out, worker time."""
    numbers = ("cases", "checks", "agrees", "disagrees", "undecided", "n/a", "time")
    made = table("subject", "property", *numbers, right=numbers)
    for row in event.rows:
        counts = row.counts
        made.add_row(
            row.subject,
            row.prop,
            f"{counts.cases:,}",
            f"{counts.checks:,}",
            f"{counts.agrees:,}",
            f"[red]{counts.disagrees:,}[/red]" if counts.disagrees else "0",
            f"{counts.undecided:,}",
            f"{counts.not_applicable:,}",
            f"{row.seconds:,.0f} s",
        )
    return made


def reason_lines(event: Finished) -> list[str]:
    """Why checks decided nothing: a line for each row of the table and each of the two answers."""
    return [
        f"{answer} in {row.subject} {row.prop}: "
        + ", ".join(f"{kind} {count:,}" for kind, count in reasons.items())
        for row in event.rows
        for answer, reasons in (("undecided", row.undecided), ("n/a", row.not_applicable))
        if reasons
    ]


def histogram_table(histogram: UlpHistogram) -> Table:
    """How far compiled-stock lies from eager, in ulps of the output: a show, not a verdict."""
    edges = histogram.EDGES
    labels = [str(edges[0]), str(edges[1])]
    labels += [
        f"{low + 1}" if low + 1 == high else f"{low + 1}-{high}"
        for low, high in pairwise(edges[1:])
    ]
    labels += [f">{edges[-1]}", "up-down"]
    title = "compiled-stock against eager: % of elements so many ulps apart"
    made = table("op", "output", *labels, title=title, right=labels)
    for (op, dtype), buckets in sorted(histogram.counts.items()):
        total = sum(buckets)
        if not total:
            continue
        signed = histogram.signed.get((op, dtype), 0) / total
        cells = [_percent(n, total) for n in buckets]
        made.add_row(op, dtype.removeprefix("float8_"), *cells, f"{100 * signed:+.2f}")
    return made


def _percent(part: int, whole: int) -> str:
    """Two decimals; what is not quite all or nothing is never rounded to it."""
    if part in (0, whole):
        return "100" if part else "-"
    return f"{min(max(100 * part / whole, 0.01), 99.99):.2f}"


def finding_lines(finding: Finding, folder: Path, known: str = "") -> list[str]:
    """A disagreement in a few lines: what, where, on which input, and how to see it again.

    ``folder`` is where it is kept, with its script or why it has none.
    """
    mark = f"{finding.judge}: {finding.kind}"
    mark = f"{mark} (known: {escape(known)})" if known else f"[bold red]{mark}[/bold red]"
    head = f"{finding.subject} {finding.op} {finding.provider}, route {finding.route}"
    contract = f", contract {finding.contract}" if finding.contract else ""
    kind = kind_of(finding.case)
    lines = [f"{mark}  {escape(head)}{escape(contract)}"]
    lines.append(f"  {escape(str(finding.place))}")
    if finding.differing > 1:
        lines.append(f"  the worst of {finding.differing} elements that differ")
    lines += [f"  {escape(line)}" for line in kind.lines(finding.case)]
    if finding.also_on:
        lines.append(f"  also on {', '.join(map(str, finding.also_on))}")
    if not finding.alone:
        lines.append("  not by itself: seen only after other calls in the same process")
        return lines
    lines.append(f"  see it again: irverify replay {finding.fingerprint}")
    if finding.subject in kind.scripted:
        lines += _script_lines(folder)
    if finding.source is not None:
        # Both of these run the copy of the file that the finding keeps.
        again = f"irverify replay {finding.fingerprint} --import {escape(finding.source.name)}"
        lines.append(f"  after a fix:  {again}")
    return lines


def _script_lines(folder: Path) -> list[str]:
    script, why = script_of(folder)
    if script is not None:
        return [f"  by itself:    python {escape(str(script))}"]
    # What would be accepted instead is for who reads the file.
    return [f"  by itself:    {escape(why.partition(';')[0])}"] if why else []


def closing_lines(event: Finished) -> list[str]:
    """The run in three lines, the last with its exit code's meaning."""
    counts = event.counts
    share = 100 * counts.undecided / counts.checks if counts.checks else 0.0
    distinct = f", {counts.cases:,} distinct" if counts.cases != event.cases else ""
    return [
        f"{_count(event.cases, 'case')}{distinct}, {_count(counts.checks, 'check')} "
        f"in {event.seconds:,.0f} s",
        f"{counts.agrees:,} agree, {counts.disagrees:,} disagree, {counts.undecided:,} undecided "
        f"({share:.1f} %), {counts.not_applicable:,} not applicable",
        f"{_meaning(event)} (exit {event.exit_code})",
    ]


def _meaning(event: Finished) -> str:
    """What made the exit code, all of it."""
    if event.exit_code == 3:
        return "nothing was decided for something that was selected"
    if event.exit_code == 1:
        failed = (
            ("disagreements", event.unexcused),
            ("a claim about the run does not hold", event.unmet),
            ("a known disagreement is gone", event.unreproduced),
        )
        return ", ".join(what for what, there in failed if there)
    if event.counts.disagrees:
        return "all that disagrees is known"
    return "all that was decided agrees" if event.counts.undecided else "all agree"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
