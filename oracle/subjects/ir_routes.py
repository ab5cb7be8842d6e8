"""How a provider of the IR is driven: the routes, and what each of them keeps compiled.

eager             op(...)                            through the torch custom op
eager-unwrapped   op(...) with the torch wrap off    straight to the provider
compiled-exact    op(...), compile="exact"           compiled native, native's roundings kept
compiled-stock    op(...), compile=True              compiled native, roundings as Inductor likes
opaque            a custom op that calls op(...), inside a compiled function
caller            op(...) inside a torch.compile'd function (Inductor, fullgraph)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import FunctionType
from typing import Any

from reference.legal import DECLARATIONS
from reference.model import OpCase, View

ROUTES = ("eager", "eager-unwrapped", "compiled-exact", "compiled-stock", "opaque", "caller")
COMPILED_ROUTES = ("compiled-exact", "compiled-stock")
NEEDS_COMPILER = ("compiled-exact", "compiled-stock", "caller")

Call = Callable[..., Any]


class Routes:
    """The drivers of one worker process. Compiled functions are kept per (op, overload, form)."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._compiled: dict[tuple[Any, ...], Call] = {}
        self._libraries: list[Any] = []

    def unavailable(self, op: Any, provider: str, route: str, case: OpCase) -> str:
        """Why this route cannot be driven here; empty where it can."""
        if route in NEEDS_COMPILER and not self._has_compiler():
            return "no-compiler"
        if route == "compiled-exact" and not self._keeps_roundings():
            return "no-exact-compiler"
        if provider == "triton" and self._device == "cpu":
            from ir.kernels.triton import interpreter

            if interpreter.correction() and _touches_low_precision(case):
                return "interpreter-casts"
        return ""

    def _has_compiler(self) -> bool:
        if self._device.startswith("cuda"):
            return True
        from ir import compiled

        return compiled.has_compiler()

    def _keeps_roundings(self) -> bool:
        from ir import compiled

        return compiled.keeps_roundings(self._device.partition(":")[0])

    def driver(self, op: Any, provider: str, route: str, case: OpCase) -> Call:
        """A callable with the op's signature that runs ``provider`` on ``route``."""
        import ir

        overload = op.maybe_inplace if case.overload == "maybe_inplace" else op
        # Native last keeps the op from warning; a call the provider declines never comes here.
        order = [provider] if provider == "native" else [provider, "native"]
        mode: bool | str = {"compiled-exact": "exact", "compiled-stock": True}.get(route, False)
        target: Call = overload
        if route == "opaque":
            # Where the provider compiles, the opaque op is the place compiled native is made for.
            if op.impls[provider].compilable and self._has_compiler() and self._keeps_roundings():
                mode = "exact"
            target = self._through(self._opaque(op, case), provider, case, "aot_eager")
        elif route == "caller":
            target = self._through(overload, provider, case, "inductor")

        def call(*args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                stack.enter_context(op.set_priority(order, compile=mode))
                stack.enter_context(ir.enable_torch_wrap(route != "eager-unwrapped"))
                return target(*args, **kwargs)

        return call

    def _through(self, inner: Call, provider: str, case: OpCase, backend: str) -> Call:
        """``inner`` inside a compiled function of its own per provider and call pattern.

        The order of providers is guarded: those that shared a function would recompile it for each
        other, as often again for each size of a workspace, beyond what Dynamo keeps of one.
        """
        import torch
        from torch._dynamo import decorators

        key = (id(inner), provider, backend, _pattern(case))
        if key not in self._compiled:
            self._compiled[key] = torch.compile(
                _caller(inner, len(self._compiled)), backend=backend, fullgraph=True
            )
        compiled = self._compiled[key]
        tokens = token_dims(case)
        states = {spec.name for spec in DECLARATIONS[case.op].states}
        positional = [a.name for a in case.arguments if a.name not in states]

        def call(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(positional, args, strict=False)) | kwargs
            for name, dim in tokens:
                decorators.mark_unbacked(given[name], dim)
            return compiled(*args, **kwargs)

        return call

    def _opaque(self, op: Any, case: OpCase) -> Call:
        """A custom op of our own whose implementation calls ``op``: Dynamo never looks inside."""
        import torch
        from torch.library import Library, infer_schema

        inplace = case.overload == "maybe_inplace"
        key = ("opaque", op.name, case.overload)
        if key not in self._compiled:
            target = op.maybe_inplace if inplace else op
            name = f"{op.name}_{case.overload}"
            native = op.impls["native"].impl_fn
            mutated = list(op.activations) if inplace else []
            library = Library("irverify_opaque", "FRAGMENT")
            library.define(name + infer_schema(native, mutates_args=mutated))

            def run(*args: Any, **kwargs: Any) -> Any:
                return target(*args, **kwargs)

            library.impl(name, run, "CompositeExplicitAutograd")
            library._register_fake(name, op.torch_op)
            self._libraries.append(library)
            self._compiled[key] = getattr(torch.ops.irverify_opaque, name).default
        return self._compiled[key]


def _caller(inner: Call, number: int) -> Call:
    """A function that calls ``inner``, with a code object of its own.

    Dynamo keeps what it compiles on the code object: callers that shared one would count as
    recompilations of each other and run into the recompile limit.
    """

    def caller(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    code = caller.__code__.replace(co_name=f"caller_{number}")
    return FunctionType(code, caller.__globals__, code.co_name, None, caller.__closure__)


def _touches_low_precision(case: OpCase) -> bool:
    return any(s.dtype == "bfloat16" for s in case.storages) or "fp8" in case.op


def _pattern(case: OpCase) -> tuple[Any, ...]:
    """What one compiled caller serves: everything but the token count and the data."""
    arguments = tuple(
        (a.name, a.keyword, a.value.shape[1:], a.value.strides, case.dtype_of(a.name))
        if isinstance(a.value, View)
        else (a.name, a.keyword, repr(a.value))
        for a in case.arguments
    )
    return (case.op, case.overload, arguments)


def token_dims(case: OpCase) -> tuple[tuple[str, int], ...]:
    """(argument, dimension) pairs whose size is the token count: the first of each batch."""
    declaration = DECLARATIONS[case.op]
    roles = {dim.name: dim.role for dim in declaration.dims}
    views = case.views()
    found: list[tuple[str, int]] = []
    for spec in declaration.tensors:
        if spec.name not in views:
            continue
        lead = spec.shapes[0][:1]
        batched = lead == ("...",) and len(views[spec.name].shape) > 1
        if batched or (lead and roles.get(lead[0]) == "tokens"):
            found.append((spec.name, 0))
    return tuple(found)
