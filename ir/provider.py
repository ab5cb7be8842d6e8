"""One implementation of an op: a provider's function and what its author says about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.library import infer_schema

from ir.errors import RegistrationError
from ir.identity import check_declared, identity
from ir.state.context import at, here, place
from ir.state.declared import Uses

if TYPE_CHECKING:
    from ir.op import IrOp


class IrOpImpl:
    """A provider of one op.

    `impl_fn` is the author's function; one registered with `inplace=True` may write its
    activations. `func_impl_fn` never writes its inputs. `contract` names the contract that the
    provider means where that is another than the op's own. `compilable` says whether
    `set_priority(compile=...)` may route it through torch.compile. `uses` tells which states it
    keeps between calls.
    """

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
        state: Sequence[str] | None = None,
    ) -> None:
        subject = f"{op.name}: provider {provider!r}"
        schema = infer_schema(impl_fn, mutates_args=[])
        if schema != op.schema:
            raise RegistrationError(f"{subject} has schema {schema}; accepted: {op.schema}")
        if supports_args is not None:
            op.parameters.check(f"{subject}: supports_args", supports_args)
        if inplace and not op.allow_inplace:
            raise RegistrationError(
                f"{subject} is inplace; accepted: inplace=False, since the op does not allow it"
            )
        check_declared(subject, impl_fn, depends_on)
        self.uses = Uses(subject, impl_fn, state)
        if compilable and self.uses.stateful:
            raise RegistrationError(
                f"{subject} uses state and is compilable; accepted: compilable=False, since code "
                "compiled by itself has no scope"
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
        self._uuid: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return f"IrOpImpl({self.op.name!r}, {self.provider!r})"

    @property
    def supports_all_args(self) -> bool:
        return self._supports_args is None

    def supports_args(self, *args: Any, **kwargs: Any) -> bool:
        return self._supports_args is None or self._supports_args(*args, **kwargs)

    def uuid(self) -> str:
        """A sha256 that changes with anything this provider's result depends on.

        Computed once per generation of the op. Raises RegistrationError where something that it
        depends on can neither be hashed nor was declared.
        """
        generation = self.op.generation
        if self._uuid is None or self._uuid[0] != generation:
            fixed = (self.op.name, self.provider, self.op.schema, self.inplace, self.contract)
            digest = identity(self.impl_fn, fixed=fixed, depends_on=self.depends_on)
            self._uuid = (generation, digest)
        return self._uuid[1]

    def func_impl_fn(self, *args: Any, **kwargs: Any) -> Any:
        """The provider without side effects: activations it may write are copied first."""
        if kwargs:
            args = self.op.positional(args, kwargs)
        if self.inplace:
            args = self.copied(args)
        if self.op.stateful and not is_dynamo_compiling():
            return self._in_place(args)
        return self.impl_fn(*args)

    def donated_call(self, args: tuple[Any, ...]) -> Any:
        """The provider itself, which may write its activations."""
        if self.op.stateful and not is_dynamo_compiling():
            return self._in_place(args)
        return self.impl_fn(*args)

    def _in_place(self, args: tuple[Any, ...]) -> Any:
        """Run where the states that it asks for are known to be asked for by this provider."""
        where = here()
        with at(place(where.text, self.uses, where.lifted)):
            return self.impl_fn(*args)

    def copied(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the activations copied, so that an in-place provider owns them.

        Activations of one shape get one layout, the first one's: an in-place provider returns
        what it was given, and outputs follow the first activation.
        """
        owned = list(args)
        first = None
        for i in self.op.activation_indices:
            # A call may leave out trailing optional activations.
            if i >= len(owned) or owned[i] is None:
                continue
            if first is None:
                owned[i] = first = owned[i].clone()
            elif owned[i].shape == first.shape and owned[i].stride() != first.stride():
                owned[i] = torch.empty_like(first, dtype=owned[i].dtype).copy_(owned[i])
            else:
                owned[i] = owned[i].clone()
        return tuple(owned)
