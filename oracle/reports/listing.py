"""``irverify list``: what there is to select, and which judge sees which class of bugs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from oracle.engine import describe
from oracle.errors import OracleError, UsageError
from oracle.judges.table import CODES, JUDGES, LATER
from oracle.plan import Selection
from oracle.properties import PROPERTIES
from oracle.subjects import DESCRIPTIONS
from reference.contract import CONTRACTS
from reference.legal import DECLARATIONS

LISTS = ("subjects", "properties", "ops", "providers", "judges")


def list_to_text(what: str, imports: tuple[str, ...]) -> int:
    """Print one list; 0, or 2 with a line on stderr."""
    console = Console()
    try:
        for table in tables(what, imports):
            console.print(table)
    except OracleError as error:
        print(f"irverify: {error}", file=sys.stderr)
        return 2
    return 0


def tables(what: str, imports: tuple[str, ...]) -> list[Table]:
    """The tables of one list. Raises ``UsageError`` for a list that there is not."""
    match what:
        case "subjects":
            return [_two("subject", "what it is", list(DESCRIPTIONS.items()))]
        case "properties":
            rows = [(p.name, p.claim) for p in PROPERTIES.values()]
            return [_two("property", "claim", rows)]
        case "ops":
            return [_ops()]
        case "providers":
            return [_providers(imports)]
        case "judges":
            return [_judges(), _codes()]
    raise UsageError(f"list {what!r}; accepted: {', '.join(LISTS)}")


def _two(first: str, second: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(first, second)
    for row in rows:
        table.add_row(*row)
    return table


def _ops() -> Table:
    table = Table("op", "dtypes", "parameters", "contracts")
    for name, declaration in DECLARATIONS.items():
        dtypes = declaration.parameter(declaration.dtype_parameter)
        contracts = [c for c, contract in CONTRACTS.items() if contract.op == name]
        table.add_row(
            name,
            ", ".join(getattr(dtypes, "dtypes", ())),
            ", ".join(p.name for p in declaration.parameters),
            ", ".join(contracts),
        )
    return table


def _providers(imports: tuple[str, ...]) -> Table:
    table = Table("subject", "op", "provider", "routes", "contract", "here")
    for subject, (_version, providers) in describe(Selection(imports=imports)).items():
        for p in providers:
            table.add_row(
                subject,
                p.op,
                p.name,
                ", ".join(p.routes),
                p.contract or "the op's own",
                p.unavailable or "yes",
            )
    return table


def _judges() -> Table:
    table = Table("judge", "kind", "what it says", title="judges", title_justify="left")
    for judge in JUDGES.values():
        for number, (kind, meaning) in enumerate(judge.kinds.items()):
            table.add_row(judge.name if number == 0 else "", kind, meaning)
        table.add_section()
    return table


def _codes() -> Table:
    table = Table("code", "sees", "judges", "kinds", title="classes of bugs", title_justify="left")
    for code, meaning in CODES.items():
        judges = [j for j in JUDGES.values() if code in j.codes]
        kinds = [kind for j in judges for kind in j.kinds]
        later = LATER.get(code, "")
        table.add_row(
            code,
            meaning,
            ", ".join(j.name for j in judges) or f"({later})",
            ", ".join(kinds) or "-",
        )
    return table
