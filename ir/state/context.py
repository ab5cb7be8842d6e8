"""Scopes: which layer, micro-batch or rank the calling code works for.

A scope is a set of keys with values, held in a context variable: each thread and asyncio task has
its own. It travels as text (JSON with sorted keys, "" for none), which a node of a graph can hold.

Dynamo traces neither reads nor writes of context variables. Code that it traces reads the scope
of its caller through a guarded object and keeps what it sets itself in `pending`, an object of
the thread. Whoever enters and leaves a scope within one graph leaves `pending` as it was; only
where a graph breaks in between does other code meet a pending scope, and it wins there.
"""

from __future__ import annotations

import functools
import importlib
import json
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from torch.compiler import is_dynamo_compiling

from ir.dispatch import _OpaqueBase
from ir.state.errors import ScopeError
from ir.state.guarded import register_guarded

if TYPE_CHECKING:
    from ir.state.declared import Uses
    from ir.state.lifting import Lifted


class Place:
    """Where code runs: a scope, the provider that runs, the states lifted for it.

    Places of equal scope and provider are one object, so that it can be looked up by identity.
    """

    __slots__ = ("lifted", "text", "user")

    def __init__(self, text: str, user: Uses | None, lifted: Lifted | None) -> None:
        self.text = text
        self.user = user
        self.lifted = lifted


_ROOT = Place("", None, None)
_places: dict[tuple[str, Uses | None], Place] = {("", None): _ROOT}
_here: ContextVar[Place] = ContextVar("ir.place", default=_ROOT)
_innermost: ContextVar[ScopeToken | None] = ContextVar("ir.scope_token", default=None)
read_place = _here.get


