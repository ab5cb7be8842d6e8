"""What the compilation passes raise."""

from __future__ import annotations

from ir.errors import IrError


class CompilationError(IrError, RuntimeError):
    """A graph that cannot be compiled as asked."""


class DonationError(CompilationError, ValueError):
    """An activation that was given away to `maybe_inplace` and is used all the same."""


class LoweringError(CompilationError):
    """An op of the IR that cannot be replaced by its provider."""
