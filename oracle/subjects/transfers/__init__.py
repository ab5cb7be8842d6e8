"""Transfers of ``ir`` and of the reference, as the two subjects observe them."""

from __future__ import annotations

from oracle.observation import Observation
from oracle.subject import Provider
from oracle.transfer_observation import TransferReturned
from reference.model import TransferCase

OP = "transfer"


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.transfer`` can be driven here."""
    return (Provider(op=OP, name="planner", routes=("planned", "memory")),)


def observe_ir(case: TransferCase, route: str) -> TransferReturned | Observation:
    """Drive ``ir.transfer`` on a route. Whatever it raises is reported, never raised."""
    from .planned import observe

    return observe(case, route)
