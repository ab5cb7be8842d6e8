"""Property ``contract``: a call keeps its functional contract, whatever it computes."""

from __future__ import annotations

import functools

from fuzz.chooser import SeededChooser
from fuzz.strategies.illegal import illegal_case, illegal_kinds
from fuzz.strategies.ops import legal_case
from fuzz.strategies.signatures import free_signature
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.legal import DECLARATIONS
from reference.model import OpCase

ROUTES = ("eager", "eager-unwrapped")
LEGAL_COUNT, STATEFUL_LEGAL_COUNT = 40, 10


def _legal(op: str, dtype: str, seed: int, index: int) -> OpCase:
    chooser = SeededChooser(seed, "contract", op, dtype, "legal", index)
    declaration = DECLARATIONS[op]
    return legal_case(declaration, free_signature(declaration, dtype), chooser)


def _illegal(op: str, dtype: str, seed: int, index: int) -> OpCase:
    chooser = SeededChooser(seed, "contract", op, dtype, "illegal", index)
    declaration = DECLARATIONS[op]
    kinds = illegal_kinds(declaration)
    return illegal_case(declaration, chooser, kind=kinds[index % len(kinds)])


@functools.cache
def streams(op: str, dtype: str) -> tuple[Stream, ...]:
    """Legal cases in every layout and overload, and each way of breaking a rule."""
    stateful = bool(DECLARATIONS[op].states)
    made = [
        Stream(
            name="legal",
            op=op,
            dtype=dtype,
            count=STATEFUL_LEGAL_COUNT if stateful else LEGAL_COUNT,
            case=functools.partial(_legal, op, dtype),
        )
    ]
    if dtype == "float32":
        made.append(
            Stream(
                name="illegal",
                op=op,
                dtype=dtype,
                count=2 * len(illegal_kinds(DECLARATIONS[op])),
                case=functools.partial(_illegal, op, dtype),
            )
        )
    return tuple(made)


CONTRACT = Property(
    name="contract",
    claim="inputs are kept, outputs own their memory, metadata is declared, bad input is refused",
    judges=("completion", "refusal", "mutation", "aliasing", "layout", "fake", "uninitialized"),
    routes=ROUTES,
    probes=Probes(fake=True, refill=True),
    streams=streams,
    # Each way of breaking a rule stands in the stream twice, one after another.
    in_passing=0.5,
)
