"""A run as the command line does it: the engine's events to every report, errors to exit 2."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from rich.console import Console

from oracle.engine import run
from oracle.errors import OracleError
from oracle.events import Finished
from oracle.known import KnownFormatError
from oracle.plan import Selection
from oracle.reports.ndjson import NdjsonReport
from oracle.reports.text import TextReport
from oracle.store import Store


def run_to_reports(selection: Selection, ndjson: Path | None, store: Store | None = None) -> int:
    """Run ``selection``, print it, write it to ``ndjson`` where given; the exit code."""
    text = TextReport(Console())
    with contextlib.ExitStack() as stack:
        stack.callback(text.close)
        handlers = [text.handle]
        try:
            if ndjson is not None:
                file = stack.enter_context(ndjson.open("w", encoding="utf-8"))
                handlers.append(NdjsonReport(file).handle)
            code = 2
            for event in run(selection, store):
                for handle in handlers:
                    handle(event)
                if isinstance(event, Finished):
                    code = event.exit_code
            return code
        except (OracleError, KnownFormatError, OSError) as error:
            text.close()
            print(f"irverify: {error}", file=sys.stderr)
            return 2
