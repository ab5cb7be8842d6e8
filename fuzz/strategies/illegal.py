"""Cases with exactly one rule broken: each rule of a declaration that a caller can break.

Rules that torch's own schema enforces (a missing argument, a string where a float belongs, None
for a tensor) are not among them: those calls never reach the op.
"""

from __future__ import annotations

import math
from functools import cache

from reference.declaration import OpDeclaration, Refusal, ScalarSpec, TensorSpec
from reference.dtypes import FORMATS
from reference.legal import DECLARATIONS
from reference.model import OpCase

from ..chooser import Chooser, SeededChooser
from .broken import (
    Breaker,
    beyond,
    donated_overlap,
    donated_shared,
    extra_dimension,
    flags_at_least_rank,
    missing_dimension,
    odd,
    resized,
    sized,
    with_dtype,
    with_scalar,
)

_ATTEMPTS = 64


def illegal_kinds(declaration: OpDeclaration) -> tuple[str, ...]:
    """Names of every way to break one rule of ``declaration``, in a fixed order."""
    return tuple(_breakers(declaration.op))


def illegal_case(
    declaration: OpDeclaration, chooser: Chooser, *, kind: str | None = None
) -> OpCase:
    """A case that ``declaration.bind`` refuses, by breaking the rule ``kind`` (drawn where None).

    Raises ``ValueError`` for a kind that the declaration does not have.
    """
    breakers = _breakers(declaration.op)
    kind = chooser.choose(tuple(breakers)) if kind is None else kind
    if kind not in breakers:
        raise ValueError(f"illegal kind {kind!r}; accepted: {', '.join(breakers)}")
    found = _refused(declaration, breakers[kind], chooser)
    # What the chooser's answers did not break, a fixed sequence of answers does: the kind is
    # listed only because it did.
    return found or _proof(declaration, breakers[kind]) or _unbreakable(declaration, kind)


def _unbreakable(declaration: OpDeclaration, kind: str) -> OpCase:
    raise ValueError(f"{declaration.op}: kind {kind!r} breaks no rule")


def _refused(declaration: OpDeclaration, breaker: Breaker, chooser: Chooser) -> OpCase | None:
    for _ in range(_ATTEMPTS):
        case = breaker(declaration, chooser)
        if isinstance(declaration.bind(case), Refusal):
            return case
    return None


def _proof(declaration: OpDeclaration, breaker: Breaker) -> OpCase | None:
    return _refused(declaration, breaker, SeededChooser(0, "illegal", declaration.op))


@cache
def _breakers(op: str) -> dict[str, Breaker]:
    """Kind name -> how to break it; only those that some case shows to be rules."""
    declaration = DECLARATIONS[op]
    candidates: dict[str, Breaker] = {}
    for spec in declaration.parameters:
        if isinstance(spec, TensorSpec):
            if spec.state:
                # Whoever makes a state answers for it; what does not fit it is refused.
                continue
            candidates |= _tensor_breakers(declaration, spec)
        else:
            candidates |= _scalar_breakers(spec)
    in_states = {
        part for t in declaration.states for axis in t.shapes[0] for part in axis.split("*")
    }
    for dim in (d for d in declaration.dims if d.name not in in_states):
        candidates[f"{dim.name}-below-minimum"] = sized(dim.name, dim.minimum - 1)
    if any(spec.kind == "bool" for spec in declaration.scalars):
        candidates["flags-at-least-rank"] = flags_at_least_rank
    if declaration.allow_inplace:
        for name in declaration.activations:
            candidates[f"{name}-donated-overlapping-itself"] = donated_overlap(name)
            for other in declaration.tensors:
                if other.name != name and other.index_below is None:
                    candidates[f"{name}-donated-shared-with-{other.name}"] = donated_shared(
                        name, other.name
                    )
    return {kind: b for kind, b in candidates.items() if _proof(declaration, b) is not None}


def _tensor_breakers(declaration: OpDeclaration, spec: TensorSpec) -> dict[str, Breaker]:
    breakers: dict[str, Breaker] = {}
    for dtype in FORMATS:
        if dtype not in spec.dtypes:
            breakers[f"{spec.name}-dtype-{dtype}"] = with_dtype(spec.name, dtype)
    ranks = {len(axes) for axes in spec.shapes}
    breakers[f"{spec.name}-extra-dimension"] = extra_dimension(
        spec.name, declaration.ranks[1] + 1 if spec.activation else max(ranks) + 1
    )
    breakers[f"{spec.name}-missing-dimension"] = missing_dimension(spec.name)
    for axis in range(1, max(ranks) + 1):
        for delta, word in ((1, "more"), (-1, "less")):
            breakers[f"{spec.name}-axis-{-axis}-one-{word}"] = resized(spec.name, -axis, delta)
    breakers[f"{spec.name}-last-axis-empty"] = resized(spec.name, -1, None)
    return breakers


def _scalar_breakers(spec: ScalarSpec) -> dict[str, Breaker]:
    values: dict[str, float | int | str] = {}
    if spec.kind == "float" and spec.finite:
        values |= {"nan": math.nan, "inf": math.inf, "minus-inf": -math.inf}
    if spec.minimum is not None and spec.kind == "float":
        values |= {"just-below-minimum": math.nextafter(spec.minimum, -math.inf)}
        values |= {"far-below-minimum": spec.minimum - 1.0}
    if spec.minimum is not None and spec.kind == "int":
        values |= {"below-minimum": int(spec.minimum) - 1, "negative": -1}
    if spec.kind == "str":
        values |= {"empty": "", "unknown": "sigmoid", "upper-case": str(spec.choices[0]).upper()}
    breakers = {f"{spec.name}-{word}": with_scalar(spec.name, v) for word, v in values.items()}
    if spec.at_most is not None:
        breakers[f"{spec.name}-beyond-{spec.at_most}"] = beyond(spec)
    if spec.even:
        breakers[f"{spec.name}-odd"] = odd(spec)
    return breakers
