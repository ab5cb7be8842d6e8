"""A plainer call on plainer memory: fewer arguments, no sharing, contiguous, simple scalars."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reference.declaration import REQUIRED, OpDeclaration, ScalarSpec, TensorSpec
from reference.dtypes import decode, encode
from reference.model import Fill, OpCase, Plain, Storage, View

from .memory import isolated, positions, squeezed, without_unused

_FLOATS = (0.0, 1.0, 2.0**-17, 0.5, 2.0, -1.0, 1e-05)


def fewer_arguments(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """The default overload; optional arguments absent; defaults left out; nothing by keyword."""
    if case.overload != "default":
        yield replace(case, overload="default")
    for spec in declaration.parameters:
        argument = case.argument(spec.name)
        if argument is None or argument.value is None or not spec.optional:
            continue
        yield without_unused(case.with_argument(spec.name, None))
    left = _without_defaults(declaration, case)
    for fewer in (left, case):
        for first in reversed(range(len(fewer.arguments) + 1)):
            yield _positional(declaration, fewer, first)


def _without_defaults(declaration: OpDeclaration, case: OpCase) -> OpCase:
    defaults = {p.name: p.default for p in declaration.parameters if p.default is not REQUIRED}
    arguments = [
        a
        for a in case.arguments
        if isinstance(a.value, View) or a.name not in defaults or a.value != defaults[a.name]
    ]
    given = [a.name for a in arguments]
    names = [p.name for p in declaration.parameters]
    # What follows a parameter that is left out can only be passed by name.
    prefix = next((i for i, n in enumerate(names) if n not in given), len(names))
    return replace(
        case,
        arguments=tuple(
            replace(a, keyword=a.keyword or names.index(a.name) > prefix) for a in arguments
        ),
    )


def _positional(declaration: OpDeclaration, case: OpCase, first: int) -> OpCase:
    """The first arguments by position, as far as nothing before them is left out."""
    names = [p.name for p in declaration.parameters]
    return replace(
        case,
        arguments=tuple(
            replace(a, keyword=a.keyword and (i >= first or names[i] != a.name))
            for i, a in enumerate(case.arguments)
        ),
    )


def plainer_memory(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """All tensors contiguous and alone, then one at a time; then gaps and canaries removed."""
    views = case.views()
    odd = [
        name
        for name, view in views.items()
        if not view.is_contiguous
        or view.offset
        or case.storages[view.storage].numel != view.numel
        or sum(other.storage == view.storage for other in views.values()) > 1
    ]
    if len(odd) > 1:
        everything = case
        for name in odd:
            everything = isolated(everything, name)
        yield everything
    for name in odd:
        yield isolated(case, name)
    tight = squeezed(case, positions(case))
    if tight is not None:
        yield tight
    yield _trimmed(case)
    for name, view in views.items():
        if view.offset:
            yield case.with_argument(name, replace(view, offset=0))
        if 1 in view.shape:
            yield _dense_ones(case, name)


def _dense_ones(case: OpCase, name: str) -> OpCase:
    """Dimensions of size 1 with the stride a dense tensor would have."""
    view = case.views()[name]
    strides = list(view.strides)
    dense = 1
    for i in reversed(range(len(strides))):
        if view.shape[i] == 1:
            strides[i] = dense
        dense = max(dense, strides[i] * view.shape[i])
    return case.with_argument(name, replace(view, strides=tuple(strides)))


def _trimmed(case: OpCase) -> OpCase:
    """Storages that end with the last element that a tensor touches."""
    needed = [0] * len(case.storages)
    for view in case.views().values():
        needed[view.storage] = max(needed[view.storage], view.extent)
    storages = []
    for storage, numel in zip(case.storages, needed, strict=True):
        if isinstance(storage.content, Fill):
            storages.append(replace(storage, numel=numel))
        else:
            storages.append(Storage(storage.dtype, numel, storage.array()[:numel].tobytes()))
    return replace(case, storages=tuple(storages))


def plainer_scalars(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """Each plain value in turn, simplest first; the domain is the declaration's to check."""
    sized = set(declaration.scalar_names.values())
    for spec in declaration.scalars:
        argument = case.argument(spec.name)
        if argument is None or isinstance(argument.value, View):
            continue
        for value in _simpler_values(spec, argument.value):
            if spec.name in sized and isinstance(value, int) and not isinstance(value, bool):
                continue
            yield case.with_argument(spec.name, value)


def _simpler_values(spec: ScalarSpec, value: Plain) -> tuple[Plain, ...]:
    if spec.kind == "bool":
        return (False,)
    if spec.choices:
        return spec.choices
    if isinstance(value, float):
        return _FLOATS
    if isinstance(value, int):
        return (1, 2, value // 2, value - 1)
    return ()


def plainer_dtypes(declaration: OpDeclaration, case: OpCase) -> Iterator[OpCase]:
    """float32 everywhere it is accepted, then one storage at a time; values stay what they are."""
    able = [
        i
        for i, storage in enumerate(case.storages)
        if storage.dtype in ("bfloat16", "float16")
        and all(
            _takes_float32(declaration, name)
            for name, view in case.views().items()
            if view.storage == i
        )
    ]
    groups = [able] if len(able) > 1 else []
    for chosen in [*groups, *([i] for i in able)]:
        storages = [
            _as_float32(storage) if i in chosen else storage
            for i, storage in enumerate(case.storages)
        ]
        yield replace(case, storages=tuple(storages))


def _takes_float32(declaration: OpDeclaration, name: str) -> bool:
    spec = declaration.parameter(name)
    return isinstance(spec, TensorSpec) and any(
        d == "float32" or d.startswith("@") for d in spec.dtypes
    )


def _as_float32(storage: Storage) -> Storage:
    values = decode(storage.array(), storage.dtype)
    return Storage("float32", storage.numel, encode(values, "float32").tobytes())
