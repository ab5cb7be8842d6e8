"""State of ``ir`` and of the reference, as the two subjects observe it."""

from __future__ import annotations

from typing import Any

from oracle.observation import Raised
from oracle.observation.state import CompiledGraph, Ran, StateAnswer, StateReturned
from oracle.subject import Provider
from reference.model import StateCase

OP = "state"
ROUTES = ("eager", "unwrapped", "backend")


def ir_providers() -> tuple[Provider, ...]:
    """How ``ir.state`` can be driven here."""
    return (Provider(op=OP, name="registry", routes=ROUTES),)


def observe_ir(case: StateCase, route: str) -> StateReturned | Raised:
    """Drive ``ir.state`` on a route. What an action raises is in its answer."""
    from .driver import drive

    actions = [{"verb": action.verb, **action.given()} for action in case.actions]
    models = [
        [{"name": layer.name, "keys": layer.keys, "use": layer.use} for layer in model]
        for model in case.models
    ]
    try:
        answers = drive(actions, models, route)
    except Exception as error:  # what driving cannot clean up is an observation too
        bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
        return Raised(type(error).__name__, bases, str(error))
    return StateReturned(route=route, answers=tuple(_answer(each) for each in answers))


def _answer(data: dict[str, Any]) -> StateAnswer:
    raised = data["raised"]
    return StateAnswer(
        raised=None if raised is None else Raised(raised[0], tuple(raised[1]), raised[2]),
        objects=tuple(data["objects"]),
        values=tuple(data["values"]),
        text=data["text"],
        ran=tuple(Ran(name=name, keys=keys, number=number) for name, keys, number in data["calls"]),
        changed={number: tuple(content) for number, content in data["changed"].items()},
        moved=tuple(data["moved"]),
        graphs=tuple(
            CompiledGraph(removed=removed, kept=tuple(kept)) for removed, kept in data["graphs"]
        ),
    )
