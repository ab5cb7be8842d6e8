"""Transfers of ``ir`` and of the reference, as the two subjects observe them."""

from __future__ import annotations

from importlib.util import find_spec

from oracle.observation import Observation
from oracle.proof_observation import Proof
from oracle.subject import Provider
from oracle.transfer_observation import TransferReturned
from reference.model import TransferCase

OP = "transfer"


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.transfer`` can be driven here."""
    missing = "" if find_spec("z3") else "needs z3: pip install 'irverify[proof]'"
    return (
        Provider(op=OP, name="planner", routes=("planned", "memory")),
        Provider(op=OP, name="prover", routes=("proved",), unavailable=missing),
    )


def observe_ir(case: TransferCase, route: str) -> TransferReturned | Proof | Observation:
    """Drive ``ir.transfer`` on a route. Whatever it raises is reported, never raised."""
    if route == "proved":
        from .symbolic import formulas

        return formulas(case)
    from .planned import observe

    return observe(case, route)
