"""A traced provider as steps that can be written into any graph.

A step names its inputs by number: the leaves (tensors and symbolic numbers) of the arguments
come first, then the steps. The value of every node is made anew at each use: from the traced
sizes and the storages they lie in where all are numbers, by a fake run where some are symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from ir.compilation.errors import LoweringError
from ir.compilation.fakes import Fakes
from ir.compilation.graphs import flat_tensors
from ir.compilation.symbols import SYMBOLIC, is_symbolic
from ir.dispatch import enable_torch_wrap

ROUNDED = "low_precision_pointwise_barrier"


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands in arguments for the leaf or step of that number."""

    number: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor: where it lies in the storage of that number, which it may be the first in."""

    storage: int
    first: bool
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Step:
    """One node; a `constant` in place of a call is a tensor that the provider made.

    `flat`: no slot lies deeper than in `args` itself.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    layouts: Any
    constant: torch.Tensor | None = None
    flat: bool = False
    # Under `emulate_precision_casts` Inductor rounds what tracing marked so, and nothing else.
    rounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """`result` holds slots in the shape of what the provider returns.

    `exact`: layouts tell every value; otherwise values come from a fake run.
    """

    steps: tuple[Step, ...]
    result: Any
    exact: bool


def leaves_of(args: tuple[Any, ...]) -> list[Any]:
    """Tensors and symbolic numbers among arguments and the lists in them, in order."""
    found: list[Any] = []
    for a in args:
        if isinstance(a, (torch.Tensor, *SYMBOLIC)):
            found.append(a)
        elif isinstance(a, list | tuple):
            found += leaves_of(tuple(a))
    return found


def trace(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    mode: FakeTensorMode,
    decompositions: Mapping[Any, Any] | None = None,
) -> Template:
    """Trace `fn` on arguments like these, without side effects on them.

    What it launches and what it writes is kept, used or not. Raises what `fn` raises.
    """
    with mode, torch.no_grad():
        seen: dict[int, Any] = {}
        # A detached tensor shows a provider its metadata and storage, and nothing else.
        fakes = [
            seen.setdefault(id(v), v.detach()) if isinstance(v, torch.Tensor) else v
            for v in leaves_of(args)
        ]

    def call(*leaves: Any) -> Any:
        rest = iter(leaves)
        return fn(*(_filled(a, rest) for a in args))

    with mode, enable_torch_wrap(True), enable_python_dispatcher():
        module = make_fx(call, decomposition_table=dict(decompositions or {}))(*fakes)
    return _template(module, fakes, exact=not is_symbolic(fakes))


def _filled(a: Any, leaves: Any) -> Any:
    if isinstance(a, (torch.Tensor, *SYMBOLIC)):
        return next(leaves)
    if isinstance(a, list | tuple):
        return type(a)(_filled(v, leaves) for v in a)
    return a


def _template(module: fx.GraphModule, fakes: list[Any], *, exact: bool) -> Template:
    numbers: dict[fx.Node, int] = {}
    storages: dict[int, int] = {}
    for fake in fakes:
        if isinstance(fake, torch.Tensor):
            storages.setdefault(fake.untyped_storage()._cdata, len(storages))

    def slots(value: Any) -> Any:
        def slot(n: fx.Node) -> Any:
            return Slot(numbers[n])

        return fx.map_arg(value, slot)

    steps: list[Step] = []
    result: Any = None
    for node in module.graph.nodes:
        if node.op == "output":
            result = slots(node.args[0])
            break
        numbers[node] = len(numbers)
        if node.op == "placeholder":
            continue
        value = node.meta.get("val")
        constant = None
        if node.op == "get_attr":
            constant = getattr(module, str(node.target))
            if not isinstance(constant, torch.Tensor) or isinstance(constant, FakeTensor):
                raise LoweringError(
                    f"a provider holds {node.target!r}, {type(constant).__name__}; accepted: "
                    "tensors with data, and calls of ops"
                )
            value = constant
        elif node.op != "call_function":
            raise LoweringError(f"a provider traces to {node.op} {node.target}")
        exact = exact and not is_symbolic(value)
        layouts = _layouts(value, storages) if exact else None
        args, kwargs = slots(node.args), slots(node.kwargs)
        deeper = [a for a in args if isinstance(a, list | tuple | dict | slice)]
        flat = not _slots_in([*deeper, kwargs])
        rounded = ROUNDED in node.meta
        steps.append(Step(node.target, args, kwargs, layouts, constant, flat, rounded))
    return Template(steps=tuple(steps), result=result, exact=exact)