class _Pending:
    """A scope set by traced code and not yet reset: its text, and how many were set."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.depth = 0


class _ThreadLocal(threading.local):
    # An object of its own: Dynamo's writes to attributes of a threading.local are lost.
    def __init__(self) -> None:
        self.pending = _Pending()


_thread = _ThreadLocal()


def place(text: str, user: Uses | None = None, lifted: Lifted | None = None) -> Place:
    if lifted is not None:
        return Place(text, user, lifted)
    found = _places.get((text, user))
    if found is None:
        found = _places.setdefault((text, user), Place(text, user, None))
    return found


def here() -> Place:
    """The place of the caller, with a scope that traced code left pending."""
    found = read_place()
    text = _thread.pending.text
    return found if text is None else place(text, found.user, found.lifted)


@contextmanager
def at(where: Place) -> Iterator[None]:
    """Run a block at another place; what traced code left pending does not reach into it."""
    token = _here.set(where)
    pending = _thread.pending
    text, pending.text = pending.text, None
    try:
        yield
    finally:
        pending.text = text
        _here.reset(token)


@functools.lru_cache(maxsize=4096)
def decoded(text: str) -> Mapping[str, str]:
    """The keys and values of a scope."""
    return MappingProxyType(json.loads(text) if text else {})


def check_key(key: str, value: str | int) -> None:
    """Refuse what no scope can hold. Dynamo traces this. Raises ScopeError."""
    if not isinstance(key, str) or not key:
        raise ScopeError(f"scope key is {key!r}; accepted: a string that is not empty")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ScopeError(f"scope {key} is {value!r}; accepted: a string or an int")


# Typed, since True and 1 are equal.
@functools.lru_cache(maxsize=4096, typed=True)
def with_key(text: str, key: str, value: str | int) -> str:
    """A scope with one key more, or with another value for it. Raises ScopeError."""
    check_key(key, value)
    return encoded({**decoded(text), key: str(value)})


def encoded(keys: Mapping[str, str]) -> str:
    """The text of a scope."""
    return json.dumps(keys, sort_keys=True, separators=(",", ":")) if keys else ""


class ScopeToken:
    """What `set_scope` returns: gives back the scope before it, once, innermost first."""

    __slots__ = ("before", "outer")

    def __init__(self, before: Place, outer: ScopeToken | None) -> None:
        self.before = before
        self.outer = outer


class PendingToken:
    """The token of a scope that traced code set."""

    def __init__(self, before: str | None, depth: int) -> None:
        self.before = before
        self.depth = depth


class _Leaks:
    """Whether a graph may end between setting and resetting a scope, leaving it pending."""

    def __init__(self) -> None:
        self.possible = False
        self.listeners: weakref.WeakSet[Any] = weakref.WeakSet()

    def watch(self) -> None:
        if self.possible or not _may_break():
            return
        self.possible = True
        for listener in list(self.listeners):
            listener.forget_answers()


def _may_break() -> bool:
    """Whether the trace now under way may end before the function that it traces."""
    try:
        convert = importlib.import_module("torch._dynamo.symbolic_convert")
        return not convert.InstructionTranslator.current_tx().one_graph
    except (ImportError, AttributeError):
        return True


leaks = _Leaks()


class _Reader(_OpaqueBase):
    """Reads scopes while Dynamo traces, for real."""

    def text(self) -> str:
        return read_place().text

    def with_key(self, text: str, key: str, value: str | int) -> str:
        leaks.watch()
        return with_key(text, key, value)

    def value(self, text: str, key: str) -> str | None:
        return decoded(text).get(key)


register_guarded(
    _Reader, methods=("text", "with_key", "value"), guard=lambda _: [read_place().text]
)
_reader = _Reader()


def traced_text() -> str:
    """The scope of the traced code that asks."""
    text = _thread.pending.text
    return _reader.text() if text is None else text


class IrContext:
    """The scope of the calling context, key by key."""

    @staticmethod
    def set_scope(key: str, value: str | int) -> ScopeToken | PendingToken:
        """Set a key from here on. Returns the token that `reset` takes. Raises ScopeError."""
        pending = _thread.pending
        if is_dynamo_compiling():
            before = pending.text
            pending.text = _reader.with_key(traced_text(), key, value)
            pending.depth += 1
            return PendingToken(before, pending.depth)
        if pending.text is not None:
            text = pending.text
            pending.text = with_key(text, key, value)
            pending.depth += 1
            return PendingToken(text, pending.depth)
        before_here = read_place()
        token = ScopeToken(before_here, _innermost.get())
        text = with_key(before_here.text, key, value)
        _here.set(place(text, before_here.user, before_here.lifted))
        _innermost.set(token)
        return token

    @staticmethod
    def get_scope(key: str) -> str | None:
        """The value of a key, as a string; None where it is not set."""
        if is_dynamo_compiling():
            return _reader.value(traced_text(), key)
        return decoded(here().text).get(key)

    @staticmethod
    def reset(token: ScopeToken | PendingToken) -> None:
        """Restore what was set before `token`. Raises ScopeError where it is not the innermost."""
        if isinstance(token, PendingToken):
            pending = _thread.pending
            if pending.depth != token.depth:
                raise ScopeError(_OUT_OF_ORDER)
            pending.text = token.before
            pending.depth -= 1
            return
        if not isinstance(token, ScopeToken):
            raise ScopeError(f"token is {token!r}; accepted: what set_scope returned")
        if _innermost.get() is not token:
            raise ScopeError(_OUT_OF_ORDER)
        now = read_place()
        _here.set(place(token.before.text, now.user, now.lifted))
        _innermost.set(token.outer)


_OUT_OF_ORDER = (
    "reset out of order: the token is not that of the scope set last in this context; accepted: "
    "each token once, innermost first, in the thread or task that set it"
)


class scope:
    """`with ir.scope(layer=3, rank=0):` sets keys for the block. Raises ScopeError."""

    def __init__(self, **keys: str | int) -> None:
        self.keys = keys
        self.tokens: list[Any] = []

    def __enter__(self) -> None:
        # All before the first is set: what fails to enter is never left.
        for key, value in self.keys.items():
            check_key(key, value)
        for key, value in self.keys.items():
            self.tokens.append(IrContext.set_scope(key, value))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in self.keys:
            IrContext.reset(self.tokens.pop())
