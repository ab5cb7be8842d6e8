"""Values made once per key, however many threads ask for them at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ir.state.errors import StateError

_K = TypeVar("_K", bound=Hashable)


class Once:
    """Creates missing entries of maps. Different keys are made side by side.

    A value whose creation waits for its own, through whatever keys and threads, is refused
    instead of waiting for ever.
    """

    def __init__(self) -> None:
        self._guard = threading.Condition()
        self._makers: dict[Any, int] = {}
        self._awaited: dict[int, Any] = {}

    def get(self, values: MutableMapping[_K, Any], key: _K, make: Callable[[], Any]) -> Any:
        """The entry of `key`, made by `make` where there is none. Raises what `make` raises."""
        me, mark = threading.get_ident(), (id(values), key)
        with self._guard:
            while key not in values and mark in self._makers:
                self._refuse_cycle(me, mark)
                self._awaited[me] = mark
                self._guard.wait()
                del self._awaited[me]
            if key in values:
                return values[key]
            self._makers[mark] = me
        try:
            made = make()
        except BaseException:
            with self._guard:
                del self._makers[mark]
                self._guard.notify_all()
            raise
        with self._guard:
            del self._makers[mark]
            # An explicit replacement during the creation came later than its start.
            value = values.setdefault(key, made)
            self._guard.notify_all()
            return value

    def _refuse_cycle(self, me: int, mark: Any) -> None:
        at: Any = mark
        while at is not None:
            maker = self._makers.get(at)
            if maker == me:
                raise StateError(
                    f"creating state {mark[1]} needs state {mark[1]}; accepted: creation "
                    "functions that do not wait for each other"
                )
            at = None if maker is None else self._awaited.get(maker)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Real tensors without gradients, whatever modes the code that asks first is under."""
    with contextlib.ExitStack() as stack:
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(_disable_current_modes())
        # A tensor made in inference mode could not be written outside of it.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield
