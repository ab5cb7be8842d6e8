"""The functional IR as a subject: every provider on every route, user registrations included."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from oracle.errors import UsageError
from oracle.observation import Declined, Observation, Raised, Returned, Unavailable
from oracle.subject import Probes, Provider
from reference.legal import DECLARATIONS
from reference.model import ConnectorCase, OpCase, ProgramCase, StateCase, TransferCase
from reference.model.capture import CaptureCase

from . import SubjectOptions
from .capture import subject as captures
from .connector import ir_providers as connector_providers
from .connector import observe_ir as observe_connector
from .fresh_memory import FILLS, can_fill, fill_fresh_memory
from .ir_routes import COMPILED_ROUTES, ROUTES, Routes
from .ir_states import left, states_of
from .programs.subject import Programs
from .state import ir_providers as state_providers
from .state import observe_ir as observe_state
from .torch_memory import (
    Memory,
    build,
    flatten,
    observe_fake,
    observe_outputs,
    shared_positions,
)
from .transfers import ir_providers as transfer_providers
from .transfers import observe_ir as observe_transfer
from .user_code import import_user_code, is_user_code


class IrSubject:
    """Observes ``ir``'s ops. One per worker process; holds what its routes compile."""

    name = "ir"

    def __init__(self, options: SubjectOptions) -> None:
        import torch

        from ir import kernels
        from ir.compilation.registry import PASSES

        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device {options.device!r}: torch sees no CUDA device; accepted: cpu")
        # One worker is one core: more threads would only fight over it.
        torch.set_num_threads(1)
        # Inductor warns of inputs of two narrow dtypes, which are driven on purpose.
        warnings.filterwarnings("ignore", module=r"torch\._inductor")
        # NumPy warns of infinities inside Triton's interpreter; on a GPU they are ordinary values.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"triton\.runtime")
        self._device = options.device
        self._kernels = kernels.load()
        self._sources: dict[tuple[str, str], str] = {}
        self._passes: dict[str, str] = {}
        for item in options.imports:
            before, passes = _registered(), set(PASSES)
            path = import_user_code(item)
            for key, what in _registered().items():
                if before.get(key) != what:
                    self._sources[key] = path
            self._passes |= {name: path for name in PASSES if name not in passes}
        self._routes = Routes(options.device)
        self._programs = Programs()
        _warm_up()

    def version(self) -> str:
        import torch

        return f"torch {torch.__version__}"

    def providers(self) -> tuple[Provider, ...]:
        from ir.op import IrOp

        found: list[Provider] = []
        for name in DECLARATIONS:
            op = IrOp.registry[name]
            for provider, impl in op.impls.items():
                found.append(
                    Provider(
                        op=name,
                        name=provider,
                        routes=self._routes_of(name, provider, impl),
                        contract=impl.contract,
                        unavailable=self._unavailable(provider, impl),
                        interpreted=self._interpreted(provider),
                        source=self._sources.get((name, provider)),
                    )
                )
            found.extend(
                Provider(op=name, name=kernel, routes=(), unavailable=availability.reason)
                for kernel, availability in self._kernels.items()
                if kernel not in op.impls and not availability.available
            )
        return (
            *found,
            *self._programs.providers(self._passes),
            *transfer_providers(),
            *captures.providers(),
            *state_providers(),
            *connector_providers(),
        )

    def _routes_of(self, op: str, provider: str, impl: Any) -> tuple[str, ...]:
        if DECLARATIONS[op].states and self._interpreted(provider):
            # Milliseconds a program: once straight, and once as an input that a graph writes.
            return ("eager", "caller")
        return tuple(r for r in ROUTES if impl.compilable or r not in COMPILED_ROUTES)

    def _interpreted(self, provider: str) -> bool:
        return provider == "triton" and self._device == "cpu"

    def _unavailable(self, provider: str, impl: Any) -> str:
        if impl.supported:
            return ""
        availability = self._kernels.get(provider)
        return availability.reason if availability else "not supported on this machine"

    def observe(self, case: Any, provider: str, route: str, probes: Probes) -> Any:
        """Drive one case. Whatever it raises is reported, never raised."""
        if isinstance(case, ConnectorCase):
            return observe_connector(case, route)
        if isinstance(case, CaptureCase):
            return captures.observe(case, route)
        if isinstance(case, TransferCase):
            return observe_transfer(case, route)
        if isinstance(case, StateCase):
            return observe_state(case, route)
        if isinstance(case, ProgramCase):
            return self._programs.observe(case, provider, route)
        return self._observe_call(case, provider, route, probes)

    def _observe_call(self, case: OpCase, provider: str, route: str, probes: Probes) -> Observation:
        from ir.op import IrOp

        op = IrOp.registry[case.op]
        if case.overload == "maybe_inplace" and route in ("opaque", "caller"):
            # A traced maybe_inplace is meant to be functionalized first.
            return Declined("needs-functionalization")
        if unavailable := self._routes.unavailable(op, provider, route, case):
            return Unavailable(unavailable)
        if probes.refill and can_fill(self._device):
            fill_fresh_memory(self._device, FILLS[0])
        memory = build(case, self._device)
        with (
            states_of(case.op, memory, self._device),
            op.set_priority([provider, "native"] if provider != "native" else ["native"]),
        ):
            if self._declines(op, provider, memory):
                return Declined("provider-declines")
        call = self._routes.driver(op, provider, route, case)
        observed, held = _run(call, memory, case, self._device)
        if not isinstance(observed, Returned):
            return observed
        if probes.refill and can_fill(self._device):
            fill_fresh_memory(self._device, FILLS[1])
            second, later = _run(call, build(case, self._device), case, self._device)
            fill_fresh_memory(self._device, FILLS[0])
            observed = replace(
                observed,
                again=second.outputs if isinstance(second, Returned) else (),
                reused=shared_positions(held, later),
            )
        if probes.fake:
            again = build(case, self._device)
            with states_of(case.op, again, self._device):
                observed = replace(observed, fake=_fake_run(op, case, again))
        return observed

    def _declines(self, op: Any, provider: str, memory: Memory) -> bool:
        """Whether the provider's own ``supports_args`` turns this call away."""
        try:
            return op.dispatch(*memory.args, **memory.kwargs).provider != provider
        except Exception:  # an illegal call may fail anywhere here; the call itself will show how
            return False


