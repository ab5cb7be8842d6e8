"""Single rules broken: each function builds what turns a legal case into an illegal one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reference.declaration import FLOATS, OpDeclaration, Refusal, ScalarSpec
from reference.dtypes import FORMATS
from reference.model import Argument, OpCase, Storage, View
from reference.model.storage import contiguous_strides

from ..chooser import Chooser
from .ops import plain_case
from .plan import Overrides
from .signatures import free_signature

Breaker = Callable[[OpDeclaration, Chooser], OpCase]


def _base(
    declaration: OpDeclaration, chooser: Chooser, overrides: Overrides | None = None
) -> OpCase:
    signature = free_signature(declaration, chooser.choose(FLOATS))
    return plain_case(declaration, signature, chooser, overrides or Overrides(everything=True))


def _retyped(case: OpCase, name: str, dtype: str) -> OpCase:
    view = case.views()[name]
    # Zero bytes are a value of every format, integers and bool included.
    numel = case.storages[view.storage].numel
    storage = Storage(dtype, numel, bytes(numel * FORMATS[dtype].size))
    storages = [*case.storages]
    storages[view.storage] = storage
    return replace(case, storages=tuple(storages))


def with_dtype(name: str, dtype: str) -> Breaker:
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


def extra_dimension(name: str, rank: int) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        shape = case.views()[name].shape
        lead = tuple(chooser.choose((1, 1, 2)) for _ in range(rank - len(shape)))
        return _reshaped(case, name, (*lead, *shape))

    return build


def missing_dimension(name: str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser, Overrides(everything=True, rank=declaration.ranks[0]))
        shape = case.views()[name].shape
        return _reshaped(case, name, shape[1:] if chooser.chance(0.5) else shape[:-1])

    return build


def resized(name: str, axis: int, delta: int | None) -> Breaker:
    """One axis one longer or shorter than it was; of size zero where ``delta`` is None."""

    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        shape = list(case.views()[name].shape)
        if len(shape) >= -axis:
            shape[axis] = 0 if delta is None else max(0, shape[axis] + delta)
        return _reshaped(case, name, tuple(shape))

    return build


def sized(name: str, size: int) -> Breaker:
    """Every tensor agrees on a named size that is too small."""

    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser, Overrides(everything=True, sizes={name: max(0, size)}))
        return case

    return build


def with_scalar(name: str, value: float | int | str) -> Breaker:
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


def beyond(spec: ScalarSpec) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        if not isinstance(binding := declaration.bind(case), Refusal) and spec.at_most:
            limit = binding.sizes[spec.at_most]
            value = limit + (2 if spec.even else chooser.choose((1, 2, 64)))
            case = _scalar_given(case, declaration, spec.name, value)
        return case

    return build


def odd(spec: ScalarSpec) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        value = int(spec.minimum or 1) | 1
        return _scalar_given(
            _base(declaration, chooser), declaration, spec.name, value + 2 * chooser.integer(0, 3)
        )

    return build


def flags_at_least_rank(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
    flags = {spec.name: True for spec in declaration.scalars if spec.kind == "bool"}
    overrides = Overrides(everything=True, rank=declaration.ranks[0], scalars=flags)
    return _base(declaration, chooser, overrides)


def _donated(case: OpCase) -> OpCase:
    return replace(case, overload="maybe_inplace")


def donated_overlap(name: str) -> Breaker:
    def build(declaration: OpDeclaration, chooser: Chooser) -> OpCase:
        case = _base(declaration, chooser)
        view = case.views()[name]
        axis = chooser.integer(0, len(view.shape) - 1)
        strides = list(view.strides)
        strides[axis] = 0
        return _donated(case.with_argument(name, replace(view, strides=tuple(strides))))

    return build


def donated_shared(name: str, other: str) -> Breaker:
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
