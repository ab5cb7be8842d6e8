"""Transfers of ``ir`` and of the reference, as the two subjects observe them."""

from __future__ import annotations

from importlib.util import find_spec

from oracle.observation import Observation, Unavailable
from oracle.proof_observation import Proof
from oracle.subject import Provider
from oracle.transfer_observation import TransferReturned
from reference.model import TransferCase

OP = "transfer"


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.transfer`` can be driven here."""
    routes = ("planned", "memory", "proved")
    return (Provider(op=OP, name="planner", routes=routes),)


def observe_ir(case: TransferCase, route: str) -> TransferReturned | Proof | Observation:
    """Drive ``ir.transfer`` on a route. Whatever it raises is reported, never raised."""
    if route == "proved":
        from .symbolic import formulas

        # z3 is looked for here, before any formula is made.
        return formulas(case) if find_spec("z3") else Unavailable("no-z3")
    from .planned import observe

    return observe(case, route)
