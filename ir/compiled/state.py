"""The state of a thread as far as compiled code can tell, made the same for every call.

Dynamo guards on grad mode, inference mode and the dispatch keys that are included and excluded.
A call that arrives inside an opaque custom op, under an outer compiled graph, or in inference
mode differs in these from a plain one: each would compile anew. Compiled providers therefore
run below autograd, in the state of a thread that has just started.
"""

from __future__ import annotations

import functools
import threading
from types import TracebackType
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack

_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


@functools.cache
def _fresh_dispatch_keys() -> tuple[Any, Any]:
    """The key sets, included and excluded, of a new thread below autograd."""
    found: list[tuple[Any, Any]] = []

    def read() -> None:
        with torch._C._AutoDispatchBelowAutograd():
            include = torch._C._dispatch_tls_local_include_set()
            found.append((include, torch._C._dispatch_tls_local_exclude_set()))

    # The caller's own thread may be inside any mode.
    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found[0]


class NormalState:
    """Context manager: no gradients, no inference mode, the dispatch keys of a fresh thread."""

    __slots__ = ("_entered",)

    def __enter__(self) -> None:
        keys = torch._C._ForceDispatchKeyGuard(*_fresh_dispatch_keys())
        inference = torch._C._InferenceMode(False)
        # Leaving inference mode sets the grad mode too, so this comes first.
        inference.__enter__()
        grad = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        keys.__enter__()
        self._entered = (inference, grad, keys)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        inference, grad, keys = self._entered
        keys.__exit__(kind, error, trace)
        torch._C._set_grad_enabled(grad)
        inference.__exit__(kind, error, trace)


def is_traced(args: tuple[Any, ...]) -> bool:
    """Whether something records or replaces what this call does, so that it must not be compiled.

    True under make_fx, a fake mode, any other dispatch mode and functorch's transforms, and for
    tensor subclasses, which bring a dispatch of their own.
    """
    if torch._C._len_torch_dispatch_stack() or peek_interpreter_stack():
        return True
    return any(isinstance(a, torch.Tensor) and type(a) not in _PLAIN_TENSORS for a in args)


def records_gradients(args: tuple[Any, ...]) -> bool:
    """Whether autograd follows a call with these arguments here."""
    return (
        torch.is_grad_enabled()
        and any(isinstance(a, torch.Tensor) and a.requires_grad for a in args)
        and not torch._C._dispatch_tls_is_dispatch_key_excluded(
            torch._C.DispatchKey.AutogradFunctionality
        )
    )
