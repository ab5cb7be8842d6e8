"""How a call finds its provider: the torch-wrap flag and the priority of an op, both scoped.

Each is a context variable over a process-wide default: what one thread or asyncio task sets, no
other sees. Dynamo cannot trace a read of a context variable. What it may trace reads the value
through an opaque object instead: the value at trace time becomes a constant, and a guard reads
the context variable itself on every entry to the compiled code. There is no copy that could be
stale: two asyncio tasks that interleave in one thread each find the code compiled for theirs.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from torch.compiler import is_dynamo_compiling

from ir.errors import PriorityError

if TYPE_CHECKING:
    from ir.provider import IrOpImpl

CompileMode = bool | Literal["exact"]
Configuration = Literal["stock", "exact"]

_log = logging.getLogger("ir")


def _opaque_base() -> type:
    """The class whose instances Dynamo reads through a guard, where this torch has one."""
    try:
        return cast("type", importlib.import_module("torch._opaque_base").OpaqueBase)
    except (ImportError, AttributeError):
        return object


_OpaqueBase: Any = _opaque_base()


class Guarded(_OpaqueBase):
    """A value of the calling context that Dynamo reads as a constant and guards.

    `read` and `version` are called anew on every entry to code compiled from a read.
    """

    def __init__(self, read: Callable[[], Any], version: Callable[[], int] = int) -> None:
        self.read_here = read
        self.version = version

    def read(self) -> Any:
        return self.read_here()


def _register_guarded() -> None:
    # On a torch without this facility Dynamo refuses to trace a read of the context: ops cannot
    # be traced there, but no stale provider is ever used.
    try:
        opaque = importlib.import_module("torch._library.opaque_object")
        opaque.register_opaque_type(
            Guarded,
            typ="reference",
            guard_fn=lambda guarded: [guarded.version(), guarded.read()],
            members={"read": opaque.MemberType.USE_REAL},
        )
    except (ImportError, AttributeError, TypeError) as error:
        _log.warning("Dynamo cannot trace ops on this torch: %s", error)


_register_guarded()

_default_torch_wrap = True
_scoped_torch_wrap: ContextVar[bool | None] = ContextVar("ir.torch_wrap", default=None)
_read_scoped_torch_wrap = _scoped_torch_wrap.get


def _torch_wrap() -> bool:
    scoped = _read_scoped_torch_wrap()
    return _default_torch_wrap if scoped is None else scoped


_guarded_torch_wrap = Guarded(_torch_wrap)


def set_default_torch_wrap(enable: bool = True) -> None:
    """Set whether calls go through the torch custom op, for the whole process."""
    global _default_torch_wrap
    _default_torch_wrap = enable


@contextmanager
def enable_torch_wrap(enable: bool = True) -> Iterator[None]:
    """Set whether calls of this context (thread, asyncio task) go through the torch custom op.

    Dynamo cannot trace it: enter it outside the compiled function.
    """
    token = _scoped_torch_wrap.set(enable)
    try:
        yield
    finally:
        _scoped_torch_wrap.reset(token)


def torch_wrap_enabled() -> bool:
    """Whether a call made here goes through the torch custom op."""
    if is_dynamo_compiling():
        return _guarded_torch_wrap.read()
    scoped = _read_scoped_torch_wrap()
    return _default_torch_wrap if scoped is None else scoped


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Priority:
    """An ordered choice of providers, resolved for one generation of an op."""

    requested: tuple[str, ...]
    configuration: Configuration | None
    generation: int
    impls: tuple[IrOpImpl, ...]

    def select(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> IrOpImpl:
        """The first provider that takes these arguments; the last one takes any."""
        for impl in self.impls:
            accepts = impl._supports_args
            if accepts is None or accepts(*args, **kwargs):
                return impl
        raise PriorityError(f"no provider of {self.requested} takes these arguments")


class PriorityScope:
    """The priority in force for one op, as the calling context sees it."""

    def __init__(self, op: str, impls: dict[str, IrOpImpl]) -> None:
        self.op = op
        self.impls = impls
        self.generation = 0
        # Of no generation, so that its first use resolves it: native is registered later.
        self._default = Priority(requested=(), configuration=None, generation=-1, impls=())
        self._scoped: ContextVar[Priority | None] = ContextVar(f"ir.{op}.priority", default=None)
        self._read_scoped = self._scoped.get
        self._resolved: dict[tuple[tuple[str, ...], Configuration | None], Priority] = {}
        self._told: set[tuple[str, ...]] = set()
        self.guarded = Guarded(self._providers, lambda: self.generation)

    def bump(self) -> None:
        """Start a new generation: every priority is resolved anew on its next use."""
        self._resolved.clear()
        self.generation += 1

    def current(self) -> Priority:
        priority = self._read_scoped() or self._default
        if priority.generation == self.generation:
            return priority
        return self._refreshed(priority)

    def _refreshed(self, stale: Priority) -> Priority:
        key = (stale.requested, stale.configuration)
        found = self._resolved.get(key)
        if found is None or found.generation != self.generation:
            found = self._resolved[key] = self._resolve(*key)
        return found

    def _providers(self) -> tuple[str, ...]:
        return tuple(impl.provider for impl in self.current().impls)

    def requested(self, priority: Sequence[str], compile: CompileMode) -> Priority:
        """Check and resolve what a caller asks for."""
        if isinstance(priority, str) or not all(isinstance(p, str) for p in priority):
            raise PriorityError(
                f"{self.op}: priority is {priority!r}; accepted: a list of provider names"
            )
        if not (compile is True or compile is False or compile == "exact"):
            raise PriorityError(
                f'{self.op}: compile is {compile!r}; accepted: False, True or "exact"'
            )
        configuration: Configuration | None = "exact" if compile == "exact" else None
        if compile is True:
            configuration = "stock"
        return self._resolve(tuple(priority), configuration)

    def _resolve(self, requested: tuple[str, ...], configuration: Configuration | None) -> Priority:
        # Read once: a registration in another thread must not be recorded as seen.
        generation = self.generation
        impls: list[IrOpImpl] = []
        for name in requested:
            impl = self.impls.get(name)
            if impl is None:
                raise PriorityError(
                    f"{self.op}: priority names {name!r}; accepted: {', '.join(self.impls)}"
                )
            if not impl.supported:
                continue
            impls.append(impl)
            if impl.supports_all_args:
                break
        if not impls or not impls[-1].supports_all_args:
            if requested and requested not in self._told:
                self._told.add(requested)
                _log.warning(
                    "%s: no provider of %s takes every argument; native serves the rest",
                    self.op,
                    list(requested),
                )
            impls.append(self.impls["native"])
        return Priority(
            requested=requested,
            configuration=configuration,
            generation=generation,
            impls=tuple(impls),
        )

    @contextmanager
    def override(self, priority: Priority) -> Iterator[None]:
        token = self._scoped.set(priority)
        try:
            yield
        finally:
            self._scoped.reset(token)

    def set_default(self, priority: Priority) -> None:
        self._default = priority
