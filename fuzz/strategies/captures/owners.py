"""Which inputs of a body are static, and how the function reaches the others."""

from __future__ import annotations

from reference.model import ProgramCase, is_self_overlapping
from reference.replays.legal import owner_kinds

from ...chooser import Chooser


def most_static(body: ProgramCase) -> int:
    """How many leading inputs have memory that no other input shows."""
    for i in range(len(body.inputs)):
        view = body.input_view(i)
        others = [body.input_view(k).storage for k in range(len(body.inputs)) if k != i]
        if view.storage in others or is_self_overlapping(view):
            return i
    return len(body.inputs)


def draw_owners(body: ProgramCase, static: int, chooser: Chooser) -> tuple[str, ...]:
    """A kind of owner for each input behind the static ones, such as its tensor can have."""
    found: list[str] = []
    in_states: set[int] = set()
    for i in range(static, len(body.inputs)):
        kinds = tuple(kind for kind in owner_kinds(body, i) if kind != "kv_cache")
        if "state" in kinds:
            # What a registry holds may go in more ways than any other.
            kinds += ("state",)
        storage = body.input_view(i).storage
        if storage in in_states:
            kinds = tuple(kind for kind in kinds if kind != "state")
        found.append(chooser.choose(kinds))
        if found[-1] == "state":
            in_states.add(storage)
    return tuple(found)
