"""Finding the compiled code of a call, making it where there is none, and running it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ir.compiled import key
from ir.compiled.build import Argument, Code, build
from ir.compiled.key import Description
from ir.compiled.layout import Ints, TokenLayout, inverse, order_of, same_layout
from ir.compiled.state import NormalState
from ir.errors import CompileLimitError, IrError

if TYPE_CHECKING:
    from ir.dispatch import Configuration
    from ir.provider import IrOpImpl

_INDEX_DTYPES = (torch.int32, torch.int64)
_MOST_PLANS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Artefact:
    code: Code
    layouts: tuple[TokenLayout | None, ...]
    """Of each tensor argument, in order; None for a tensor without a token dimension."""
    output_orders: tuple[Ints | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """How calls with exactly these shapes and strides run."""

    artefact: _Artefact
    tensors: tuple[int, ...]
    views: tuple[tuple[Ints, Ints] | None, ...]
    """Sizes and strides to view each tensor with; None where it is taken as it is."""
    outputs: tuple[tuple[Ints, Ints, Ints | None], ...]
    """Shape, eager's strides, and the permutation to undo, of each output."""
    single: bool

    def run(self, args: tuple[Any, ...]) -> Any:
        """The outputs; None where the guards of the code refuse the arguments."""
        code = self.artefact.code
        with NormalState():
            views = _given(self.views, args, self.tensors)
            if not code.accepts(views):
                return None
            got = code.run(*views)
            outputs: list[Tensor] = []
            for out, (shape, strides, back) in zip(got, self.outputs, strict=True):
                if back is not None:
                    out = out.permute(back)
                if out.shape != shape:
                    raise IrError(f"compiled code returned {tuple(out.shape)}, eager {shape}")
                if out.stride() != strides and not same_layout(shape, out.stride(), strides):
                    out = torch.empty_strided(
                        shape, strides, dtype=out.dtype, device=out.device
                    ).copy_(out)
                outputs.append(out)
        return outputs[0] if self.single else tuple(outputs)


