"""Programs through torch.compile without us: ops of the IR are the functions that define them.

eager      step by step in torch
aot-eager  torch.compile through AOTAutograd, the graph run node by node
inductor   torch.compile through Inductor, which keeps the roundings that the program states
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from oracle.observation import Raised, Unavailable
from oracle.observation.program import ProgramReturned
from oracle.subject import Provider
from reference.model import ProgramCase

from .calls import native
from .driving import compiled, has_compiler, raised, step_by_step

PROVIDER = "stock"
WAYS: Mapping[str, str] = MappingProxyType({"aot-eager": "aot_eager", "inductor": "stock"})
"""How each compiled route is compiled."""
ROUTES = ("eager", *WAYS)


def providers() -> tuple[Provider, ...]:
    """Torch itself, on its routes."""
    return (Provider(op="program", name=PROVIDER, routes=ROUTES),)


def observe(case: ProgramCase, route: str) -> ProgramReturned | Raised | Unavailable:
    """Run the program on one of ``ROUTES``. What it raises is reported, never raised."""
    if route == "inductor" and not has_compiler():
        return Unavailable("no-compiler")
    return run(case, route)


def run(case: ProgramCase, route: str) -> ProgramReturned | Raised:
    """As ``observe``, where there is a compiler."""
    try:
        eager = step_by_step(case, native)
        found = eager if route == "eager" else compiled(case, WAYS[route], eager)
    except Exception as error:  # what a subject raises is an observation, whatever it is
        return raised(error)
    return replace(found, route=route)
