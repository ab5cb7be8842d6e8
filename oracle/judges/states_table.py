"""The rows of the judges of state."""

from __future__ import annotations

from .judge import Judge
from .states import (
    state_addresses,
    state_clones,
    state_creation,
    state_facts,
    state_identity,
    state_isolation,
    state_refusal,
    state_values,
)

STATE_JUDGES = (
    Judge(
        name="state-refusal",
        claim="what must be refused is, by its error and by name; nothing else is",
        codes=("SPEC", "CG"),
        kinds={
            "not-refused": "what must be refused was accepted",
            "wrong-error": "it was refused with another error than the documented one",
            "unnamed": "the refusal does not show what it is about, such as the sealed graph",
            "refused-legal": "what is legal was refused",
            "raised": "an error that is no refusal",
            "crash": "the process died",
            "timeout": "the script did not end in the time a case is given",
        },
        judge=state_refusal,
    ),
    Judge(
        name="state-creation",
        claim="a state is made once, when it is first asked for, in the scope that asks",
        codes=("CG",),
        kinds={
            "created-again": "a creation function ran for a state that there was already",
            "created-unasked": "a state was made that nobody asked for",
            "not-created": "no state was made where one must be",
            "created-elsewhere": "one ran for another state or scope, or made another object",
        },
        judge=state_creation,
    ),
    Judge(
        name="state-identity",
        claim="a state is one object, and the object of no other state",
        codes=("CG", "ALIAS"),
        kinds={
            "another-object": "another object was handed out, or more or fewer of them",
            "shared": "the object of another state was handed out",
        },
        judge=state_identity,
    ),
    Judge(
        name="state-values",
        claim="k compiled steps give and leave behind what k eager steps do",
        codes=("VAL", "CACHE"),
        kinds={
            "output": "an op or a model returned something else",
            "content": "a state holds something else than it must",
        },
        judge=state_values,
    ),
    Judge(
        name="state-isolation",
        claim="an action writes the states of its scope and no other",
        codes=("MUT",),
        kinds={"wrote-another": "a state changed that the action has nothing to do with"},
        judge=state_isolation,
    ),
    Judge(
        name="state-facts",
        claim="what is told of scopes, existence and plans is true",
        codes=("META",),
        kinds={
            "scope": "a scope key has another value",
            "exists": "a state exists and is not said to, or the other way round",
            "plan": "a plan lists other states",
            "description": "what exists, or its bytes, are described wrongly",
        },
        judge=state_facts,
    ),
    Judge(
        name="state-addresses",
        claim="a state keeps its memory, in compiled steps too",
        codes=("CG",),
        kinds={"moved": "a tensor lies in other memory than before"},
        judge=state_addresses,
    ),
    Judge(
        name="state-clones",
        claim="no clone of a state is left in a compiled graph",
        codes=("GRAPH",),
        kinds={"clone-left": "a graph copies a state that it could write in place"},
        judge=state_clones,
    ),
)
