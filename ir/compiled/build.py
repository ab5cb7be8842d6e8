"""One compilation of a provider: by torch.compile ahead of time, for every number of tokens."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from ir.compiled.layout import Ints, TokenLayout, inverse
from ir.compiled.state import NormalState
from ir.errors import IrError, NoCompilerError

# The guards that say what compiled code depends on in its arguments. The rest is about the
# state of the thread, which is the same on every entry, and modules, which cannot be guarded
# ahead of time.
_GUARDS = ("TENSOR_MATCH", "CONSTANT_MATCH", "SHAPE_ENV")
_serial = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of the provider: a tensor given at each call, or a constant."""

    tensor: bool
    constant: Any = None
    layout: TokenLayout | None = None
    """Of a token tensor; None for any other, whose sizes and strides are fixed."""


@functools.cache
def _load_inductor() -> None:
    """Import what torch.compile imports at its first use.

    torch 2.13 warns of its own deprecated functions there, which is nothing that a caller who
    turns warnings into errors could mend.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._inductor.compile_fx")


def has_compiler(device_type: str = "cpu") -> bool:
    """Whether torch.compile can make code for this kind of device here."""
    if device_type != "cpu":
        return importlib.util.find_spec("triton") is not None
    builder = importlib.import_module("torch._inductor.cpp_builder")
    try:
        builder.get_cpp_compiler()
    except Exception:  # What is raised differs by platform and version; none means a compiler.
        return False
    return True


def keeps_roundings(device_type: str = "cpu") -> bool:
    """Whether `compile="exact"` can be had: Inductor's C++ code elides the casts of a chain on
    torch 2.11 even under `emulate_precision_casts`, which it honours on 2.13."""
    return device_type != "cpu" or TorchVersion(torch.__version__) >= TorchVersion("2.13")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Code:
    """Compiled code. `run` is right only for views that `accepts` is true of."""

    accepts: Callable[[tuple[Tensor, ...]], bool]
    run: Callable[..., tuple[Tensor, ...]]


def _code(function: Any, views: tuple[Tensor, ...]) -> Code:
    """The guards and the code of an ahead-of-time compiled function, called apart."""
    try:
        closure = {k: v for k, v in function.prepare_f_locals(*views).items() if k != "views"}
        check = function._artifacts.guard_manager.check
        if not check({**closure, "views": views}):
            raise IrError("compiled code refuses the arguments that it was compiled for")
        return Code(accepts=lambda views: check({**closure, "views": views}), run=function.fn)
    except AttributeError as error:
        raise IrError(
            f"compiled providers cannot check the guards of torch {torch.__version__} ({error}); "
            "accepted: torch 2.13, or another one with the same ahead-of-time functions"
        ) from error


def _torch_function(module: str, name: str) -> Callable[..., Any]:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise IrError(
            f"compiled providers need {module}.{name}, which torch {torch.__version__} lacks; "
            "accepted: torch 2.11 or later that has it"
        ) from error


def build(
    fn: Callable[..., Any],
    arguments: tuple[Argument, ...],
    views: tuple[Tensor, ...],
    output_orders: tuple[Ints | None, ...],
    *,
    single: bool,
    exact: bool,
    device_type: str,
) -> Code:
    """Compile `fn` to code that takes the canonical views.

    `views` are those of a first call. Outputs come in the order of their dimensions in memory,
    as `output_orders` gives it.
    """
    if not has_compiler(device_type):
        wanted = "a C++ compiler (g++ or clang++)" if device_type == "cpu" else "triton"
        raise NoCompilerError(f"compiled providers on {device_type} need {wanted}; none is found")
    if exact and not keeps_roundings(device_type):
        raise NoCompilerError(
            f'compile="exact" on {device_type} with torch {torch.__version__}, whose compiler '
            "elides roundings there; accepted: torch 2.13 or later, or compile=True"
        )
    _load_inductor()
    mark_unbacked = _torch_function("torch._dynamo.decorators", "mark_unbacked")
    traced = _traced(fn, arguments, output_orders, single)
    options: dict[str, Any] = {"guard_filter_fn": _keep_guards}
    if exact:
        options["emulate_precision_casts"] = True
    with _ahead_of_time():
        compiler = torch.compile(traced, fullgraph=True, options=options)
    aot_compile = getattr(compiler, "aot_compile", None)
    if aot_compile is None:
        raise IrError(f"compiled providers need aot_compile, which torch {torch.__version__} lacks")
    with NormalState():
        # The mark is an attribute of the tensor: the caller's own must not carry it.
        views = tuple(view.detach() for view in views)
        tensors = [a for a in arguments if a.tensor]
        for argument, view in zip(tensors, views, strict=True):
            if argument.layout is not None:
                order = argument.layout.order
                mark_unbacked(view, 0 if order is None else order.index(0), shape_id="tokens")
        return _code(aot_compile((views, {})), views)


def _ahead_of_time() -> contextlib.AbstractContextManager[None]:
    """Where torch has a switch for it (2.11 and 2.12, off), ahead-of-time compilation is on."""
    config = importlib.import_module("torch._dynamo.config")
    if not hasattr(config, "enable_aot_compile"):
        return contextlib.nullcontext()
    return config.patch(enable_aot_compile=True)


def _keep_guards(guards: Any) -> list[bool]:
    return [guard.guard_type in _GUARDS for guard in guards]


def _traced(
    fn: Callable[..., Any],
    arguments: tuple[Argument, ...],
    output_orders: tuple[Ints | None, ...],
    single: bool,
) -> Callable[..., Any]:
    """The function of the canonical views that is compiled, with a code object of its own.

    Dynamo makes a number symbolic once it has seen two values of it in one code object. A code
    object for each compilation keeps them apart.
    """
    orders = [a.layout.order if a.layout is not None else None for a in arguments]
    inverses = [None if order is None else inverse(order) for order in orders]

    def call(*views: Tensor) -> Any:
        remaining = list(views)
        args: list[Any] = []
        for argument, back in zip(arguments, inverses, strict=True):
            if not argument.tensor:
                args.append(argument.constant)
                continue
            view = remaining.pop(0)
            args.append(view if back is None else view.permute(back))
        result = fn(*args)
        outputs = (result,) if single else tuple(result)
        return tuple(
            out if order is None else out.permute(order)
            for out, order in zip(outputs, output_orders, strict=True)
        )

    code = call.__code__.replace(co_name=f"compiled_{next(_serial)}")
    return functools.update_wrapper(
        FunctionType(code, call.__globals__, code.co_name, None, call.__closure__), call
    )
