"""What an op is: its native, its providers, its torch custom op under `torch.ops.ir`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, overload

import torch
from torch.compiler import is_dynamo_compiling
from torch.library import infer_schema

from ir import compiled
from ir.dispatch import (
    CompileMode,
    PriorityScope,
    enable_torch_wrap,
    set_default_torch_wrap,
    torch_wrap_enabled,
)
from ir.errors import RegistrationError
from ir.overload import IrOpInplaceOverload, library
from ir.parameters import Parameters
from ir.provider import IrOpImpl
from ir.state.context import here
from ir.state.declared import Uses
from ir.tolerances import DEFAULT_TOLERANCES, ToleranceSpec

if TYPE_CHECKING:
    from ir.state.overload import ScopedOverload

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
    state: Sequence[str] | None = None,
) -> Callable[[Callable[..., Any]], IrOp]: ...
def register_op(
    f: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    activations: list[str] | None = None,
    allow_inplace: bool = False,
    token_args: list[str] | None = None,
    state: Sequence[str] | None = None,
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
        state: the names of the states that native uses; see `register_impl`.

    Raises RegistrationError: keyword-only parameters, a bad or taken name, an unknown parameter
    among `activations` or `token_args`, an output count that does not match.
    """

    def decorate(native: Callable[..., Any]) -> IrOp:
        op_name = native.__name__ if name is None else name
        _check_name("op", op_name)
        if op_name in IrOp.registry:
            raise RegistrationError(f"op {op_name!r} is already registered")
        op = IrOp(op_name, native, activations, allow_inplace, token_args, state)
        IrOp.registry[op_name] = op
        return op

    return decorate if f is None else decorate(f)


class IrOp:
    """An op with interchangeable providers. Made by `register_op`."""

    registry: ClassVar[dict[str, IrOp]] = {}

    maybe_inplace: IrOpInplaceOverload
    """The overload to which the activations are donated; only where the op allows it."""
    scoped: ScopedOverload | None
    """The overload that graphs hold where a provider may use state."""

    def __init__(
        self,
        name: str,
        native: Callable[..., Any],
        activations: list[str] | None,
        allow_inplace: bool,
        token_args: list[str] | None,
        state: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.__doc__ = inspect.getdoc(native)
        self.allow_inplace = allow_inplace
        self.parameters = Parameters(name, native)
        self.positional = self.parameters.positional
        if activations is None:
            activations = [p for p in self.parameters.names if p.startswith("x")]
        self.activations = activations
        self.activation_indices = self.parameters.indices("activations", activations)
        self.token_indices = self.parameters.indices(
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
        self._scope = PriorityScope(name, self.impls)
        self.stateful = False
        """Whether a provider of the op may use state."""
        self.scoped = None

        library.define(name + self.schema)
        # AOTAutograd decomposes CompositeImplicitAutograd only: this key keeps the op whole.
        library.impl(name, self._inner_call, "CompositeExplicitAutograd")
        library._register_fake(name, self._fake_call)
        self.torch_op = getattr(torch.ops.ir, name).default
        if allow_inplace:
            self.maybe_inplace = IrOpInplaceOverload(self, native)
        compilable = not Uses(name, native, state).stateful
        self._add(IrOpImpl(self, "native", native, compilable=compilable, state=state))

    def _add(self, impl: IrOpImpl) -> None:
        self.impls[impl.provider] = impl
        self.stateful = any(i.uses.stateful for i in self.impls.values())
        if self.stateful and self.scoped is None:
            from ir.state.overload import ScopedOverload

            self.scoped = ScopedOverload(self)

    def __repr__(self) -> str:
        return f"IrOp({self.name!r})"

    @property
    def generation(self) -> int:
        """Counts every register, replace and unregister; part of every cache key."""
        return self._scope.generation

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
        state: Sequence[str] | None = None,
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
            state: the names of the states it uses (`ir.ir_state`); any other is refused to it.
                Where it is None, those that its code names.
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
                state=state,
            )
            self._add(impl)
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
        self.stateful = any(i.uses.stateful for i in self.impls.values())
        self._scope.bump()

    def register_validation(self, fn: Callable[..., None]) -> Callable[..., None]:
        """Register what refuses illegal arguments with InputError, before any provider runs."""
        self.parameters.check(f"{self.name}: validation", fn)
        self._validate = fn
        return fn

    def register_fake(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Register the fake of the torch custom op; native serves without one."""
        self._fake = fn
        return fn

    def register_input_generator(self, fn: InputGenerator) -> InputGenerator:
        self._input_generator = fn
        return fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch_wrap_enabled():
            if self.stateful:
                if is_dynamo_compiling() and self.scoped is not None:
                    return self.scoped.traced(self.positional(args, kwargs))
                if here().lifted is not None:
                    # Called by a provider that is being lowered: its states are at hand only now.
                    return self._inner_call(*args, **kwargs)
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

    def apply_arg_defaults(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The positional arguments with the defaults of native filled in."""
        return self.positional(args, {})

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
