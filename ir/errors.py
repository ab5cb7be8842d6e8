"""What `ir` raises. Every class pickles, so that a child process can hand one to its parent."""

from __future__ import annotations


class IrError(Exception):
    """Base of everything that `ir` raises on purpose."""


class InputError(IrError, ValueError):
    """An argument that the op does not accept, refused before any provider runs.

    `got` is what was refused: pass a value or a short description of it (a dtype, a shape),
    never a large tensor, since the message shows it.
    """

    def __init__(self, op: str, argument: str, got: object, accepted: str) -> None:
        super().__init__(op, argument, got, accepted)
        self.op = op
        self.argument = argument
        self.got = got
        self.accepted = accepted

    def __str__(self) -> str:
        return f"{self.op}: {self.argument} is {self.got}; accepted: {self.accepted}"


class RegistrationError(IrError, ValueError):
    """An op or a provider that cannot be registered as asked."""


class PriorityError(IrError, ValueError):
    """A priority that names what cannot be dispatched to."""


class CompileLimitError(IrError, RuntimeError):
    """One more compilation of a provider would exceed `ir.compiled.limit`."""


class NoCompilerError(IrError, RuntimeError):
    """A compiled route was asked for where no C++ compiler is found."""
