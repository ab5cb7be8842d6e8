"""Cases with exactly one rule broken: each rule of a declaration that a caller can break.

Rules that torch's own schema enforces (a missing argument, a string where a float belongs, None
for a tensor) are not among them: those calls never reach the op.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from reference.declaration import (
    FLOATS,
    OpDeclaration,
    Refusal,
    ScalarSpec,
    TensorSpec,
)
from reference.dtypes import FORMATS
from reference.legal import DECLARATIONS
from reference.model import Argument, OpCase, Storage, View
from reference.model.storage import contiguous_strides

from ..chooser import Chooser, SeededChooser
from .ops import plain_case
from .plan import Overrides
from .signatures import free_signature

_ATTEMPTS = 64

Breaker = Callable[[OpDeclaration, Chooser], OpCase]


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
            candidates |= _tensor_breakers(declaration, spec)
        else:
            candidates |= _scalar_breakers(spec)
    for dim in declaration.dims:
        candidates[f"{dim.name}-below-minimum"] = _sized(dim.name, dim.minimum - 1)
    if any(spec.kind == "bool" for spec in declaration.scalars):
        candidates["flags-at-least-rank"] = _flags_at_least_rank
    if declaration.allow_inplace:
        for name in declaration.activations:
            candidates[f"{name}-donated-overlapping-itself"] = _donated_overlap(name)
            for other in declaration.tensors:
                if other.name != name and other.index_below is None:
                    candidates[f"{name}-donated-shared-with-{other.name}"] = _donated_shared(
                        name, other.name
                    )
    return {kind: b for kind, b in candidates.items() if _proof(declaration, b) is not None}


def _base(
    declaration: OpDeclaration, chooser: Chooser, overrides: Overrides | None = None
) -> OpCase:
    signature = free_signature(declaration, chooser.choose(FLOATS))
    return plain_case(declaration, signature, chooser, overrides or Overrides(everything=True))


def _tensor_breakers(declaration: OpDeclaration, spec: TensorSpec) -> dict[str, Breaker]:
    breakers: dict[str, Breaker] = {}
    for dtype in FORMATS:
        if dtype not in spec.dtypes:
            breakers[f"{spec.name}-dtype-{dtype}"] = _with_dtype(spec.name, dtype)
    ranks = {len(axes) for axes in spec.shapes}
    breakers[f"{spec.name}-extra-dimension"] = _extra_dimension(
        spec.name, declaration.ranks[1] + 1 if spec.activation else max(ranks) + 1
    )
    breakers[f"{spec.name}-missing-dimension"] = _missing_dimension(spec.name)
    for axis in range(1, max(ranks) + 1):
        for delta, word in ((1, "more"), (-1, "less")):
            breakers[f"{spec.name}-axis-{-axis}-one-{word}"] = _resized(spec.name, -axis, delta)
    breakers[f"{spec.name}-last-axis-empty"] = _resized(spec.name, -1, None)
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
    breakers = {f"{spec.name}-{word}": _with_scalar(spec.name, v) for word, v in values.items()}
    if spec.at_most is not None:
        breakers[f"{spec.name}-beyond-{spec.at_most}"] = _beyond(spec)
    if spec.even:
        breakers[f"{spec.name}-odd"] = _odd(spec)
    return breakers


def _retyped(case: OpCase, name: str, dtype: str) -> OpCase:
    view = case.views()[name]
    # Zero bytes are a value of every format, integers and bool included.
    numel = case.storages[view.storage].numel
    storage = Storage(dtype, numel, bytes(numel * FORMATS[dtype].size))
    storages = [*case.storages]
    storages[view.storage] = storage
    return replace(case, storages=tuple(storages))


def _with_dtype(name: str, dtype: str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        return _retyped(_base(declaration, chooser), name, dtype)

    return build


def _reshaped(case: OpCase, name: str, shape: tuple[int, ...]) -> OpCase:
    """``case`` with a contiguous tensor of another shape; its storage grows where it must."""
    view = case.views()[name]
    fresh = View(view.storage, shape, contiguous_strides(shape), 0)
    storage = case.storages[view.storage]
    numel = max(storage.numel, fresh.extent)
    if numel > storage.numel:
        content = storage.content
        if isinstance(content, bytes):
            content = bytes(numel * FORMATS[storage.dtype].size)
        storages = [*case.storages]
        storages[view.storage] = Storage(storage.dtype, numel, content)
        case = replace(case, storages=tuple(storages))
    return case.with_argument(name, fresh)


def _extra_dimension(name: str, rank: int) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        shape = case.views()[name].shape
        lead = tuple(chooser.choose((1, 1, 2)) for _ in range(rank - len(shape)))
        return _reshaped(case, name, (*lead, *shape))

    return build


def _missing_dimension(name: str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser, Overrides(everything=True, rank=declaration.ranks[0]))
        shape = case.views()[name].shape
        return _reshaped(case, name, shape[1:] if chooser.chance(0.5) else shape[:-1])

    return build


def _resized(name: str, axis: int, delta: int | None) -> Breaker:
    """One axis one longer or shorter than it was; of size zero where ``delta`` is None."""

    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        shape = list(case.views()[name].shape)
        if len(shape) >= -axis:
            shape[axis] = 0 if delta is None else max(0, shape[axis] + delta)
        return _reshaped(case, name, tuple(shape))

    return build


def _sized(name: str, size: int) -> Breaker:
    """Every tensor agrees on a named size that is too small."""

    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser, Overrides(everything=True, sizes={name: max(0, size)}))
        return case

    return build


def _with_scalar(name: str, value: float | int | str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        return _scalar_given(_base(declaration, chooser), declaration, name, value)

    return build


def _scalar_given(
    case: OpCase, declaration: OpDeclaration, name: str, value: float | int | str
) -> OpCase:
    """``case`` with the scalar given as ``value``, also where its default was left out."""
    if case.argument(name) is not None:
        return case.with_argument(name, value)
    order = [p.name for p in declaration.parameters]
    arguments = [*case.arguments, Argument(name, value, keyword=True)]
    arguments.sort(key=lambda a: order.index(a.name))
    return replace(case, arguments=tuple(arguments))


def _beyond(spec: ScalarSpec) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        if not isinstance(binding := declaration.bind(case), Refusal) and spec.at_most:
            limit = binding.sizes[spec.at_most]
            value = limit + (2 if spec.even else chooser.choose((1, 2, 64)))
            case = _scalar_given(case, declaration, spec.name, value)
        return case

    return build


def _odd(spec: ScalarSpec) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        value = int(spec.minimum or 1) | 1
        return _scalar_given(
            _base(declaration, chooser), declaration, spec.name, value + 2 * chooser.integer(0, 3)
        )

    return build


def _flags_at_least_rank(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
    flags = {spec.name: True for spec in declaration.scalars if spec.kind == "bool"}
    overrides = Overrides(everything=True, rank=declaration.ranks[0], scalars=flags)
    return _base(declaration, chooser, overrides)


def _donated(case: OpCase) -> OpCase:
    return replace(case, overload="maybe_inplace")


def _donated_overlap(name: str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        view = case.views()[name]
        axis = chooser.integer(0, len(view.shape) - 1)
        strides = list(view.strides)
        strides[axis] = 0
        return _donated(case.with_argument(name, replace(view, strides=tuple(strides))))

    return build


def _donated_shared(name: str, other: str) -> Breaker:
    """``other`` becomes a window of the storage of ``name``, somewhere inside it."""

    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        view, moved = case.views()[name], case.views()[other]
        dtype = case.dtype_of(name)
        if case.dtype_of(other) != dtype or not view.numel:
            return case
        offset = chooser.integer(0, view.numel - 1)
        window = View(view.storage, moved.shape, moved.strides, offset)
        storage = case.storages[view.storage]
        if window.extent > storage.numel:
            content = storage.content
            numel = window.extent
            if isinstance(content, bytes):
                content = bytes(numel * FORMATS[storage.dtype].size)
            storages = [*case.storages]
            storages[view.storage] = Storage(storage.dtype, numel, content)
            case = replace(case, storages=tuple(storages))
        return _donated(case.with_argument(other, window))

    return build
