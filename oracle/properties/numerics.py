"""Property ``numerics``: every provider gives values in the contract's interval on every route."""

from __future__ import annotations

import functools

from fuzz.catalogue import catalogue_cases
from fuzz.chooser import SeededChooser
from fuzz.strategies.contents import with_large_last_column
from fuzz.strategies.ops import legal_case, plain_case
from fuzz.strategies.plan import Overrides
from fuzz.strategies.signatures import Signature, fixed_signatures, free_signature
from oracle.plan import Property, Stream
from oracle.subject import Probes
from reference.legal import DECLARATIONS
from reference.model import OpCase

EAGER = ("eager", "eager-unwrapped")
ROUTES = (*EAGER, "compiled-exact", "compiled-stock", "opaque", "caller")
CATALOGUE_ROUTES = ("eager", "compiled-exact")
FIXED_COUNT, FREE_COUNT = 30, 25
STATEFUL_FIXED_COUNT, STATEFUL_FREE_COUNT = 50, 20
"""Of an op that keeps state, whose one call pattern per dtype is compiled for each provider."""
_DTYPES = ("float32", "float16", "bfloat16")
BEYOND = ((1031, 3), (1, 8195), (2, 1027), (2053, 1))
"""Rows and columns past the blocks that kernels are written in, powers of two up to 8,192; none is
a multiple of a vector."""
BEYOND_COUNT = 2
PLAIN_FLOAT32_COUNT = 45
"""Of float32's plain call pattern: some of its sums decide nothing, and 20 cases must."""


def _drawn(signature: Signature, label: str, seed: int, index: int) -> OpCase:
    chooser = SeededChooser(seed, "numerics", signature.op, signature.dtype, label, index)
    return legal_case(DECLARATIONS[signature.op], signature, chooser)


def _beyond(op: str, dtype: str, width: str, seed: int, index: int) -> OpCase:
    declaration = DECLARATIONS[op]
    rows, columns = BEYOND[(index + _DTYPES.index(dtype)) % len(BEYOND)]
    overrides = Overrides(sizes={width: columns}, rank=2, batch=(rows,))
    chooser = SeededChooser(seed, "numerics", op, dtype, "beyond", index)
    case = plain_case(declaration, free_signature(declaration, dtype), chooser, overrides)
    return with_large_last_column(case, declaration.dtype_parameter)


def _real(op: str, seed: int, index: int) -> OpCase:
    return catalogue_cases(op)[index].case


@functools.cache
def streams(op: str, dtype: str) -> tuple[Stream, ...]:
    """Fixed call patterns for the compiled routes; for eager free ones and large; real shapes."""
    declaration = DECLARATIONS[op]
    made: list[Stream] = []
    stateful = bool(declaration.states)
    # Its one-dimensional numbers decide which memory is read: the patterns differ little.
    for signature in fixed_signatures(declaration, dtype)[: 1 if stateful else None]:
        label = f"fixed-{signature.index}"
        plain = dtype == "float32" and signature.index == 0
        made.append(
            Stream(
                name=label,
                op=op,
                dtype=dtype,
                count=STATEFUL_FIXED_COUNT
                if stateful
                else PLAIN_FLOAT32_COUNT
                if plain
                else FIXED_COUNT,
                case=functools.partial(_drawn, signature, label),
                together=True,
            )
        )
    made.append(
        Stream(
            name="free",
            op=op,
            dtype=dtype,
            count=STATEFUL_FREE_COUNT if stateful else FREE_COUNT,
            case=functools.partial(_drawn, free_signature(declaration, dtype), "free"),
            routes=EAGER,
        )
    )
    width = next((d.name for d in declaration.dims if d.role in ("width", "groups")), None)
    if width is not None and dtype in _DTYPES and not stateful:
        made.append(
            Stream(
                name="beyond",
                op=op,
                dtype=dtype,
                count=BEYOND_COUNT,
                case=functools.partial(_beyond, op, dtype, width),
                routes=EAGER,
            )
        )
    if dtype == "bfloat16":
        made.append(
            Stream(
                name="catalogue",
                op=op,
                dtype=dtype,
                count=len(catalogue_cases(op)),
                case=functools.partial(_real, op),
                routes=CATALOGUE_ROUTES,
                fixed_count=True,
            )
        )
    return tuple(made)


NUMERICS = Property(
    name="numerics",
    claim="values lie in the contract's interval on every route",
    judges=("completion", "values"),
    routes=ROUTES,
    probes=Probes(),
    streams=streams,
    relaxed=("compiled-stock",),
    histogram=True,
    # Two patterns of 24 cases and 20 free ones a dtype: 20 that tell, on every route.
    in_passing=0.8,
)
