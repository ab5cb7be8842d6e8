"""The two nouns of a contract as data: its steps, and the contract itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: ``name = format(function(*operands))``.

    name: what later steps call the result.
    function: a key of ``reference.functions.FUNCTIONS``.
    operands: names of earlier steps or of arguments.
    format: a format's name, or ``@x`` for the dtype of argument x. A format narrower than
        float32 is reached from a float32 result, as every kernel does. None: exact, no rounding.
    optional: stock Inductor may leave this rounding out (never the float32 one before it).
    unless_like: with ``optional``, an argument; the rounding stays where both formats agree.
    contracted: whether a fused multiply-add may leave even the float32 rounding out: never,
        where optional roundings may be left out, or always.
    needs: an argument; where it is None the step passes its first operand on (and an output
        that stems from that argument alone is empty, of shape (0,)).
    chain: for sums, how long a chain of additions may be, in words; None for other steps.
    """

    name: str
    function: str
    operands: tuple[str, ...]
    format: str | None = "float32"
    optional: bool = False
    unless_like: str | None = None
    contracted: Literal["never", "optional", "always"] = "never"
    needs: str | None = None
    chain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A named, versioned meaning of an op.

    outputs: step name of each output, in order, under the output's public name.
    rows: the tensor arguments that are split along the leading dimensions together; none where
        an output is not made row by row.
    leading: how many dimensions those are; None for all but the last.
    cancellation: results may be small differences of large numbers, so intervals may be wide.
    differs: for a variant, in one sentence, how its meaning differs from the op's first contract.
    """

    name: str
    op: str
    steps: tuple[Step, ...]
    outputs: Mapping[str, str]
    rows: tuple[str, ...]
    leading: int | None = None
    cancellation: bool = False
    differs: str = ""
