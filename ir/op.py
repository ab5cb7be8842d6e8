"""What an op is: its native, its providers, its torch custom op."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, overload

import torch
from torch.library import Library, infer_schema

from ir.dispatch import enable_torch_wrap, set_default_torch_wrap, torch_wrap_enabled
from ir.errors import PriorityError, RegistrationError
from ir.tolerances import DEFAULT_TOLERANCES, ToleranceSpec

__all__ = [
    "RESERVED_PROVIDERS",
    "IrOp",
    "IrOpImpl",
    "enable_torch_wrap",
    "register_op",
    "set_default_torch_wrap",
]

RESERVED_PROVIDERS = ["native", "unfused"]
_NAME = re.compile(r"[a-z_][a-z_0-9]*")
ir_torch_lib = Library("ir", "FRAGMENT")

CompileMode = bool | Literal["exact"]


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RegistrationError(f"{kind} name {name!r}; accepted: [a-z_][a-z_0-9]*")


@overload
def register_op(f: Callable[..., Any]) -> IrOp: ...
@overload
def register_op(
    *, name: str | None = None, activations: list[str] | None = None, allow_inplace: bool = False
) -> Callable[[Callable[..., Any]], IrOp]: ...
def register_op(
    f: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    activations: list[str] | None = None,
    allow_inplace: bool = False,
) -> IrOp | Callable[[Callable[..., Any]], IrOp]:
    """Register an op whose native is the decorated function."""

    def decorate(native: Callable[..., Any]) -> IrOp:
        op_name = native.__name__ if name is None else name
        _check_name("op", op_name)
        if op_name in IrOp.registry:
            raise RegistrationError(f"op {op_name!r} is already registered")
        op = IrOp(op_name, native, activations, allow_inplace)
        IrOp.registry[op_name] = op
        return op

    return decorate if f is None else decorate(f)


class IrOp:
    registry: ClassVar[dict[str, IrOp]] = {}

    def __init__(
        self,
        name: str,
        native: Callable[..., Any],
        activations: list[str] | None = None,
        allow_inplace: bool = False,
    ) -> None:
        self.name = name
        self.allow_inplace = allow_inplace
        self._py_signature = inspect.signature(native)
        parameters = list(self._py_signature.parameters)
        self.activations = (
            [p for p in parameters if p.startswith("x")] if activations is None else activations
        )
        self.activation_indices = [i for i, p in enumerate(parameters) if p in self.activations]
        self.generation = 0
        self._schema_str = infer_schema(native, mutates_args=[])
        self._validate: Callable[..., None] | None = None
        self._fake: Callable[..., Any] = native
        self._input_generator: Callable[..., tuple[Any, ...]] | None = None
        self._tolerances: ToleranceSpec = {}
        self._default: tuple[str, ...] = ()
        self._scoped: ContextVar[tuple[str, ...] | None] = ContextVar(
            f"ir.{name}.priority", default=None
        )
        self.impls: dict[str, IrOpImpl] = {}
        self.impls["native"] = IrOpImpl(self, "native", native, compilable=True)
        lib = ir_torch_lib
        lib.define(name + self._schema_str)
        lib.impl(name, self._inner_call, "CompositeExplicitAutograd")
        lib._register_fake(name, self._fake_call)
        self.torch_op = getattr(torch.ops.ir, name).default
        if allow_inplace:
            self.maybe_inplace = IrOpInplaceOverload(self, native)

    def register_impl(
        self,
        provider: str,
        *,
        supported: bool = True,
        supports_args: Callable[..., bool] | None = None,
        inplace: bool = False,
        contract: str | None = None,
        depends_on: Sequence[object] = (),
        compilable: bool = False,
        replace: bool = False,
    ) -> Callable[[Callable[..., Any]], IrOpImpl]:
        if provider in RESERVED_PROVIDERS:
            raise RegistrationError(f"provider name {provider!r} is reserved")
        _check_name("provider", provider)

        def decorate(f: Callable[..., Any]) -> IrOpImpl:
            if provider in self.impls and not replace:
                raise RegistrationError(f"{self.name}: provider {provider!r} already registered")
            impl = IrOpImpl(
                self,
                provider,
                f,
                supported=supported,
                supports_args=supports_args,
                inplace=inplace,
                contract=contract,
                depends_on=tuple(depends_on),
                compilable=compilable,
            )
            self.impls[provider] = impl
            self.generation += 1
            return impl

        return decorate

    def unregister_impl(self, provider: str) -> None:
        del self.impls[provider]
        self.generation += 1

    def register_validation(self, fn: Callable[..., None]) -> Callable[..., None]:
        self._validate = fn
        return fn

    def register_fake(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        self._fake = fn
        return fn

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if not kwargs:
            return args
        bound = self._py_signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.args

    def _fake_call(self, *args: Any, **kwargs: Any) -> Any:
        if self._validate is not None:
            self._validate(*args, **kwargs)
        return self._fake(*args, **kwargs)

    def _inner_call(self, *args: Any, **kwargs: Any) -> Any:
        args = self._positional(args, kwargs)
        if self._validate is not None:
            self._validate(*args)
        return self.dispatch(*args).func_impl_fn(*args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            return self.torch_op(*args, **kwargs)
        return self._inner_call(*args, **kwargs)

    def dispatch(self, *args: Any, **kwargs: Any) -> IrOpImpl:
        for name in self.get_priority():
            impl = self.impls[name]
            if impl.supported and impl.supports_args(*args, **kwargs):
                return impl
        return self.impls["native"]

    def get_priority(self) -> list[str]:
        scoped = self._scoped.get()
        return list(self._default if scoped is None else scoped)

    def _checked(self, priority: Sequence[str]) -> tuple[str, ...]:
        for p in priority:
            if p not in self.impls:
                raise PriorityError(f"{self.name}: no provider {p!r}; accepted: {list(self.impls)}")
        return tuple(priority)

    @contextmanager
    def set_priority(
        self, priority: Sequence[str], *, compile: CompileMode = False
    ) -> Iterator[None]:
        token = self._scoped.set(self._checked(priority))
        try:
            yield
        finally:
            self._scoped.reset(token)

    def set_default(self, priority: Sequence[str], *, compile: CompileMode = False) -> None:
        self._default = self._checked(priority)

    def supported_providers(self) -> list[str]:
        return [p for p, impl in self.impls.items() if impl.supported]

    @property
    def has_input_generator(self) -> bool:
        return self._input_generator is not None

    def register_input_generator(
        self, fn: Callable[..., tuple[Any, ...]]
    ) -> Callable[..., tuple[Any, ...]]:
        self._input_generator = fn
        return fn

    def generate_inputs(self, **kwargs: Any) -> tuple[Any, ...]:
        if self._input_generator is None:
            raise RegistrationError(f"{self.name}: no input generator")
        return self._input_generator(**kwargs)

    def override_tolerance(self, dtype: torch.dtype, *, atol: float, rtol: float) -> None:
        self._tolerances[dtype] = {"atol": atol, "rtol": rtol}

    def get_tolerance(self, dtype: torch.dtype) -> dict[str, float]:
        found = self._tolerances.get(dtype) or DEFAULT_TOLERANCES.get(dtype)
        if found is None:
            raise ValueError(f"{self.name}: no tolerance for {dtype}")
        return found

    def apply_arg_defaults(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        bound = self._py_signature.bind(*args)
        bound.apply_defaults()
        return bound.args


class IrOpInplaceOverload:
    def __init__(self, op: IrOp, native: Callable[..., Any]) -> None:
        self.op = op
        self.name = f"{op.name}.maybe_inplace"
        lib = ir_torch_lib
        lib.define(self.name + infer_schema(native, mutates_args=op.activations))
        lib.impl(self.name, self._inner_call, "CompositeExplicitAutograd")
        lib._register_fake(self.name, op._fake_call)
        self.torch_op = getattr(torch.ops.ir, op.name).maybe_inplace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            return self.torch_op(*args, **kwargs)
        return self._inner_call(*args, **kwargs)

    def _inner_call(self, *args: Any, **kwargs: Any) -> Any:
        args = self.op._positional(args, kwargs)
        if self.op._validate is not None:
            self.op._validate(*args)
        return self.op.dispatch(*args).impl_fn(*args)


class IrOpImpl:
    def __init__(
        self,
        op: IrOp,
        provider: str,
        impl_fn: Callable[..., Any],
        *,
        supported: bool = True,
        supports_args: Callable[..., bool] | None = None,
        inplace: bool = False,
        contract: str | None = None,
        depends_on: tuple[object, ...] = (),
        compilable: bool = False,
    ) -> None:
        schema = infer_schema(impl_fn, mutates_args=[])
        if schema != op._schema_str:
            raise RegistrationError(
                f"{op.name}: provider {provider!r} has schema {schema}; accepted: {op._schema_str}"
            )
        self.op = op
        self.provider = provider
        self.impl_fn = impl_fn
        self.supported = supported
        self._supports_args = supports_args
        self.inplace = inplace
        self.contract = contract
        self.depends_on = depends_on
        self.compilable = compilable

    @property
    def supports_all_args(self) -> bool:
        return self._supports_args is None

    def supports_args(self, *args: Any, **kwargs: Any) -> bool:
        return self._supports_args is None or self._supports_args(*args, **kwargs)

    def uuid(self) -> str:
        return ""

    def func_impl_fn(self, *args: Any, **kwargs: Any) -> Any:
        args = self.op._positional(args, kwargs)
        if not self.inplace:
            return self.impl_fn(*args)
        owned = list(args)
        for i in self.op.activation_indices:
            if owned[i] is not None:
                owned[i] = owned[i].clone()
        return self.impl_fn(*owned)
