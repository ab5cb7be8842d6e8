"""Workers with a KV connector, of ``ir`` and of the reference, as the two subjects observe them."""

from __future__ import annotations

from importlib.util import find_spec

from oracle.observation import Declined
from oracle.observation.connector import RunSeen
from oracle.subject import Provider
from reference.model import ConnectorCase

OP = "connector"
ROUTES = ("run", "compiled", "compiled-inductor")


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.connector`` can be driven here."""
    missing = "" if find_spec("safetensors") else "needs safetensors: irverify[connector]"
    return (Provider(op=OP, name="runner", routes=ROUTES, unavailable=missing),)


def observe_ir(case: ConnectorCase, route: str) -> RunSeen | Declined:
    """Drive ``ir.connector`` on a route. Whatever it raises is reported, never raised."""
    if route != "run" and case.mode != "eager":
        return Declined("compiled-pieces-are-not-captured")
    from .worker import observe

    return observe(case, route)
