"""What a subject reports of a script of actions on state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .call import Raised


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A creation function ran where these scope keys were set.

    ``number`` is the object that it made, None where it raised.
    """

    name: str
    keys: Mapping[str, str]
    number: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledGraph:
    """A graph that was compiled: how many clones went, and why each other one stayed."""

    removed: int
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAnswer:
    """One action. Objects are numbered as they were made, or first seen.

    ``objects`` were handed out; ``values`` is what an op or a model returned, flattened;
    ``text`` is a fact, as ``reference.state.ExpectedAnswer`` writes it. ``changed`` holds the
    content of objects that changed or are new, ``moved`` those that lie elsewhere than before.
    """

    raised: Raised | None = None
    objects: tuple[int, ...] = ()
    values: tuple[int, ...] = ()
    text: str = ""
    ran: tuple[Ran, ...] = ()
    changed: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    moved: tuple[int, ...] = ()
    graphs: tuple[CompiledGraph, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReturned:
    """An answer for each action of the script, driven on ``route``."""

    route: str
    answers: tuple[StateAnswer, ...]
