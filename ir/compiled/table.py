"""Finding the compiled code of a call, making it where there is none, and running it."""

from __future__ import annotations

import importlib
import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch._inductor.config as inductor_config
from torch import Tensor

from ir.compiled.build import Argument, Code, build
from ir.compiled.layout import Ints, TokenLayout, inverse, order_of, same_layout
from ir.compiled.state import NormalState
from ir.errors import CompileLimitError, IrError

if TYPE_CHECKING:
    from ir.dispatch import Configuration
    from ir.provider import IrOpImpl

_INDEX_DTYPES = (torch.int32, torch.int64)
_MOST_PLANS = 4096


class _Description(NamedTuple):
    """Everything but the number of tokens that one compilation is for."""

    fixed: tuple[Any, ...]
    layouts: tuple[TokenLayout, ...]


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
        self.artefacts: dict[_Description, list[_Artefact]] = {}
        self.hits = 0
        self.compiles: Counter[Configuration] = Counter()
        self._lock = threading.RLock()

    def call(self, configuration: Configuration, args: tuple[Any, ...], limit: int) -> Any:
        key = (configuration, *_environment(), *map(_signature, args))
        plan = self.plans.get(key)
        if plan is not None:
            result = plan.run(args)
            if result is not None:
                self.hits += 1
                return result
        with self._lock:
            current = self.plans.get(key)
            if current is None or current is plan:
                current = self._plan(configuration, args, limit)
                if len(self.plans) >= _MOST_PLANS:
                    self.plans.clear()
                self.plans[key] = current
        result = current.run(args)
        if result is None:
            raise IrError(
                f"{self.impl.op.name}: provider {self.impl.provider!r} was compiled for a call "
                "whose own guards refuse it"
            )
        return result

    def _plan(self, configuration: Configuration, args: tuple[Any, ...], limit: int) -> _Plan:
        tokens, description = self._describe(configuration, args)
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

    def _describe(
        self, configuration: Configuration, args: tuple[Any, ...]
    ) -> tuple[tuple[int, ...], _Description]:
        """Which arguments carry the tokens, and what the compiled code is specific to."""
        op = self.impl.op
        tokens: tuple[int, ...] = ()
        first = next((args[i] for i in op.activation_indices if i < len(args)), None)
        if isinstance(first, Tensor) and first.dim() > 1:
            count = first.shape[0]
            tokens = tuple(
                i
                for i, a in enumerate(args)
                if isinstance(a, Tensor) and a.dim() and a.shape[0] == count
                # An index tensor of one number a token is one of token tensors by itself.
                if i in op.token_indices
                or (op.tokens_inferred and a.dim() == 1 and a.dtype in _INDEX_DTYPES)
            )
        fixed: list[Any] = [configuration, *_environment(), self.generation]
        layouts: list[TokenLayout] = []
        for i, a in enumerate(args):
            if i in tokens:
                fixed.append((a.dtype, a.device, *a.shape[1:]))
                layouts.append(TokenLayout.of(tuple(a.shape), a.stride()))
            else:
                fixed.append(_signature(a))
        return tokens, _Description(tuple(fixed), tuple(layouts))

    def _find(
        self,
        tokens: tuple[int, ...],
        description: _Description,
        args: tuple[Any, ...],
        tensors: tuple[int, ...],
    ) -> _Artefact | None:
        candidates = list(self.artefacts.get(description, ()))
        if not candidates and tokens and args[tokens[0]].shape[0] < 2:
            # Strides of dimension 0 say nothing here, so code for other ones will do.
            shapes = [tuple(args[i].shape) for i in tokens]
            rest = _without_tokens(description, shapes)
            for other, made in self.artefacts.items():
                if other.fixed == description.fixed and _without_tokens(other, shapes) == rest:
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
        description: _Description,
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
        if _recompiling_is_refused():
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


def _recompiling_is_refused() -> bool:
    """Whether the caller asked torch.compile to compile nothing more."""
    try:
        eval_frame = importlib.import_module("torch._dynamo.eval_frame")
        return eval_frame._stance.stance == "fail_on_recompile"
    except (ImportError, AttributeError):
        return False


def _environment() -> tuple[Any, ...]:
    """Settings that compiled code depends on and that no argument shows."""
    return (
        inductor_config.get_hash(),  # type: ignore[attr-defined]
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


def _signature(a: Any) -> Any:
    if isinstance(a, Tensor):
        return a.shape, a.stride(), a.dtype, a.device
    if isinstance(a, float):
        # 0.0 == -0.0, and a NaN is not even equal to itself.
        return a if a and math.isfinite(a) else str(a)
    if isinstance(a, list | tuple):
        if any(isinstance(i, Tensor) for i in a):
            raise IrError(f"a list of tensors is {a!r:.80}; compiled providers take single tensors")
        return type(a), *map(_signature, a)
    return type(a), a


def _without_tokens(description: _Description, shapes: list[Ints]) -> list[Any]:
    return [
        layout.without_tokens(shape)
        for layout, shape in zip(description.layouts, shapes, strict=True)
    ]


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
