"""Transfers of ``ir`` and of the reference, as the two subjects observe them."""

from __future__ import annotations

from importlib.util import find_spec

from oracle.observation import Observation
from oracle.observation.engines import EnginesReturned
from oracle.observation.proof import Copies, Proof
from oracle.observation.split import Split
from oracle.observation.transfer import TransferReturned
from oracle.subject import Provider
from reference.model import TransferCase

OP = "transfer"
PROVED = ("proved", "proved-split", "proved-copy")


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.transfer`` can be driven here."""
    missing = "" if find_spec("z3") else "needs z3: pip install 'irverify[proof]'"
    return (
        Provider(op=OP, name="planner", routes=("planned", "memory")),
        Provider(op=OP, name="prover", routes=PROVED, unavailable=missing),
        Provider(op=OP, name="nixl", routes=("nixl", "nixl-tcp"), unavailable=without_nixl()),
    )


def without_nixl() -> str:
    """Why NIXL cannot be used here, or nothing."""
    from .engines import missing

    return missing()


def observe_ir(
    case: TransferCase, route: str
) -> TransferReturned | EnginesReturned | Proof | Copies | Split | Observation:
    """Drive ``ir.transfer`` on a route. Whatever it raises is reported, never raised."""
    if route == "proved":
        from .symbolic import formulas

        return formulas(case)
    if route == "proved-split":
        from .splits import split

        return split(case)
    if route == "proved-copy":
        from .copies import copies

        return copies(case)
    if route in ("nixl", "nixl-tcp"):
        from . import engines

        return engines.observe(case, route)
    from .planned import observe

    return observe(case, route)