class Table:
    """The compiled code of one provider, for one generation of its op."""

    def __init__(self, impl: IrOpImpl) -> None:
        self.impl = impl
        self.generation = impl.op.generation
        self.plans: dict[tuple[Any, ...], _Plan] = {}
        self.artefacts: dict[Description, list[_Artefact]] = {}
        self.hits = 0
        self.compiles: Counter[Configuration] = Counter()
        self._lock = threading.RLock()

    def call(self, configuration: Configuration, args: tuple[Any, ...], limit: int) -> Any:
        call = (configuration, *key.environment(), *map(key.signature, args))
        plan = self.plans.get(call)
        if plan is not None:
            result = plan.run(args)
            if result is not None:
                self.hits += 1
                return result
        with self._lock:
            current = self.plans.get(call)
            if current is None or current is plan:
                current = self._plan(configuration, args, limit)
                if len(self.plans) >= _MOST_PLANS:
                    self.plans.clear()
                self.plans[call] = current
        result = current.run(args)
        if result is None:
            raise IrError(
                f"{self.impl.op.name}: provider {self.impl.provider!r} was compiled for a call "
                "whose own guards refuse it"
            )
        return result

    def _plan(self, configuration: Configuration, args: tuple[Any, ...], limit: int) -> _Plan:
        tokens, description = key.describe(self.impl.op, configuration, args)
        with NormalState():
            outputs, single = _eager_outputs(self.impl.impl_fn, args)
        tensors = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
        artefact = self._find(tokens, description, args, tensors)
        if artefact is None:
            artefact = self._compile(
                configuration, description, args, tensors, tokens, outputs, single, limit
            )
        else:
            self.hits += 1
        views = _views(artefact.layouts, args, tensors)
        return _Plan(
            artefact=artefact,
            tensors=tensors,
            views=views,
            outputs=tuple(
                (shape, strides, None if order is None else inverse(order))
                for (shape, strides), order in zip(outputs, artefact.output_orders, strict=True)
            ),
            single=single,
        )

    def _find(
        self,
        tokens: tuple[int, ...],
        description: Description,
        args: tuple[Any, ...],
        tensors: tuple[int, ...],
    ) -> _Artefact | None:
        candidates = list(self.artefacts.get(description, ()))
        if not candidates and tokens and args[tokens[0]].shape[0] < 2:
            # Strides of dimension 0 say nothing here, so code for other ones will do.
            shapes = [tuple(args[i].shape) for i in tokens]
            rest = key.without_tokens(description, shapes)
            for other, made in self.artefacts.items():
                if other.fixed == description.fixed and key.without_tokens(other, shapes) == rest:
                    candidates += made
        for artefact in candidates:
            views = _views(artefact.layouts, args, tensors)
            with NormalState():
                if artefact.code.accepts(_given(views, args, tensors)):
                    return artefact
        return None

    def _compile(
        self,
        configuration: Configuration,
        description: Description,
        args: tuple[Any, ...],
        tensors: tuple[int, ...],
        tokens: tuple[int, ...],
        outputs: tuple[tuple[Ints, Ints], ...],
        single: bool,
        limit: int,
    ) -> _Artefact:
        name = f"{self.impl.op.name}: provider {self.impl.provider!r} ({configuration})"
        if self.compiles[configuration] >= limit:
            raise CompileLimitError(
                f"{name} has been compiled {limit} times and would be again for "
                f"{description.fixed[2:]}; accepted: fewer kinds of arguments, or a higher "
                "ir.compiled.limit"
            )
        if key.recompiling_is_refused():
            raise CompileLimitError(
                f"{name} would be compiled for {description.fixed[2:]}; accepted while the stance "
                "of torch.compile is fail_on_recompile: calls that have been compiled for"
            )
        layout_of = dict(zip(tokens, description.layouts, strict=True))
        layouts = tuple(layout_of.get(i) for i in tensors)
        arguments = tuple(
            Argument(tensor=True, layout=layout_of.get(i))
            if isinstance(a, Tensor)
            else Argument(tensor=False, constant=a)
            for i, a in enumerate(args)
        )
        orders = tuple(order_of(shape, strides) for shape, strides in outputs)
        orders = tuple(
            None if order == tuple(range(len(shape))) else order
            for order, (shape, _) in zip(orders, outputs, strict=True)
        )
        with NormalState():
            views = _given(_views(layouts, args, tensors), args, tensors)
        code = build(
            self.impl.impl_fn,
            arguments,
            views,
            orders,
            single=single,
            exact=configuration == "exact",
            device_type=next((v.device.type for v in views), "cpu"),
        )
        self.compiles[configuration] += 1
        artefact = _Artefact(code=code, layouts=layouts, output_orders=orders)
        self.artefacts.setdefault(description, []).append(artefact)
        return artefact


def _views(
    layouts: tuple[TokenLayout | None, ...], args: tuple[Any, ...], tensors: tuple[int, ...]
) -> tuple[tuple[Ints, Ints] | None, ...]:
    views: list[tuple[Ints, Ints] | None] = []
    for i, layout in zip(tensors, layouts, strict=True):
        t = args[i]
        shape = tuple(t.shape)
        view = None if layout is None else layout.canonical(shape)
        views.append(None if view == (shape, t.stride()) else view)
    return tuple(views)


def _given(
    views: tuple[tuple[Ints, Ints] | None, ...], args: tuple[Any, ...], tensors: tuple[int, ...]
) -> tuple[Tensor, ...]:
    given: list[Tensor] = []
    for i, view in zip(tensors, views, strict=True):
        t = args[i].detach()
        given.append(t if view is None else t.as_strided(*view, t.storage_offset()))
    return tuple(given)


def _eager_outputs(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[tuple[tuple[Ints, Ints], ...], bool]:
    """Shape and strides of what `fn` returns for such arguments when it runs eagerly."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fakes = [
            torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device=a.device)
            if isinstance(a, Tensor)
            else a
            for a in args
        ]
        result = fn(*fakes)
    single = isinstance(result, Tensor)
    outputs = (result,) if single else tuple(result)
    return tuple((tuple(o.shape), o.stride()) for o in outputs), single
