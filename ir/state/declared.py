"""Which states a provider uses: what its author declared, or what its code names.

A provider that declares nothing is looked into: if it reaches `ir_state`, the states it may use
are those whose names stand as strings in its code. That is a superset for code that names its
states, and nothing for code that computes names, which is caught when such a state is asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from ir.errors import RegistrationError
from ir.reach import closure_values, globals_read, installed
from ir.state.values import tensors_of

if TYPE_CHECKING:
    from ir.state.registry import IrState


class Uses:
    """The states of one provider. `who` names it in messages."""

    __slots__ = ("declared", "strings", "who")

    def __init__(self, who: str, fn: Callable[..., Any], state: Sequence[str] | None) -> None:
        if isinstance(state, str) or not all(isinstance(s, str) for s in state or ()):
            raise RegistrationError(f"{who}: state is {state!r}; accepted: a list of state names")
        self.who = who
        self.declared = None if state is None else tuple(state)
        self.strings = _strings(fn)

    @property
    def stateful(self) -> bool:
        """Whether the provider may ask for a state, be it one that is refused to it."""
        return bool(self.declared) or self.strings is not None

    def allows(self, name: str) -> bool:
        if self.declared is not None:
            return name in self.declared
        return self.strings is not None and name in self.strings

    def names(self, registry: IrState) -> tuple[str, ...]:
        """The states that the provider uses, of those registered where none were declared."""
        if self.declared is not None:
            return self.declared
        if not self.strings:
            return ()
        return tuple(n for n in registry.types if n in self.strings)

    def tensors_only(self, registry: IrState) -> bool:
        """Whether each of these states is known to be tensors."""
        return all(registry.only_tensors(n) for n in self.names(registry))

    def handles(self, registry: IrState) -> tuple[str, ...]:
        """What tells the states apart that hold no tensor, of which a trace may keep something.

        Two frozen dataclasses that show alike are alike; any other handle is only itself, and of
        this process.
        """
        found: list[str] = []
        for name in self.names(registry):
            for entry in registry.entries(name):
                if not tensors_of(entry.value):
                    found.append(f"{name} {entry.scope!r} {_told(entry.value)}")
        return tuple(sorted(found))


def _told(value: object) -> str:
    if is_dataclass(value) and value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        held = [(f.name, getattr(value, f.name)) for f in fields(value)]
        if all(v is None or isinstance(v, str | int) for _, v in held):
            return f"{type(value).__qualname__} {held}"
    return f"{_PROCESS} {id(value)}"


_PROCESS = uuid.uuid4().hex


def _strings(fn: Callable[..., Any]) -> frozenset[str] | None:
    """The strings in the code that a function reaches; None where that reaches no state."""
    from ir.state.registry import IrState

    found: set[str] = set()
    reached = False
    work: list[Any] = [fn]
    seen: set[int] = set()
    while work:
        f = work.pop()
        if isinstance(f, IrState) or isinstance(getattr(f, "__self__", None), IrState):
            reached = True
            continue
        f = f.__func__ if isinstance(f, MethodType) else f
        f = getattr(f, "__wrapped__", f)
        if not isinstance(f, FunctionType) or id(f) in seen:
            continue
        if installed(f.__globals__.get("__name__"), f.__code__.co_filename) is not None:
            continue
        seen.add(id(f))
        if f.__module__.startswith("ir.state"):
            continue
        found |= set(_constants(f.__code__))
        work += [v for _, v in globals_read(f)]
        work += [v for _, v in closure_values(f)]
    return frozenset(found) if reached else None


def _constants(code: CodeType) -> list[str]:
    found: list[str] = []
    for c in code.co_consts:
        if isinstance(c, str):
            found.append(c)
        elif isinstance(c, tuple):
            found += [s for s in c if isinstance(s, str)]
        elif isinstance(c, CodeType):
            found += _constants(c)
    return found
