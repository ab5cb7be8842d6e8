"""A finding run again: the same case, provider and route, judged afresh."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from oracle.engine import described, started_pool
from oracle.errors import OracleError, UsageError
from oracle.finding import Finding
from oracle.plan import Selection
from oracle.properties import PROPERTIES
from oracle.reports.text import finding_lines
from oracle.single import check_once
from oracle.store import FindingLookupError, Store
from oracle.subject import Provider
from oracle.subjects import DESCRIPTIONS
from oracle.verdict import Outcome, Verdict
from oracle.worker import CheckRequest


def replay_to_text(reference: str, imports: tuple[str, ...], store: Store | None = None) -> int:
    """Replay what ``reference`` names, print what came of it and return the exit code.

    0: gone. 1: there, or another judge disagrees. 2: cannot be run. 3: the finding's own judge
    decides nothing now, whatever the others say, or it was never seen by itself.
    """
    store = store or Store()
    console = Console()
    try:
        finding = store.load(reference)
        verdicts = replayed(finding, imports)
    except (OracleError, FindingLookupError) as error:
        print(f"irverify: {error}", file=sys.stderr)
        return 2
    for line in finding_lines(finding, store.folder(reference)):
        console.print(line, highlight=False, soft_wrap=True)
    again = [v for v in verdicts if v.outcome is Outcome.DISAGREES]
    for verdict in again:
        console.print(f"now: {verdict.judge}: {verdict.kind}: {verdict.place}", markup=False)
    if again:
        return 1
    own = [v for v in verdicts if v.judge == finding.judge]
    if not any(v.outcome is Outcome.AGREES for v in own):
        open_ = sorted({v.kind for v in own if v.outcome is Outcome.UNDECIDED})
        why = f"{finding.judge}: {', '.join(open_) or 'not applicable'}"
        console.print(f"now: nothing decided ({why})", highlight=False, markup=False)
        return 3
    if not finding.alone and not imports:
        console.print("now: agrees, as it did by itself when it was found")
        return 3
    console.print("now: agrees, the disagreement is gone")
    return 0


def replayed(finding: Finding, imports: tuple[str, ...]) -> list[Verdict]:
    """The verdicts of the finding's property on its case, now.

    Without ``imports`` the registrations kept in the finding are used.
    """
    for what, given, known in (
        ("property", finding.property, PROPERTIES),
        ("subject", finding.subject, DESCRIPTIONS),
    ):
        if given not in known:
            raise UsageError(f"{what} {given!r}; accepted: {', '.join(known)}")
    judges = PROPERTIES[finding.property].judges
    if finding.judge not in judges:
        raise UsageError(
            f"{finding.property} has no judge {finding.judge!r}; accepted: {', '.join(judges)}"
        )
    with tempfile.TemporaryDirectory(prefix="irverify-replay-") as folder:
        if finding.source is not None and not imports:
            kept = Path(folder) / finding.source.name
            kept.write_text(finding.source.text, encoding="utf-8")
            imports = (str(kept),)
        selection = Selection(
            subjects=(finding.subject,), device=finding.device, imports=imports, workers=1
        )
        with started_pool(selection) as pool:
            _refuse_unknown(finding, described(selection, pool)[finding.subject][1])
            request = CheckRequest(
                prop=finding.property,
                subject=finding.subject,
                case=finding.case,
                provider=finding.provider,
                route=finding.route,
                contract=finding.contract or None,
            )
            return [result.verdict for result in check_once(pool, request, finding.device)]


def _refuse_unknown(finding: Finding, providers: tuple[Provider, ...]) -> None:
    """A finding may outlive its provider, and a user's file may no longer register it."""
    routes = {p.name: p.routes for p in providers if p.op == finding.op}
    if finding.provider not in routes:
        raise UsageError(
            f"{finding.op} has no provider {finding.provider!r}; accepted: {', '.join(routes)}"
        )
    if finding.route not in routes[finding.provider]:
        raise UsageError(
            f"{finding.op} {finding.provider} has no route {finding.route!r}; "
            f"accepted: {', '.join(routes[finding.provider])}"
        )