def _slots_in(value: Any) -> bool:
    if isinstance(value, dict):
        return _slots_in([*value.values()])
    if isinstance(value, slice):
        return _slots_in([value.start, value.stop, value.step])
    if isinstance(value, list | tuple):
        return any(map(_slots_in, value))
    return type(value) is Slot


def _layouts(value: Any, storages: dict[int, int]) -> Any:
    if isinstance(value, torch.Tensor):
        address = value.untyped_storage()._cdata
        first = address not in storages
        return Layout(
            storages.setdefault(address, len(storages)),
            first,
            value.dtype,
            value.device,
            tuple(value.shape),
            value.stride(),
            int(value.storage_offset()),
        )
    if isinstance(value, list | tuple):
        return type(value)(_layouts(v, storages) for v in value)
    return value


def fake_run(mode: FakeTensorMode, target: Any, args: Any, kwargs: Any) -> Any:
    """The value of a call, no object of which is one of the arguments."""
    given = {id(t) for t in flat_tensors([*args, *kwargs.values()])}

    def own(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(own(v) for v in value)
        # An op that writes returns the very tensor that it wrote.
        return value.detach() if id(value) in given else value

    with mode, torch.no_grad(), enable_python_dispatcher():
        return own(target(*args, **kwargs))


class Values:
    """Makes the values of one use of a template, in the fake mode of the graph it goes into."""

    def __init__(self, mode: FakeTensorMode, leaves: list[Any], fakes: Fakes) -> None:
        self.mode = mode
        self.fakes = fakes
        self.values = list(leaves)
        self.storages: list[Any] = []
        # Storages, by number, that are not to be made but are there already.
        self.preset: dict[int, Any] = {}
        seen: set[int] = set()
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in seen:
                    seen.add(storage._cdata)
                    self.storages.append(storage)

    def of(self, step: Step, *, exact: bool) -> Any:
        if exact:
            value = self._laid_out(step.layouts)
        elif step.constant is not None:
            value = self.mode.from_tensor(step.constant)
        else:
            args, kwargs = self._given(step.args), self._given(step.kwargs)
            value = fake_run(self.mode, step.target, args, kwargs)
        self.values.append(value)
        return value

    def _laid_out(self, layout: Any) -> Any:
        if type(layout) is Layout:
            with torch._C._DisableTorchDispatch():
                storage = None
                if not layout.first:
                    storage = self.storages[layout.storage]
                elif layout.storage in self.preset:
                    storage = self.preset[layout.storage]
                    self.storages.append(storage)
                if storage is None:
                    meta = torch.empty_strided(
                        layout.shape, layout.strides, dtype=layout.dtype, device="meta"
                    )
                    if layout.offset:
                        reach = sum(
                            (n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True)
                        )
                        room = torch.empty(
                            layout.offset + reach + 1, dtype=layout.dtype, device="meta"
                        )
                        meta = room.as_strided(layout.shape, layout.strides, layout.offset)
                    self.storages.append(meta.untyped_storage())
                else:
                    meta = torch.empty(0, dtype=layout.dtype, device="meta").set_(
                        storage, layout.offset, layout.shape, layout.strides
                    )
                return self.fakes(meta, layout.device)
        if isinstance(layout, list | tuple):
            return type(layout)(self._laid_out(v) for v in layout)
        return layout

    def _given(self, value: Any) -> Any:
        if type(value) is Slot:
            return self.values[value.number]
        if isinstance(value, list | tuple):
            return type(value)(self._given(v) for v in value)
        if isinstance(value, dict):
            return {k: self._given(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(*(self._given(v) for v in (value.start, value.stop, value.step)))
        return value
