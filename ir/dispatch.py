"""How a call finds its provider: the torch-wrap flag and the priority of an op, both scoped.

Each is a context variable over a process-wide default: what a thread or an asyncio task sets,
no other one sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_default_torch_wrap: bool = True
_torch_wrap: ContextVar[bool | None] = ContextVar("ir.torch_wrap", default=None)


def set_default_torch_wrap(enable: bool = True) -> None:
    """Set whether calls go through the torch custom op, for the whole process."""
    global _default_torch_wrap
    _default_torch_wrap = enable


@contextmanager
def enable_torch_wrap(enable: bool = True) -> Iterator[None]:
    """Set whether calls of this context (thread, asyncio task) go through the torch custom op."""
    token = _torch_wrap.set(enable)
    try:
        yield
    finally:
        _torch_wrap.reset(token)


def torch_wrap_enabled() -> bool:
    """Whether a call made here goes through the torch custom op."""
    scoped = _torch_wrap.get()
    return _default_torch_wrap if scoped is None else scoped
