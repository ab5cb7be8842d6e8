"""Scripts of actions on implementation state, as data.

A script registers kinds of state, sets scopes in threads and tasks, asks for states, calls ops
that keep them, compiles models of such calls, seals graphs: one action after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Keys = tuple[tuple[str, str | int | bool], ...]
"""Scope keys with their values, as code gives them; a bool is refused."""

Explicit = str | tuple[str | None, ...] | int | None
"""A scope as `get` takes it, None for that of the caller; an int is refused."""

HOLDS = ("tensor", "tree", "handle", "parameter", "shared", "fails-once", "nested")
"""What a creation function makes: a tensor, a dict of two, an object without tensors, what belongs
to a model, views of one memory, nothing the first time and then a tensor, or a tuple of a dict and
a list with a tensor each."""

USES = ("op", "dead", "read")
"""What a layer does: call the op and return its output, call it alone, or return its state."""

VERBS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # Contexts and scopes.
        "thread": ("made",),
        "task": ("context", "made"),
        "copy": ("context", "made"),
        "set": ("context", "keys", "made"),
        "reset": ("context", "of"),
        "enter": ("context", "keys", "made"),
        "leave": ("context", "of"),
        "get-scope": ("context", "key"),
        # Kinds of state.
        "register": ("name", "per", "holds", "needs", "again"),
        "unregister": ("name",),
        "override": ("name", "holds", "made"),
        "restore": ("of",),
        "plan": ("names", "scopes"),
        "preallocate": ("names", "scopes"),
        "describe": (),
        # States.
        "get": ("context", "name", "scope"),
        "exists": ("context", "name", "scope"),
        "add": ("context", "name", "amount"),
        "replace": ("context", "name", "holds", "amount"),
        "grow": ("context", "name", "size"),
        "discard": ("name",),
        "race": ("name", "keys", "size"),
        # Seals, and what is done to a tensor without asking.
        "seal": ("name",),
        "unseal": ("name",),
        "verify": (),
        "resize": ("context", "name"),
        "move": ("context", "name"),
        # Ops and compiled models of them.
        "call": ("context", "name", "amount", "size"),
        "sneak": ("context", "name", "needs"),
        "run": ("context", "model", "amount", "size", "times"),
        "forget": (),
    }
)
"""What can be done, and the fields of an action that say with what."""

MAKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "context": ("thread", "task", "copy"),
        "reset": ("set",),
        "leave": ("enter",),
        "restore": ("override",),
    }
)
"""Which actions make what `context`, or the `of` of an action, refers to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAction:
    """One action. Only the fields that `VERBS` lists for its verb mean something.

    context: where it runs: 0 for the script, else what a "thread", "task" or "copy" made.
    made: the number by which later actions refer to what this one makes.
    of: the number of what it ends.
    name: a kind of state, of "seal" and "unseal" a graph.
    per: the scope keys by which a kind is kept apart, None for one for all and one a given scope.
    needs: the kind whose state its creation asks for; of "sneak" the kind its provider declares.
    again: it takes the place of a kind of that name.
    size: elements to grow to, rows of an input, how many threads race.
    """

    verb: str
    context: int = 0
    made: int = 0
    of: int = 0
    name: str = ""
    names: tuple[str, ...] = ()
    key: str = ""
    keys: Keys = ()
    scope: Explicit = None
    scopes: tuple[Keys, ...] = ()
    per: tuple[str, ...] | None = ()
    holds: str = "tensor"
    needs: str = ""
    again: bool = False
    amount: int = 1
    size: int = 1
    model: int = 0
    times: int = 1

    def given(self) -> dict[str, Any]:
        """The fields that mean something, by name."""
        return {name: getattr(self, name) for name in VERBS[self.verb]}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLayer:
    """A layer of a model: in a scope of these keys beside the caller's, its op or its state."""

    name: str
    keys: Keys = ()
    use: str = "op"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCase:
    """A script, and the models that its "run" actions call, by number."""

    actions: tuple[StateAction, ...]
    models: tuple[tuple[StateLayer, ...], ...] = ()

    @property
    def op(self) -> str:
        """What ``--op`` calls cases of this kind."""
        return "state"
