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


def _guard_reads(cls: type, guard: Callable[[Any], list[object]]) -> None:
    """Make `cls.read()` a constant under Dynamo, guarded by what `guard(instance)` returns.

    Without this facility (torch before 2.11) Dynamo refuses the read of the context variable:
    tracing with the torch wrap off fails, it never keeps a stale provider.
    """
    try:
        opaque = importlib.import_module("torch._library.opaque_object")
        members = {"read": opaque.MemberType.USE_REAL}
        opaque.register_opaque_type(cls, typ="reference", guard_fn=guard, members=members)
    except (ImportError, AttributeError, TypeError) as error:
        _log.warning("Dynamo cannot trace ops with the torch wrap off here: %s", error)


class _TorchWrap(_OpaqueBase):
    """Whether calls go through the torch custom op."""

    def __init__(self) -> None:
        self.default = True
        self.scoped: ContextVar[bool | None] = ContextVar("ir.torch_wrap", default=None)

    def read(self) -> bool:
        scoped = self.scoped.get()
        return self.default if scoped is None else scoped


_guard_reads(_TorchWrap, lambda wrap: [wrap.read()])
_torch_wrap = _TorchWrap()
_read_scoped_wrap = _torch_wrap.scoped.get


def set_default_torch_wrap(enable: bool = True) -> None:
    """Set whether calls go through the torch custom op, for the whole process."""
    _torch_wrap.default = enable


@contextmanager
def enable_torch_wrap(enable: bool = True) -> Iterator[None]:
    """Set whether calls of this context (thread, asyncio task) go through the torch custom op."""
    token = _torch_wrap.scoped.set(enable)
    try:
        yield
    finally:
        _torch_wrap.scoped.reset(token)


def torch_wrap_enabled() -> bool:
    """Whether a call made here goes through the torch custom op."""
    if is_dynamo_compiling():
        return _torch_wrap.read()
    scoped = _read_scoped_wrap()
    return _torch_wrap.default if scoped is None else scoped


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


class PriorityScope(_OpaqueBase):
    """The priority in force for one op, as the calling context sees it."""

    def __init__(self, op: str, impls: dict[str, IrOpImpl]) -> None:
        self.op = op
        self.impls = impls
        self.generation = 0
        self._default = self._resolve((), None)
        self._scoped: ContextVar[Priority | None] = ContextVar(f"ir.{op}.priority", default=None)
        self._read_scoped = self._scoped.get
        self._resolved: dict[tuple[tuple[str, ...], Configuration | None], Priority] = {}
        self._told: set[tuple[str, ...]] = set()

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

    def read(self) -> tuple[str, ...]:
        """The providers to try in order, as constants that Dynamo can bake into a trace."""
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


_guard_reads(PriorityScope, lambda scope: [scope.generation, scope.read()])
