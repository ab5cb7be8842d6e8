"""Which tensors a function can reach, and by which path: the places that own what a graph uses.

A place is a chain of steps from the captured function: a closure cell, a global that its code
names, the object that a method is bound to, then attributes, parameters, buffers and items. The
value behind a place may be replaced at any time; following the chain again shows it.
"""

from __future__ import annotations

import functools
import inspect
import operator
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ir.reach import closure_values, default_values, globals_read, is_installed
from ir.state import IrState, StateError, ir_state

DEEPEST = 12
"""Steps from the function after which nothing is looked for: deeper chains are not owners."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a place: `get(holder, key)` gives the value, or raises where it is gone."""

    get: Callable[[object, object], object]
    holder: object
    key: object
    value: object

    def now(self, holder: object) -> object:
        return self.get(holder, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor was found: its name as one would write it, its kind, and how to get there."""

    name: str
    kind: str
    steps: tuple[Step, ...]

    @property
    def tensor(self) -> Tensor:
        value = self.steps[-1].value
        if not isinstance(value, Tensor):
            raise TypeError(f"place {self.name} ends at a {type(value).__name__}")
        return value

    def resolve(self) -> Tensor | None:
        """The tensor that is there now; None where there is none any more."""
        holder = self.steps[0].holder
        for step in self.steps:
            try:
                holder = step.now(holder)
            except (KeyError, IndexError, AttributeError, TypeError, ValueError):
                return None
        return holder if isinstance(holder, Tensor) else None


def _item(holder: object, key: object) -> object:
    return operator.getitem(holder, key)  # type: ignore[call-overload]


def _attribute(holder: object, key: object) -> object:
    return getattr(holder, str(key))


@dataclass(frozen=True, slots=True)
class _Branch:
    name: str
    kind: str
    steps: tuple[Step, ...]
    value: object

    def then(
        self,
        get: Callable[[object, object], object],
        holder: object,
        key: object,
        value: object,
        name: str,
        kind: str = "attribute",
    ) -> _Branch:
        return _Branch(name, kind, (*self.steps, Step(get, holder, key, value)), value)


def _of_module(branch: _Branch, module: nn.Module) -> Iterator[_Branch]:
    state = vars(module)
    for table, kind in (("_parameters", "parameter"), ("_buffers", "buffer"), ("_modules", "")):
        inner = branch.then(_attribute, module, table, state[table], branch.name)
        for key, value in state[table].items():
            name = f"{branch.name}.{key}"
            yield inner.then(_item, state[table], key, value, name, kind or "attribute")
    forward = type(module).forward
    if isinstance(forward, types.FunctionType):
        cls = branch.then(_attribute, module, "__class__", type(module), branch.name)
        yield cls.then(_attribute, type(module), "forward", forward, branch.name)
    for key, value in state.items():
        if not key.startswith("_") or isinstance(value, Tensor | list | dict | tuple):
            if key in ("_parameters", "_buffers", "_modules", "training") or "hooks" in key:
                continue
            yield branch.then(_attribute, module, key, value, f"{branch.name}.{key}")


def _of_function(branch: _Branch, fn: types.FunctionType) -> Iterator[_Branch]:
    cells = branch.then(_attribute, fn, "__closure__", fn.__closure__, branch.name)
    filled = {name.split("'")[1]: value for name, value in closure_values(fn)}
    for i, name in enumerate(fn.__code__.co_freevars):
        if name in filled and fn.__closure__ is not None:
            cell = cells.then(_item, fn.__closure__, i, fn.__closure__[i], name)
            yield cell.then(_attribute, fn.__closure__[i], "cell_contents", filled[name], name)
    names = branch.then(_attribute, fn, "__globals__", fn.__globals__, branch.name)
    for name, value in globals_read(fn):
        module, _, attribute = name.partition(".")
        held = names.then(_item, fn.__globals__, module, fn.__globals__[module], module)
        if attribute:
            held = held.then(_attribute, fn.__globals__[module], attribute, value, name)
        yield held
    for name, value in default_values(fn):
        yield branch.then(_constant(value), fn, name, value, name)


def _constant(value: object) -> Callable[[object, object], object]:
    return lambda _holder, _key: value


def _children(branch: _Branch) -> Iterator[_Branch]:
    value = branch.value
    dot = f"{branch.name}." if branch.name else ""
    match value:
        case nn.Module():
            yield from _of_module(branch, value)
        case types.MethodType():
            name = branch.name or "self"
            yield branch.then(_attribute, value, "__self__", value.__self__, name)
            yield branch.then(_attribute, value, "__func__", value.__func__, branch.name)
        case functools.partial():
            yield branch.then(_attribute, value, "func", value.func, branch.name)
            for i, v in enumerate(value.args):
                yield branch.then(_item, value.args, i, v, f"{dot}args[{i}]")
            for key, v in value.keywords.items():
                yield branch.then(_item, value.keywords, key, v, f"{dot}{key}")
        case types.FunctionType():
            if not (value.__module__ or "").startswith(("torch.", "ir.ops", "ir.capture")):
                yield from _of_function(branch, value)
        case Mapping():
            for key, v in list(value.items()):
                yield branch.then(_item, value, key, v, f"{branch.name}[{key!r}]")
        case list() | tuple():
            for i, v in enumerate(value):
                yield branch.then(_item, value, i, v, f"{branch.name}[{i}]")
        case IrState():
            return  # its states are owners of their own, under their own names
        case types.ModuleType() | type() | str() | bytes() | int() | float() | None:
            return
        case _ if not is_installed(type(value)):
            names = [f.name for f in fields(value)] if is_dataclass(value) else []
            slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())]
            state = getattr(value, "__dict__", {})
            for key in dict.fromkeys([*state, *names, *slots]):
                held = inspect.getattr_static(value, key, None)
                if key in state or isinstance(held, types.MemberDescriptorType):
                    v = getattr(value, key, None)
                    yield branch.then(_attribute, value, key, v, f"{dot}{key}")


def _is_owned(t: Tensor) -> bool:
    return type(t) in (Tensor, nn.Parameter) and t.layout is torch.strided


def places(fn: Callable[..., object], more: Mapping[str, object] | None = None) -> list[Place]:
    """Every place from which `fn` reaches a tensor, in a fixed order, nearest first.

    `more` names further objects to start from. The registry of implementation state always
    counts, since a provider may look up any of it. A tensor that two places hold has both.
    """
    return [
        Place(name=b.name, kind=b.kind, steps=b.steps)
        for b in (*_leaves(fn, more or {}), *_states())
        if isinstance(b.value, Tensor) and _is_owned(b.value)
    ]


def host_arrays(fn: Callable[..., object]) -> dict[str, np.ndarray]:
    """The NumPy arrays that `fn` reaches: memory of the host, perhaps shared with a tensor."""
    return {b.name: b.value for b in _leaves(fn, {}) if isinstance(b.value, np.ndarray)}


def _states() -> Iterator[_Branch]:
    for entry in ir_state.describe().entries:
        key = (entry.name, entry.scope)
        shown = "" if entry.scope is None else f" of {entry.scope}"
        root = _Branch(f"state {entry.name}{shown}", "state", (), ir_state)
        found = root.then(_held, ir_state, key, entry.value, root.name, "state")
        yield from _walk([found], kind="state")


def _held(holder: object, key: object) -> object:
    # An owner that is gone is a KeyError, like any other item.
    if not isinstance(holder, IrState) or not isinstance(key, tuple):
        raise KeyError(key)
    try:
        return holder.held(key)
    except StateError as error:
        raise KeyError(key) from error


def _leaves(fn: Callable[..., object], more: Mapping[str, object]) -> Iterator[_Branch]:
    root = _Branch("", "attribute", (), fn)
    waiting = [root]
    for name, value in more.items():
        waiting.append(root.then(_item, more, name, value, name, "owner"))
    if not isinstance(fn, types.FunctionType | types.MethodType | functools.partial | nn.Module):
        waiting[0] = root.then(lambda h, _k: h, fn, "", fn, type(fn).__name__)
    elif isinstance(fn, nn.Module):
        waiting[0] = root.then(lambda h, _k: h, fn, "", fn, type(fn).__name__.lower())
    yield from _walk(waiting)


def _walk(start: list[_Branch], kind: str | None = None) -> Iterator[_Branch]:
    seen: set[int] = set()
    waiting = deque(start)
    while waiting:
        branch = waiting.popleft()
        value = branch.value
        if isinstance(value, Tensor | np.ndarray):
            yield branch if kind is None else replace(branch, kind=kind)
        elif id(value) not in seen and len(branch.steps) <= DEEPEST:
            seen.add(id(value))
            waiting.extend(_children(branch))
