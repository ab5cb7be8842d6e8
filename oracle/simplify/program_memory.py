"""Plainer memory for a program: fewer inputs, smaller sizes, tensors of their own, packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from reference.dtypes import FORMATS, decode, encode
from reference.model import ProgramCase, ProgramOperand, ProgramStep, Storage, View
from reference.model.program_edits import renumbered
from reference.model.storage import contiguous_strides

_RAMP = 6
"""Values of a plain content repeat after this many: few digits, and neighbours differ."""


def fewer_inputs(case: ProgramCase) -> Iterator[ProgramCase]:
    """Without the inputs that nothing uses, without one of them, and with one given away less."""
    used = set(case.outputs).union(*(step.values() for step in case.steps))
    idle = [i for i in range(len(case.inputs)) if i not in used]
    for gone in [idle, *([i] for i in idle)]:
        if gone:
            yield without_inputs(case, gone)
    for position in case.donated:
        yield replace(case, donated=tuple(p for p in case.donated if p != position))
    for i, number in enumerate(case.inputs):
        for other in case.inputs[:i]:
            if other != number and case.tensors[other].shape == case.tensors[number].shape:
                inputs = (*case.inputs[:i], other, *case.inputs[i + 1 :])
                yield _cleaned(replace(case, inputs=inputs))


def without_inputs(case: ProgramCase, gone: Sequence[int]) -> ProgramCase:
    """The program without these inputs, which nothing uses, and what only they need."""

    def number(found: int) -> int:
        return found - sum(i < found for i in gone)

    return _cleaned(
        replace(
            case,
            inputs=tuple(n for i, n in enumerate(case.inputs) if i not in gone),
            donated=tuple(number(p) for p in case.donated if p not in gone),
            steps=tuple(renumbered(step, number) for step in case.steps),
            outputs=tuple(number(o) for o in case.outputs),
        )
    )


def _cleaned(case: ProgramCase) -> ProgramCase:
    """Only the tensors that are inputs, only the storages that they lie in, no tail unused."""
    tensors = sorted(set(case.inputs))
    storages = sorted({case.tensors[t].storage for t in tensors})
    views = tuple(
        replace(case.tensors[t], storage=storages.index(case.tensors[t].storage)) for t in tensors
    )
    return replace(
        case,
        storages=tuple(case.storages[s] for s in storages),
        tensors=views,
        inputs=tuple(tensors.index(n) for n in case.inputs),
    )


def smaller_memory(case: ProgramCase) -> Iterator[ProgramCase]:
    """Each size that occurs made smaller, wherever it occurs, in views written out as well."""
    sizes = {n for view in case.tensors for n in view.shape if n > 1}
    for size in sorted(sizes, reverse=True):
        for wanted in dict.fromkeys((1, 2, size - 1)):
            if wanted < size:
                yield _resized(case, {size: wanted}, in_steps=True)
                yield _resized(case, {size: wanted}, in_steps=False)
    if all(view.shape[:1] == (1,) for view in case.tensors):
        yield _rebuilt(case, [_values(case, v).reshape(v.shape[1:]) for v in case.tensors])


def _resized(case: ProgramCase, sizes: dict[int, int], *, in_steps: bool) -> ProgramCase:
    """Tensors cut to smaller sizes, each in a packed storage of its own or all in one as before."""

    def operand(found: ProgramOperand) -> ProgramOperand:
        if isinstance(found, tuple):
            return tuple(sizes.get(i, i) if type(i) is int else operand(i) for i in found)
        return found

    def resized(step: ProgramStep) -> ProgramStep:
        return replace(step, operands=tuple(operand(o) for o in step.operands))

    steps = tuple(resized(step) for step in case.steps) if in_steps else case.steps
    shapes = [tuple(sizes.get(n, n) for n in view.shape) for view in case.tensors]
    if _shares(case):
        views = tuple(replace(v, shape=s) for v, s in zip(case.tensors, shapes, strict=True))
        return replace(case, tensors=views, steps=steps)
    cut = [
        _values(case, view)[tuple(slice(n) for n in shape)]
        for view, shape in zip(case.tensors, shapes, strict=True)
    ]
    return replace(_rebuilt(case, cut), steps=steps)


def _shares(case: ProgramCase) -> bool:
    return len({view.storage for view in case.tensors}) < len(case.tensors)


def _values(case: ProgramCase, view: View) -> np.ndarray:
    return view.of(case.storages[view.storage].array())


def _rebuilt(case: ProgramCase, values: Sequence[np.ndarray]) -> ProgramCase:
    """Each tensor packed in a storage of its own that holds these values."""
    storages, tensors = [], []
    for i, (view, content) in enumerate(zip(case.tensors, values, strict=True)):
        dtype = case.storages[view.storage].dtype
        storages.append(Storage(dtype, content.size, np.ascontiguousarray(content).tobytes()))
        tensors.append(View(i, content.shape, contiguous_strides(content.shape)))
    return replace(case, storages=tuple(storages), tensors=tuple(tensors))


def plainer_memory(case: ProgramCase) -> Iterator[ProgramCase]:
    """All tensors packed and alone, then one; storages cut to what is seen of them; float32."""
    yield _rebuilt(case, [_values(case, view) for view in case.tensors])
    for i, view in enumerate(case.tensors):
        content = np.ascontiguousarray(_values(case, view))
        dtype = case.storages[view.storage].dtype
        alone = Storage(dtype, content.size, content.tobytes())
        packed = View(len(case.storages), view.shape, contiguous_strides(view.shape))
        tensors = (*case.tensors[:i], packed, *case.tensors[i + 1 :])
        yield _cleaned(replace(case, storages=(*case.storages, alone), tensors=tensors))
    yield _trimmed(case)
    for i, storage in enumerate(case.storages):
        if storage.dtype in ("bfloat16", "float16"):
            values = decode(storage.array(), storage.dtype)
            wide = Storage("float32", storage.numel, encode(values, "float32").tobytes())
            yield replace(case, storages=(*case.storages[:i], wide, *case.storages[i + 1 :]))


def _trimmed(case: ProgramCase) -> ProgramCase:
    """Storages from the first element that a tensor shows to the last."""
    storages, moved = [], list(case.tensors)
    for i, storage in enumerate(case.storages):
        seen = [n for n, view in enumerate(case.tensors) if view.storage == i]
        start = min((case.tensors[n].offset for n in seen), default=0)
        end = max((case.tensors[n].extent for n in seen), default=0)
        kept = storage.array()[start:end]
        storages.append(Storage(storage.dtype, len(kept), kept.tobytes()))
        for n in seen:
            moved[n] = replace(moved[n], offset=moved[n].offset - start)
    return replace(case, storages=tuple(storages), tensors=tuple(moved))


def plainer_contents(case: ProgramCase) -> Iterator[ProgramCase]:
    """Each storage all ones, then 1, 2, ... again and again."""
    for i, storage in enumerate(case.storages):
        for period in (1, 2, _RAMP):
            values = np.arange(storage.numel) % period + 1.0
            if storage.dtype == "bool":
                values = values % 2
            if FORMATS[storage.dtype].kind == "float":
                content = encode(values, storage.dtype).tobytes()
            else:
                content = values.astype(FORMATS[storage.dtype].dtype).tobytes()
            plain = Storage(storage.dtype, storage.numel, content)
            yield replace(case, storages=(*case.storages[:i], plain, *case.storages[i + 1 :]))
