"""``irverify list``: what there is to select, and which judge sees which class of bugs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from oracle import engine
from oracle.errors import OracleError, UsageError
from oracle.judges.table import CODES, JUDGES, LATER
from oracle.kinds import kind_named
from oracle.plan import Selection
from oracle.properties import PROPERTIES
from oracle.reports.columns import listed, table
from oracle.subject import Provider
from oracle.subjects import DESCRIPTIONS
from reference.contract import CONTRACTS, Contract, describe
from reference.legal import DECLARATIONS

LISTS = ("subjects", "properties", "ops", "contracts", "providers", "judges")


def list_to_text(what: str, imports: tuple[str, ...]) -> int:
    """Print one list; 0, or 2 with a line on stderr."""
    console = Console()
    try:
        for number, shown in enumerate(tables(what, imports)):
            if number:
                console.print()
            console.print(shown)
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
            return [_ops(), _contracts()]
        case "contracts":
            return [_steps(contract) for contract in CONTRACTS.values()]
        case "providers":
            return [_providers(imports)]
        case "judges":
            return [_judges(), _codes()]
    raise UsageError(f"list {what!r}; accepted: {', '.join(LISTS)}")


def _two(first: str, second: str, rows: list[tuple[str, str]]) -> Table:
    made = table(first, second)
    for row in rows:
        made.add_row(*row)
    return made


def _ops() -> Table:
    made = table("op", "parameters", "dtypes of the first activation")
    for name, declaration in DECLARATIONS.items():
        dtypes = declaration.parameter(declaration.dtype_parameter)
        made.add_row(
            name,
            listed(p.name for p in declaration.parameters),
            listed(getattr(dtypes, "dtypes", ())),
            end_section=True,
        )
    return made


def _contracts() -> Table:
    made = table("contract", "what it means", title="contracts")
    for name, contract in CONTRACTS.items():
        made.add_row(name, contract.differs or "the op's own meaning")
    made.caption = "`irverify list contracts` has the steps of each"
    return made


def _steps(contract: Contract) -> Table:
    """One contract, step by step, with what it returns and how a variant differs above it."""
    returned = ", ".join(
        public if public == step else f"{public} = {step}"
        for public, step in contract.outputs.items()
    )
    title = [f"{contract.name} returns {returned}"]
    if contract.differs:
        title.append(f"differs: {contract.differs}")
    if contract.cancellation:
        title.append("results may be small differences of large numbers")
    made = table("step", "what it is", "rounding", title="\n".join(title), whole=("step",))
    for name, what, rounding in describe(contract):
        made.add_row(name, escape(what), rounding)
    return made


def _providers(imports: tuple[str, ...]) -> Table:
    made = table(
        "op", "provider", "routes", "contract", "runs here", whole=("op", "provider", "contract")
    )
    for _subject, (_version, providers) in engine.describe(Selection(imports=imports)).items():
        for p in providers:
            made.add_row(
                p.op,
                p.name,
                _routes(p),
                _contract(p),
                escape(p.unavailable) or "yes",
            )
    return made


def _routes(provider: Provider) -> str:
    """The routes, by what is missing of all that drive its op where that is shorter."""
    properties = [p for p in PROPERTIES.values() if provider.op in kind_named(p.kind).ops]
    known = dict.fromkeys(route for prop in properties for route in prop.routes)
    missing = [route for route in known if route not in provider.routes]
    if not provider.routes:
        return "none"
    if not missing:
        return "all"
    if len(missing) < len(provider.routes):
        return "all but " + ", ".join(missing)
    return ", ".join(provider.routes)


def _contract(provider: Provider) -> str:
    if provider.contract is not None:
        return provider.contract.removeprefix(f"{provider.op}/")
    return "the op's" if provider.op in DECLARATIONS else ""


def _judges() -> Table:
    made = table("judge", "kind", "what it says", title="judges")
    for judge in JUDGES.values():
        for number, (kind, meaning) in enumerate(judge.kinds.items()):
            made.add_row(judge.name if number == 0 else "", kind, meaning)
        made.add_section()
    return made


def _codes() -> Table:
    made = table("code", "what goes wrong", "judges that see it: kinds", title="classes of bugs")
    for code, meaning in CODES.items():
        judges = [f"{j.name}: {', '.join(j.kinds)}" for j in JUDGES.values() if code in j.codes]
        made.add_row(code, meaning, listed(judges) or f"({LATER.get(code, '')})", end_section=True)
    return made
