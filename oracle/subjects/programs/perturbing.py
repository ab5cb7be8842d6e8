"""One call of the IR and its neighbours, which differ from it in one factor of the key each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from oracle.observation.program import Perturbed
from reference.model import ProgramCase

from .caching import recording_cache
from .calls import target_of
from .graph import program_graph
from .inplace import inplace_providers
from .sensitive import sensitive_providers
from .structure import structure

if TYPE_CHECKING:
    from torch import fx


NORMS = ("ir.rms_norm.", "ir.fused_add_rms_norm.")
"""What the calls that are looked for begin with."""


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor argument: its look, and the number of the storage that it lies in."""

    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCall:
    """A call of an op with all arguments by position, under a state of the process.

    ``same`` makes tensor arguments that are equal one object. ``state`` is entered while lowering.
    """

    target: str
    args: tuple[Any, ...]
    same: bool = False
    state: Callable[[], AbstractContextManager[Any]] = nullcontext
    providers: Callable[[], AbstractContextManager[Any]] = sensitive_providers


def perturbed(case: ProgramCase) -> tuple[Perturbed, ...]:
    """The first call of a norm in the program beside each of its neighbours, in both orders."""
    found = _first_call(case)
    if found is None:
        return ()
    step, call = found
    made: list[Perturbed] = []
    cold = _lowered(call, None)
    warm_cache = recording_cache()
    _lowered(call, warm_cache)
    for factor, one, other in neighbours(call):
        cold_one = cold if one is call else _lowered(one, None)
        cold_other = _lowered(other, None)
        ahead = warm_cache
        if one is not call:
            ahead = recording_cache()
            _lowered(one, ahead)
        behind = recording_cache()
        _lowered(other, behind)
        for order, cache, second, wanted in (
            ("program first", ahead, other, cold_other),
            ("neighbour first", behind, one, cold_one),
        ):
            hits = cache.statistics.hits
            warm = _lowered(second, cache)
            made.append(
                Perturbed(
                    factor=factor,
                    order=order,
                    step=step,
                    same_key=cache.statistics.hits > hits,
                    same_graph=cold_one == cold_other,
                    warm=warm,
                    cold=wanted,
                )
            )
    return tuple(made)


def _first_call(case: ProgramCase) -> tuple[int, OneCall] | None:
    nodes = iter(program_graph(case).module.graph.nodes)
    for number, step in enumerate(case.steps):
        if not step.target.startswith(NORMS):
            continue
        return number, next(filter(None, map(call_at, nodes)))
    return None


def call_at(node: fx.Node) -> OneCall | None:
    """The call of a norm that a node of a graph with values makes; None for another node."""
    from ir.op import IrOp

    target = str(node.target)
    if not target.startswith(NORMS):
        return None
    args = IrOp.registry[target.split(".")[1]].positional(tuple(node.args), dict(node.kwargs))
    storages: dict[int, int] = {}
    return OneCall(target=target, args=tuple(_given(a, storages) for a in args))


def _given(argument: Any, storages: dict[int, int]) -> Any:
    from torch import fx

    if not isinstance(argument, fx.Node):
        return argument
    value = argument.meta["val"]
    number = storages.setdefault(value.untyped_storage()._cdata, len(storages))
    return Given(
        value.dtype, tuple(value.shape), value.stride(), int(value.storage_offset()), number
    )


def neighbours(call: OneCall) -> Iterator[tuple[str, OneCall, OneCall]]:
    """Pairs of calls that differ in one factor, with the factor's name."""
    import torch

    x = call.args[0]
    wider = torch.float32 if x.dtype != torch.float32 else torch.bfloat16
    alike = tuple(
        replace(a, dtype=wider) if isinstance(a, Given) and a.shape == x.shape else a
        for a in call.args
    )
    yield "dtype", call, replace(call, args=alike)
    yield "offset", call, _with(call, 0, replace(x, offset=x.offset + 1))
    if len(x.shape) > 1:
        longer = (x.shape[0] + 1, *x.shape[1:])
        args = tuple(
            replace(a, shape=longer) if isinstance(a, Given) and a.shape == x.shape else a
            for a in call.args
        )
        yield "shape", call, replace(call, args=args)
        gap = (x.strides[0] + 8, *x.strides[1:])
        yield "strides", call, _with(call, 0, replace(x, strides=gap))
    for i, a in enumerate(call.args):
        if isinstance(a, Given) and i and (a.storage, a.dtype) != (x.storage, x.dtype):
            yield from _shared(call, i, a, x)
        if isinstance(a, float):
            one = _with(call, i, 1.0)
            yield "plain-value", one, _with(call, i, 2.0)
            # 1 == 1.0: a key that only compares cannot tell them.
            yield "plain-type", one, _with(call, i, 1)
    name, overload = call.target.rsplit(".", 1)
    another = "maybe_inplace" if overload == "default" else "default"
    yield "overload", call, replace(call, target=f"{name}.{another}")
    yield "provider", call, replace(call, providers=inplace_providers)
    for factor, state in _states():
        yield factor, call, replace(call, state=state)


