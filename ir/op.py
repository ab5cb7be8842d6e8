"""What an op is: its native, its providers, its torch custom op under `torch.ops.ir`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, overload

import torch
from torch.compiler import is_dynamo_compiling
from torch.library import Library, infer_schema

from ir import compiled
from ir.dispatch import (
    CompileMode,
    PriorityScope,
    enable_torch_wrap,
    set_default_torch_wrap,
    torch_wrap_enabled,
)
from ir.donation import check_donated
from ir.errors import RegistrationError
from ir.provider import IrOpImpl, check_parameters
from ir.tolerances import DEFAULT_TOLERANCES, ToleranceSpec

__all__ = [
    "RESERVED_PROVIDERS",
    "IrOp",
    "IrOpImpl",
    "IrOpInplaceOverload",
    "enable_torch_wrap",
    "register_op",
    "set_default_torch_wrap",
]

RESERVED_PROVIDERS = ["native", "unfused"]
InputGenerator = Callable[..., tuple[Any, ...]]

_NAME = re.compile(r"[a-z_][a-z_0-9]*")
_library = Library("ir", "FRAGMENT")


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise RegistrationError(
            f"{kind} name is {name!r}; accepted: lower-case letters, digits and underscores, "
            "not starting with a digit"
        )


@overload
def register_op(f: Callable[..., Any]) -> IrOp: ...
@overload
def register_op(
    *,
    name: str | None = None,
    activations: list[str] | None = None,
    allow_inplace: bool = False,
    token_args: list[str] | None = None,
) -> Callable[[Callable[..., Any]], IrOp]: ...
def register_op(
    f: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    activations: list[str] | None = None,
    allow_inplace: bool = False,
    token_args: list[str] | None = None,
) -> IrOp | Callable[[Callable[..., Any]], IrOp]:
    """Register an op; the decorated function is its native.

    Args:
        name: the op's name under `torch.ops.ir`; the function's own by default.
        activations: parameters that an in-place provider may write; by default those whose
            names start with "x".
        allow_inplace: add the overload `maybe_inplace`, to which activations are donated. The
            op must return as many tensors as it has activations.
        token_args: parameters whose dimension 0 is the number of tokens, so that one
            compilation serves every number; by default the activations, and index tensors of
            one number a token.

    Raises RegistrationError: keyword-only parameters, a bad or taken name, an unknown parameter
    among `activations` or `token_args`, an output count that does not match.
    """

    def decorate(native: Callable[..., Any]) -> IrOp:
        op_name = native.__name__ if name is None else name
        _check_name("op", op_name)
        if op_name in IrOp.registry:
            raise RegistrationError(f"op {op_name!r} is already registered")
        op = IrOp(op_name, native, activations, allow_inplace, token_args)
        IrOp.registry[op_name] = op
        return op

    return decorate if f is None else decorate(f)


class IrOp:
    """An op with interchangeable providers. Made by `register_op`."""

    registry: ClassVar[dict[str, IrOp]] = {}

    maybe_inplace: IrOpInplaceOverload
    """The overload to which the activations are donated; only where the op allows it."""

    def __init__(
        self,
        name: str,
        native: Callable[..., Any],
        activations: list[str] | None,
        allow_inplace: bool,
        token_args: list[str] | None,
    ) -> None:
        self.name = name
        self.__doc__ = inspect.getdoc(native)
        self.allow_inplace = allow_inplace
        self.signature = inspect.signature(native)
        parameters = self.signature.parameters
        if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values()):
            raise RegistrationError(
                f"{name}: native takes {self.signature}; accepted: no keyword-only parameters"
            )
        self._names = tuple(parameters)
        self._defaults = tuple(p.default for p in parameters.values())
        if activations is None:
            activations = [p for p in self._names if p.startswith("x")]
        self.activations = activations
        self.activation_indices = self._indices("activations", activations)
        self.token_indices = self._indices(
            "token_args", activations if token_args is None else token_args
        )
        self.tokens_inferred = token_args is None
        self.schema = infer_schema(native, mutates_args=[])
        returns = self.schema.split(" -> ")[1]
        if allow_inplace and returns.strip("()").split(", ") != ["Tensor"] * len(activations):
            raise RegistrationError(
                f"{name}: returns {returns}; accepted with allow_inplace: one Tensor for each "
                f"of the activations {activations}"
            )
        self._validate: Callable[..., None] | None = None
        self._fake: Callable[..., Any] = native
        self._input_generator: InputGenerator | None = None
        self._tolerances: ToleranceSpec = {}

        self.impls: dict[str, IrOpImpl] = {}
        self.impls["native"] = IrOpImpl(self, "native", native, compilable=True)
        self._scope = PriorityScope(name, self.impls)

        _library.define(name + self.schema)
        # AOTAutograd decomposes CompositeImplicitAutograd only: this key keeps the op whole.
        _library.impl(name, self._inner_call, "CompositeExplicitAutograd")
        _library._register_fake(name, self._fake_call)
        self.torch_op = getattr(torch.ops.ir, name).default
        if allow_inplace:
            self.maybe_inplace = IrOpInplaceOverload(self, native)

    def _indices(self, what: str, chosen: list[str]) -> tuple[int, ...]:
        unknown = [p for p in chosen if p not in self._names]
        if unknown:
            raise RegistrationError(
                f"{self.name}: {what} is {chosen}; accepted: names among {list(self._names)}"
            )
        return tuple(i for i, p in enumerate(self._names) if p in chosen)

    def __repr__(self) -> str:
        return f"IrOp({self.name!r})"

    @property
    def generation(self) -> int:
        """Counts every register, replace and unregister; part of every cache key."""
        # During __init__ the native is made before there is a scope.
        return self._scope.generation if hasattr(self, "_scope") else 0

    # Registration

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
        """Register the decorated function, of native's own schema, as a provider.

        Args:
            supported: whether it works on this machine at all; not a switch to choose it.
            supports_args: whether it takes the arguments of a call; the op's own parameters.
            inplace: it may write its activations and return their storage.
            contract: the named contract it means, where that is not the op's own.
            depends_on: what its result depends on besides its code: objects, modules, paths of
                files, names of installed distributions (their version counts).
            compilable: `set_priority(compile=...)` may route it through torch.compile.
            replace: take the place of a provider of this name.

        Raises RegistrationError.
        """
        if provider in RESERVED_PROVIDERS:
            raise RegistrationError(
                f"{self.name}: provider name {provider!r} is reserved; accepted: any name but "
                f"{RESERVED_PROVIDERS}"
            )
        _check_name("provider", provider)
        if isinstance(depends_on, str):
            raise RegistrationError(
                f"{self.name}: depends_on is {depends_on!r}; accepted: a list, [{depends_on!r}]"
            )

        def decorate(f: Callable[..., Any]) -> IrOpImpl:
            if provider in self.impls and not replace:
                raise RegistrationError(
                    f"{self.name}: provider {provider!r} is already registered; accepted: another "
                    "name, or replace=True"
                )
            self.impls[provider] = impl = IrOpImpl(
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
            self._scope.bump()
            return impl

        return decorate

    def unregister_impl(self, provider: str) -> None:
        """Forget a provider. A priority that still names it refuses the next call."""
        removable = [p for p in self.impls if p not in RESERVED_PROVIDERS]
        if provider not in removable:
            raise RegistrationError(
                f"{self.name}: cannot unregister {provider!r}; accepted: one of {removable}"
            )
        del self.impls[provider]
        self._scope.bump()

    def register_validation(self, fn: Callable[..., None]) -> Callable[..., None]:
        """Register what refuses illegal arguments with InputError, before any provider runs."""
        check_parameters(f"{self.name}: validation", fn, self.signature)
        self._validate = fn
        return fn

    def register_fake(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Register the fake of the torch custom op; native serves without one."""
        self._fake = fn
        return fn

    def register_input_generator(self, fn: InputGenerator) -> InputGenerator:
        self._input_generator = fn
        return fn

    # Calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            return self.torch_op(*args, **kwargs)
        return self._inner_call(*args, **kwargs)

    def _inner_call(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = self.positional(args, kwargs)
        if self._validate is not None:
            self._validate(*args)
        if is_dynamo_compiling():
            return self._traced_dispatch(args, {}).func_impl_fn(*args)
        priority = self._scope.current()
        impl = priority.select(args, {})
        if priority.configuration is not None and impl.compilable:
            return compiled.call(impl, priority.configuration, args, functional=True)
        return impl.func_impl_fn(*args)

    def _fake_call(self, *args: Any, **kwargs: Any) -> Any:
        if self._validate is not None:
            self._validate(*args, **kwargs)
        return self._fake(*args, **kwargs)

    def dispatch(self, *args: Any, **kwargs: Any) -> IrOpImpl:
        """The provider that a call with these arguments uses here."""
        if is_dynamo_compiling():
            return self._traced_dispatch(args, kwargs)
        return self._scope.current().select(args, kwargs)

    def _traced_dispatch(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> IrOpImpl:
        for provider in self._scope.guarded.read():
            impl = self.impls[provider]
            if impl.supports_args(*args, **kwargs):
                return impl
        return self.impls["native"]

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments of a call in the order of the parameters, defaults filled in.

        Raises TypeError as a Python call would. `inspect.Signature.bind` does the same some
        twenty times slower, and Dynamo cannot trace it.
        """
        if len(args) > len(self._names):
            raise TypeError(f"{self.name} takes {len(self._names)} arguments, got {len(args)}")
        bound = list(args)
        used = 0
        for i in range(len(args), len(self._names)):
            name = self._names[i]
            if name in kwargs:
                bound.append(kwargs[name])
                used += 1
            elif self._defaults[i] is inspect.Parameter.empty:
                raise TypeError(f"{self.name} misses the argument {name!r}")
            else:
                bound.append(self._defaults[i])
        if used != len(kwargs):
            wrong = [k for k in kwargs if k not in self._names[len(args) :]]
            raise TypeError(f"{self.name} got unexpected or repeated arguments {wrong}")
        return tuple(bound)

    def apply_arg_defaults(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The positional arguments with the defaults of native filled in."""
        return self.positional(args, {})

    # Priority

    def set_priority(
        self, priority: Sequence[str], *, compile: CompileMode = False
    ) -> AbstractContextManager[None]:
        """Use the first of these providers that takes the arguments, in this context alone.

        With `compile=True` a provider marked compilable runs through torch.compile, with
        `compile="exact"` so that it keeps the provider's own roundings; under an outer trace it
        runs as it is. Dynamo cannot trace this: enter it outside the compiled function.
        Raises PriorityError.
        """
        return self._scope.override(self._scope.requested(priority, compile))

    def set_default(self, priority: Sequence[str], *, compile: CompileMode = False) -> None:
        """Set the priority of the whole process, in force where `set_priority` is not."""
        self._scope.set_default(self._scope.requested(priority, compile))

    def get_priority(self) -> list[str]:
        """The providers a call here tries in order; empty where nothing was set."""
        priority = self._scope.current()
        return [impl.provider for impl in priority.impls] if priority.requested else []

    def supported_providers(self) -> list[str]:
        return [p for p, impl in self.impls.items() if impl.supported]

    # Inputs and tolerances

    @property
    def has_input_generator(self) -> bool:
        return self._input_generator is not None

    def generate_inputs(self, **kwargs: Any) -> tuple[Any, ...]:
        if self._input_generator is None:
            raise RegistrationError(
                f"{self.name} has no input generator; register one with register_input_generator"
            )
        return self._input_generator(**kwargs)

    def override_tolerance(self, dtype: torch.dtype, *, atol: float, rtol: float) -> None:
        self._tolerances[dtype] = {"atol": atol, "rtol": rtol}

    def get_tolerance(self, dtype: torch.dtype) -> dict[str, float]:
        found = self._tolerances.get(dtype) or DEFAULT_TOLERANCES.get(dtype)
        if found is None:
            known = [str(d) for d in (*DEFAULT_TOLERANCES, *self._tolerances)]
            raise ValueError(f"{self.name}: no tolerance for {dtype}; accepted: {known}")
        return found


class IrOpInplaceOverload:
    """The overload `maybe_inplace`: the activations are donated, their content is lost."""

    def __init__(self, op: IrOp, native: Callable[..., Any]) -> None:
        self.op = op
        self.name = f"{op.name}.maybe_inplace"
        _library.define(self.name + infer_schema(native, mutates_args=op.activations))
        _library.impl(self.name, self._inner_call, "CompositeExplicitAutograd")
        _library._register_fake(self.name, self._fake_call)
        self.torch_op = getattr(torch.ops.ir, op.name).maybe_inplace

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            return self.torch_op(*args, **kwargs)
        return self._inner_call(*args, **kwargs)

    def _inner_call(self, *args: Any, **kwargs: Any) -> Any:
        op = self.op
        if kwargs:
            args = op.positional(args, kwargs)
        if op._validate is not None:
            op._validate(*args)
        if is_dynamo_compiling():
            return op._traced_dispatch(args, {}).impl_fn(*args)
        check_donated(self.name, op._names, op.activation_indices, args)
        priority = op._scope.current()
        impl = priority.select(args, {})
        if priority.configuration is not None and impl.compilable:
            return compiled.call(impl, priority.configuration, args, functional=False)
        return impl.impl_fn(*args)

    def _fake_call(self, *args: Any, **kwargs: Any) -> Any:
        op = self.op
        args = op.positional(args, kwargs)
        if op._validate is not None:
            op._validate(*args)
        check_donated(self.name, op._names, op.activation_indices, args)
        return op._fake(*args)
