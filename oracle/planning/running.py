"""A plan as the command line makes it: to the terminal, to files, refusals to exit 2."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from oracle.errors import UsageError
from oracle.planning.options import PlanOptions
from oracle.reports.plan_html import plan_to_html
from oracle.reports.plan_text import print_plan
from oracle.subjects.plan_view import view_of


def plan_to_reports(options: PlanOptions, html: Path | None, data: Path | None) -> int:
    """Plan and print; also draw to `html` and write JSON to `data` where given; the exit code."""
    try:
        plan = view_of(options)
        if html is not None:
            html.write_text(plan_to_html(plan), encoding="utf-8")
        if data is not None:
            data.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    except (UsageError, OSError) as error:
        print(f"irverify: {error}", file=sys.stderr)
        return 2
    print_plan(Console(highlight=False), plan)
    return 0
