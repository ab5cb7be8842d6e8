"""Which states the providers in force use, before any of them has run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ir.state.context import decoded, with_key
from ir.state.errors import StateError
from ir.state.lifting import Key, Scope, scope_of

if TYPE_CHECKING:
    from ir.state.declared import Uses
    from ir.state.registry import IrState


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A state that providers would use. `text`: the first scope that asks for it."""

    name: str
    scope: Scope
    users: tuple[str, ...]
    text: str
    exists: bool


def keys_of(registry: IrState, uses: Uses, text: str) -> list[Key]:
    """The states that a provider may ask for in a scope.

    A type that says by which keys it is kept has one. Of any other a provider may ask for that
    of a scope key which its code names, or else for the one of all.
    """
    found: list[Key] = []
    keys = decoded(text)
    for name in uses.names(registry):
        per = registry.type(name).per
        if per is not None:
            found.append((name, scope_of(per, keys)))
            continue
        named = [v for k, v in keys.items() if k in (uses.strings or ())]
        found += [(name, v) for v in named] or [(name, None)]
    return found


def planned(
    registry: IrState,
    scopes: Iterable[Mapping[str, str | int]],
    ops: Collection[str] | None,
) -> tuple[Planned, ...]:
    """What `IrState.plan` answers. Raises StateError for an op that there is not."""
    from ir.op import IrOp

    texts: list[str] = []
    for keys in scopes:
        text = ""
        for k, v in keys.items():
            text = with_key(text, k, v)
        texts.append(text)
    found: dict[Key, tuple[list[str], str]] = {}
    names = IrOp.registry if ops is None else ops
    unknown = [n for n in names if n not in IrOp.registry]
    if unknown:
        raise StateError(f"ops names {unknown}; accepted: {', '.join(IrOp.registry)}")
    for op in (IrOp.registry[n] for n in names):
        for impl in op._scope.current().impls:
            for text in texts:
                for key in keys_of(registry, impl.uses, text):
                    users, _ = found.setdefault(key, ([], text))
                    if impl.uses.who not in users:
                        users.append(impl.uses.who)
    existing = registry.in_force()
    return tuple(
        Planned(name=k[0], scope=k[1], users=tuple(users), text=text, exists=k in existing)
        for k, (users, text) in found.items()
    )
