"""Which kind of graph a runner may use with a connector."""

from __future__ import annotations

import enum

from ir.connector.contract import GraphPolicy
from ir.connector.errors import PolicyError


class GraphMode(enum.Enum):
    """How a forward pass runs."""

    EAGER = "eager"
    PIECEWISE = "piecewise"
    """Attention and the connector's hooks in Python, what lies between them as graphs."""
    FULL = "full"
    """One graph: Python of the layers does not run at replay."""


def graph_mode(connector: object | None, asked: GraphMode) -> GraphMode:
    """The mode to use where `asked` is wanted: FULL gives way to PIECEWISE where hooks need it.

    Raises PolicyError for a connector that declares no policy under FULL: its hooks would be
    skipped without a word at replay.
    """
    if connector is None or asked is not GraphMode.FULL:
        return asked
    policy = getattr(connector, "graph_policy", None)
    if policy is GraphPolicy.CAPTURED:
        return GraphMode.FULL
    if policy is GraphPolicy.PIECEWISE:
        return GraphMode.PIECEWISE
    raise PolicyError(
        f"graph_policy of {type(connector).__name__}",
        repr(policy),
        f"{GraphPolicy.CAPTURED} or {GraphPolicy.PIECEWISE} under {asked}, or a mode without graphs"
        " around the hooks",
    )