def _shared(call: OneCall, i: int, a: Given, x: Given) -> Iterator[tuple[str, OneCall, OneCall]]:
    """An argument in the storage of the first, and as the very tensor that the first is."""
    if a.dtype is not x.dtype:
        return
    reach = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True))
    behind = x.offset + max(reach, 1)
    apart = _with(call, i, replace(a, offset=behind))
    yield "storages", apart, _with(apart, i, replace(a, storage=x.storage, offset=behind))
    if a.shape == x.shape:
        twice = _with(call, i, x)
        yield "same-tensor", twice, replace(twice, same=True)


def _with(call: OneCall, place: int, argument: Any) -> OneCall:
    args = tuple(argument if i == place else a for i, a in enumerate(call.args))
    return replace(call, args=args)


def _states() -> Iterator[tuple[str, Callable[[], AbstractContextManager[Any]]]]:
    import torch

    yield "grad-mode", torch.no_grad
    yield "autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    yield (
        "default-dtype",
        lambda: _Switched(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    )
    yield (
        "deterministic",
        lambda: _Switched(
            torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
        ),
    )
    yield (
        "matmul-precision",
        lambda: _Switched(
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
        ),
    )


class _Switched(AbstractContextManager[None]):
    """A setting of the process, another while entered."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], Any], value: Any) -> None:
        self._get, self._put, self._value = get, put, value
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = self._get()
        self._put(self._value)

    def __exit__(self, *_: object) -> None:
        self._put(self._before)


def _lowered(call: OneCall, cache: Any) -> str:
    """The structure of a graph that holds this call alone, lowered through ``cache``."""
    from ir.compilation import CompilationError, lower

    module = _graph(call)
    try:
        with call.providers(), call.state():
            lower(module.graph, cache=cache)
    except CompilationError as error:
        # A template that does not fit is refused; without a cache it would not have come.
        return f"refused: {type(error).__name__}"
    return structure(module.graph)


def _graph(call: OneCall) -> fx.GraphModule:
    import operator

    import torch
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    mode = FakeTensorMode()
    device = torch.device("cpu")
    graph = fx.Graph()
    room: dict[tuple[int, Any], Any] = {}
    nodes: dict[Given, fx.Node] = {}
    args: list[Any] = []
    for a in call.args:
        if not isinstance(a, Given):
            args.append(a)
            continue
        if call.same and a in nodes:
            args.append(nodes[a])
            continue
        size = 1 << 16
        base = room.setdefault(
            (a.storage, a.dtype), torch.empty(size, dtype=a.dtype, device="meta")
        )
        node = graph.placeholder(f"x{len(args)}")
        node.meta["val"] = FakeTensor(mode, base.as_strided(a.shape, a.strides, a.offset), device)
        nodes[a] = node
        args.append(node)
    target = target_of(call.target)
    made = graph.call_function(target, tuple(args))
    fakes = fx.map_arg(tuple(args), lambda n: n.meta["val"])
    with mode, torch.no_grad():
        made.meta["val"] = target_of(f"{call.target.rsplit('.', 1)[0]}.default")(*fakes)
    outputs: Any = made
    if isinstance(made.meta["val"], list | tuple):
        items = [
            graph.call_function(operator.getitem, (made, k)) for k in range(len(made.meta["val"]))
        ]
        for item, value in zip(items, made.meta["val"], strict=True):
            item.meta["val"] = value
        outputs = tuple(items)
    graph.output(outputs)
    return fx.GraphModule({}, graph)
