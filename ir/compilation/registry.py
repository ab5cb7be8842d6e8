"""Passes of one's own by name, so that others can find and judge them.

    @ir.compilation.register_pass("mine")
    def mine(graph: fx.Graph) -> None: ...

A pass is what Inductor takes as a custom pass: it changes a graph in place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from torch import fx

from ir.errors import RegistrationError

Pass = Callable[[fx.Graph], None]
P = TypeVar("P", bound=Pass)

_NAME = re.compile(r"[a-z_][a-z_0-9]*")
_passes: dict[str, Pass] = {}

PASSES: Mapping[str, Pass] = MappingProxyType(_passes)
"""The registered passes, in the order in which they came."""


def register_pass(name: str) -> Callable[[P], P]:
    """Register the decorated function, or a callable object, under `name`.

    It is given a graph whose nodes carry fake values (`meta["val"]`), where nothing need be
    functional, and changes it in place; what it returns is ignored.
    Raises RegistrationError: a name that is taken or is not made of lower-case letters, digits
    and underscores, and what cannot be called.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RegistrationError(
            f"pass name is {name!r}; accepted: lower-case letters, digits and underscores, not "
            "starting with a digit"
        )
    if name in _passes:
        raise RegistrationError(f"pass {name!r} is already registered; accepted: another name")

    def register(fn: P) -> P:
        if not callable(fn):
            raise RegistrationError(
                f"pass {name!r} is {type(fn).__name__}; accepted: a function of one graph"
            )
        _passes[name] = fn
        return fn

    return register


def unregister_pass(name: str) -> None:
    """Forget a pass. Raises RegistrationError where there is none of that name."""
    if name not in _passes:
        raise RegistrationError(f"no pass {name!r}; accepted: {', '.join(_passes) or 'none'}")
    del _passes[name]
