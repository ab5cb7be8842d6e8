"""A hash of everything that a provider's result depends on, as far as Python can see.

The file of the function counts, and whatever the function reaches from there: functions, classes
and kernels in other files (through global names and attributes of modules that its code reads,
closures, defaults, wrappers), the values of closures and defaults, and what its author declared.
At the edge of an installed distribution or the standard library its version stands for its code.
Out of reach: what is looked up by a computed name, and code that C extensions load by themselves.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch

from ir.errors import RegistrationError
from ir.reach import (
    closure_values,
    default_values,
    file_hash,
    globals_read,
    installed,
    is_installed,
    module_hash,
    source_hash,
)

_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis),
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip


class _Unhashable(Exception):
    def __init__(self, value: object, where: str) -> None:
        super().__init__(value, where)
        self.value = value
        self.where = where


def identity(
    fn: Callable[..., Any], *, fixed: tuple[object, ...], depends_on: tuple[object, ...]
) -> str:
    """The sha256, in hex, of `fixed`, of `fn` and what it reaches, and of `depends_on`.

    Raises RegistrationError for a closure value or default that cannot be hashed and is not
    declared, and for a declared distribution that is not installed.
    """
    walk = _Walk(depends_on)
    try:
        parts = [walk.value(fixed, "fixed"), walk.value(fn, "provider")]
        parts += [walk.declared(d) for d in depends_on]
    except _Unhashable as refused:
        raise _refusal(getattr(fn, "__qualname__", repr(fn)), refused) from None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_declared(subject: str, fn: Callable[..., Any], depends_on: tuple[object, ...]) -> None:
    """Refuse, at registration, closure values and defaults that could never be hashed.

    An empty cell is filled later and is looked at when the identity is asked for.
    """
    walk = _Walk(depends_on)
    try:
        for name, value in (*closure_values(fn), *default_values(fn)):
            if not callable(value) and not isinstance(value, ModuleType):
                walk.value(value, name)
        for d in depends_on:
            if isinstance(d, str | Path):
                walk.declared(d)
    except _Unhashable as refused:
        raise _refusal(subject, refused) from None


def _refusal(subject: str, refused: _Unhashable) -> RegistrationError:
    return RegistrationError(
        f"{subject} depends on {refused.where}, {type(refused.value).__name__} "
        f"{refused.value!r:.80}, which cannot be hashed; accepted: numbers, strings, tensors, "
        "containers and dataclasses of these, functions, or an object named in depends_on"
    )


class _Walk:
    """One traversal. A value that is being hashed already counts as its place in the order."""

    def __init__(self, depends_on: tuple[object, ...]) -> None:
        self.declared_ids = {id(d) for d in depends_on}
        self.seen: dict[int, int] = {}
        # What `seen` names by id must not be freed and its id given to another.
        self.kept: list[object] = []

    def declared(self, d: object) -> str:
        if isinstance(d, str):
            try:
                return f"distribution {d} {importlib.metadata.version(d)}"
            except importlib.metadata.PackageNotFoundError:
                raise RegistrationError(
                    f"depends_on names {d!r}, which is not an installed distribution; accepted: "
                    "an installed one, a module, an object, or the path of a file"
                ) from None
        if isinstance(d, Path):
            return f"file {file_hash(d)}"
        try:
            return self.value(d, "depends_on")
        except _Unhashable:
            # Declared by its author: its class stands for it.
            return f"declared {self.value(type(d), 'depends_on')}"

    def value(self, v: Any, where: str) -> str:
        if isinstance(v, float) or type(v) in _PLAIN:
            return f"{type(v).__name__} {v!r}"
        if id(v) in self.seen:
            return f"again {self.seen[id(v)]}"
        self.seen[id(v)] = len(self.seen)
        self.kept.append(v)
        return self._compound(v, where)

    def _compound(self, v: Any, where: str) -> str:
        if isinstance(v, enum.Enum):
            return f"enum {type(v).__qualname__}.{v.name} {v.value!r}"
        if isinstance(v, Path):
            return f"path {v}"
        if isinstance(v, torch.Tensor):
            flat = v.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest = hashlib.sha256(bytes(flat.tolist())).hexdigest()
            return f"tensor {v.dtype} {tuple(v.shape)} {digest}"
        if isinstance(v, tuple | list):
            return f"{type(v).__name__}({','.join(self.value(i, where) for i in v)})"
        if isinstance(v, set | frozenset):
            # Members are told apart by themselves: a place in the order would depend on it.
            return f"set({','.join(sorted(_Walk(()).value(i, where) for i in v))})"
        if isinstance(v, Mapping):
            items = (f"{self.value(k, where)}:{self.value(i, where)}" for k, i in v.items())
            return f"dict({','.join(items)})"
        if isinstance(v, functools.partial):
            bound = (v.func, v.args, dict(v.keywords))
            return f"partial {self.value(bound, where)}"
        if isinstance(v, MethodType):
            return f"method {self.value(v.__func__, where)} of {self.value(v.__self__, where)}"
        if isinstance(v, FunctionType):
            return self._function(v)
        if isinstance(v, type):
            return self._class(v)
        if isinstance(v, ModuleType):
            return installed(v.__name__) or f"module {module_hash(v)}"
        if isinstance(v, BuiltinFunctionType) or is_installed(type(v)):
            return self._foreign(v, where)
        if is_dataclass(v):
            held = [(f.name, getattr(v, f.name)) for f in fields(v)]
            return f"object {self.value(type(v), where)} {self.value(held, where)}"
        return self._own_object(v, where)

    def _foreign(self, v: Any, where: str) -> str:
        """An object of an installed library: a kernel, a wrapper of a function, an op."""
        # Triton's JITFunction, Heuristics and Autotuner hold the next one in `fn`, a custom op of
        # torch in `_init_fn`.
        held = (getattr(v, name, None) for name in ("fn", "__wrapped__", "_init_fn"))
        inner = next((i for i in held if callable(i)), None)
        if inner is not None:
            configs = [str(c) for c in getattr(v, "configs", ())]
            return f"wrapped {type(v).__qualname__} {configs} {self.value(inner, where)}"
        module = getattr(v, "__module__", None) or type(v).__module__
        name = getattr(v, "__qualname__", None) or getattr(v, "__name__", None)
        if name is not None and callable(v):
            return f"{installed(module) or module} {name}"
        raise _Unhashable(v, where)

    def _own_object(self, v: Any, where: str) -> str:
        impls = getattr(v, "impls", None)
        if isinstance(impls, dict) and hasattr(v, "generation"):
            # An op called by a provider: any of its providers may serve the call.
            functions = {name: impl.impl_fn for name, impl in impls.items()}
            return f"op {v.name} {self.value(functions, where)}"
        inner = getattr(v, "__wrapped__", None)
        if inner is not None:
            return f"wrapped {self.value(type(v), where)} {self.value(inner, where)}"
        if id(v) in self.declared_ids:
            return f"declared {self.value(type(v), where)}"
        raise _Unhashable(v, where)

    def _class(self, cls: type) -> str:
        known = installed(cls.__module__)
        if known is not None:
            return f"{known} {cls.__qualname__}"
        return f"class {cls.__qualname__} {source_hash(cls)}"

    def _function(self, f: FunctionType) -> str:
        # Not `__module__`, which functools.wraps copies from what a wrapper wraps.
        known = installed(f.__globals__.get("__name__"), f.__code__.co_filename)
        if known is not None and not f.__closure__:
            return f"{known} {f.__qualname__}"
        parts = [f"function {f.__qualname__} {known or source_hash(f)}"]
        for name, v in (*closure_values(f), *default_values(f)):
            # A wrapper made by an installed library holds what it wraps, and things of its own.
            parts.append(self._value_or_class(v, name, refuse=known is None))
        for name, v in () if known is not None else globals_read(f):
            # A logger, a lock: what the file makes of it is in the file.
            parts.append(self._value_or_class(v, name, refuse=False))
        return "\n".join(parts)

    def _value_or_class(self, v: Any, name: str, *, refuse: bool) -> str:
        try:
            return f"{name}={self.value(v, name)}"
        except _Unhashable:
            if refuse:
                raise
            return f"{name}: {type(v).__qualname__}"
