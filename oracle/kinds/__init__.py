"""The kinds of case by name. A kind is what a property's cases are of."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reference.model import case_kind

from .capture import CAPTURE
from .connector import CONNECTOR
from .kind import CaseKind, Terms
from .op import OP
from .program import PROGRAM
from .state import STATE
from .transfer import TRANSFER

KINDS: Mapping[str, CaseKind] = MappingProxyType(
    {kind.name: kind for kind in (OP, PROGRAM, TRANSFER, CONNECTOR, STATE, CAPTURE)}
)

ALL_OPS: tuple[str, ...] = tuple(op for kind in KINDS.values() for op in kind.ops)

__all__ = ["ALL_OPS", "KINDS", "CaseKind", "Terms", "kind_named", "kind_of", "kind_of_op"]


def kind_named(name: str) -> CaseKind:
    """The kind called ``name``; ``KeyError`` names those there are."""
    if name not in KINDS:
        raise KeyError(f"kind of case {name!r}; accepted: {', '.join(KINDS)}")
    return KINDS[name]


def kind_of(case: Any) -> CaseKind:
    """The kind that ``case`` is of. Raises ``TypeError`` for what is no case."""
    return kind_named(case_kind(case))


def kind_of_op(op: str) -> CaseKind:
    """The kind whose cases are of ``op``; ``KeyError`` names the ops there are."""
    for kind in KINDS.values():
        if op in kind.ops:
            return kind
    raise KeyError(f"op {op!r}; accepted: {', '.join(ALL_OPS)}")
