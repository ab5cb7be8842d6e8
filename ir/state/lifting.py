"""States handed to a provider as arguments, in place of those that the registry holds.

In a graph a stateful call is an op whose arguments are the tensors of the states it may use.
Where such an op is lowered these are fake, where it is run functionalized they are copies: the
provider must meet them, and not the tensors of the registry.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ir.state.errors import StateError
from ir.state.values import is_plain, replaced, shape_of, tensors_of

if TYPE_CHECKING:
    from ir.state.registry import IrState

Scope = str | tuple[str | None, ...] | None
"""The values of the keys that a state is kept by: one as it is, several as a tuple, no key None."""

Key = tuple[str, Scope]


def slot_of(key: Key) -> str:
    """A state as text, which a graph can hold."""
    return f"{key[0]}@{json.dumps(key[1])}"


def key_of(slot: str) -> Key:
    name, _, scope = slot.partition("@")
    found = json.loads(scope)
    return name, tuple(found) if isinstance(found, list) else found


class Lifted:
    """The states given to one call."""

    def __init__(self, registry: IrState, slots: list[str], tensors: list[Tensor]) -> None:
        given = iter(tensors)
        self.values: dict[Key, Any] = {}
        self._before: list[tuple[str, Any, list[Tensor], Any]] = []
        for slot in slots:
            key = key_of(slot)
            held = registry.held(key)
            if len(tensors_of(held)) == 0:
                raise StateError(f"state {slot} holds no tensor any more; accepted: a tensor")
            value = replaced(held, given)
            self.values[key] = value
            self._before.append((slot, value, tensors_of(value), shape_of(value)))
        if next(given, None) is not None:
            raise StateError(f"more tensors than the states {slots} hold; accepted: one for each")

    def check(self) -> None:
        """Refuse a provider that rebinds what it should write in place. Raises StateError."""
        for slot, value, tensors, shape in self._before:
            now = tensors_of(value)
            same = len(now) == len(tensors)
            if not same or any(a is not b for a, b in zip(now, tensors, strict=True)):
                raise StateError(
                    f"state {slot}: an entry was bound to another tensor, which a graph cannot "
                    "do; accepted: writing in place, as copy_ does"
                )
            if shape_of(value) != shape:
                raise StateError(
                    f"state {slot}: Python data in it changed while it was traced, which a graph "
                    "would not repeat; accepted: a tensor for what changes"
                )


def refuse_frozen(key: Key, value: Any) -> None:
    """Refuse plain data, which a trace reads once and keeps. Raises StateError."""
    if is_plain(value):
        raise StateError(
            f"state {slot_of(key)} is {type(value).__name__} {value!r:.60}, which a graph would "
            "freeze at its value now; accepted: a tensor, or an object such as a handle"
        )


def scope_of(per: tuple[str, ...] | None, keys: Mapping[str, str]) -> Scope:
    """What a state kept by `per` is kept under where these keys are set."""
    if not per:
        return None
    found = tuple(keys.get(k) for k in per)
    if all(v is None for v in found):
        return None
    return found[0] if len(found) == 1 else found


def check_scope(name: str, scope: Hashable, per: tuple[str, ...] | None) -> Scope:
    """A scope as given to `get`, in canonical form.

    per: the keys that the state is kept by; where it is None, any number of values is one scope.
    Raises StateError.
    """
    given = scope if isinstance(scope, tuple) else (scope,)
    values = tuple(v for v in given if v is None or isinstance(v, str))
    if len(values) < len(given):
        raise StateError(
            f"state {name!r}: scope is {scope!r}; accepted: None, a string, or a tuple of them, "
            "one for each key that the state is kept by"
        )
    if per is not None and len(values) != len(per):
        raise StateError(
            f"state {name!r}: scope {scope!r} gives {len(values)} of the {len(per)} keys "
            f"{list(per)} that it is kept by; accepted: {_accepted(per)}"
        )
    if all(v is None for v in values):
        return None
    return values[0] if len(values) == 1 else values


def _accepted(per: tuple[str, ...]) -> str:
    if not per:
        return "no scope, since it is one for all"
    alone = "a string, or " if len(per) == 1 else ""
    return f"no scope, {alone}a tuple with a string or None for each key"
