"""The parameters of an op, and how the arguments of a call meet them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ir.errors import RegistrationError


class Parameters:
    """The parameters of one op, in order."""

    def __init__(self, op: str, native: Callable[..., Any]) -> None:
        self.op = op
        self.signature = inspect.signature(native)
        parameters = self.signature.parameters
        if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values()):
            raise RegistrationError(
                f"{op}: native takes {self.signature}; accepted: no keyword-only parameters"
            )
        self.names = tuple(parameters)
        self._defaults = tuple(p.default for p in parameters.values())

    def indices(self, what: str, chosen: Sequence[str]) -> tuple[int, ...]:
        """Where the chosen parameters stand. Raises RegistrationError for unknown ones."""
        unknown = [p for p in chosen if p not in self.names]
        if unknown:
            raise RegistrationError(
                f"{self.op}: {what} is {chosen}; accepted: names among {list(self.names)}"
            )
        return tuple(i for i, p in enumerate(self.names) if p in chosen)

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments of a call in the order of the parameters, defaults filled in.

        Raises TypeError as a Python call would. `inspect.Signature.bind` does the same many
        times slower, and Dynamo does not trace it.
        """
        if len(args) > len(self.names):
            raise TypeError(f"{self.op} takes {len(self.names)} arguments, got {len(args)}")
        bound = list(args)
        used = 0
        for i in range(len(args), len(self.names)):
            name = self.names[i]
            if name in kwargs:
                bound.append(kwargs[name])
                used += 1
            elif self._defaults[i] is inspect.Parameter.empty:
                raise TypeError(f"{self.op} misses the argument {name!r}")
            else:
                bound.append(self._defaults[i])
        if used != len(kwargs):
            wrong = [k for k in kwargs if k not in self.names[len(args) :]]
            raise TypeError(f"{self.op} got unexpected or repeated arguments {wrong}")
        return tuple(bound)

    def check(self, subject: str, fn: Callable[..., Any]) -> None:
        """Refuse a function whose parameters (names, order, defaults) are not these."""
        if not callable(fn):
            raise RegistrationError(f"{subject} is {fn!r}; accepted: a function")
        got = list(inspect.signature(fn).parameters.values())
        if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in got):
            raise RegistrationError(
                f"{subject} has keyword-only parameters; accepted: {self.signature}"
            )
        if [(p.name, p.default) for p in got] != list(zip(self.names, self._defaults, strict=True)):
            raise RegistrationError(
                f"{subject} takes {inspect.signature(fn)}; accepted: the op's parameters "
                f"{self.signature}"
            )