def _registered() -> dict[tuple[str, str], tuple[Any, ...]]:
    """What each (op, provider) runs: a file that replaces any of it is its provider's source."""
    from ir.op import IrOp

    return {
        (op.name, provider): (impl, op._fake, op._validate)
        for op in IrOp.registry.values()
        for provider, impl in op.impls.items()
    }


def _warm_up() -> None:
    """The first fake run of a process imports for seconds, which is no call's time."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    with mode:
        mode.from_tensor(torch.ones(2)).add(1)


def _run(
    call: Callable[..., Any], memory: Memory, case: OpCase, device: str
) -> tuple[Returned | Raised, tuple[Any, ...]]:
    """The observation, and the outputs themselves for whoever must hold them.

    What the op leaves in its states follows what it returns.
    """
    try:
        with states_of(case.op, memory, device):
            result = flatten(call(*memory.args, **memory.kwargs))
            outputs = (*result, *left(case.op, memory))
        observed = Returned(
            outputs=observe_outputs(outputs, memory), inputs_after=memory.after(case)
        )
        return observed, result
    except Exception as error:  # what a subject raises is an observation, whatever it is
        return raised(error), ()


def raised(error: BaseException) -> Raised:
    """An exception as data."""
    bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
    return Raised(type(error).__name__, bases, str(error) + _raised_at(error))


def _raised_at(error: BaseException) -> str:
    """The last frame of a user's own file, as `` (file.py:13 in helper)``; empty without one."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_user_code(frame.filename):
            return f" ({Path(frame.filename).name}:{frame.lineno} in {frame.name})"
    return ""


def _fake_run(op: Any, case: OpCase, memory: Memory) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()

    def faked(value: Any) -> Any:
        return mode.from_tensor(value) if hasattr(value, "untyped_storage") else value

    overload = op.maybe_inplace if case.overload == "maybe_inplace" else op
    try:
        args = [faked(a) for a in memory.args]
        kwargs = {k: faked(v) for k, v in memory.kwargs.items()}
        with mode:
            result = flatten(overload.torch_op(*args, **kwargs))
        return observe_fake((*result, *left(case.op, memory)))
    except Exception as error:  # as in _run: an observation
        return raised(error)
