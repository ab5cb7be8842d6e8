"""The dispatch mode of a host capture: runs each call once and writes it on a tape."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from ir import compiled
from ir.capture import tape as tapes
from ir.capture.errors import CaptureRefused
from ir.capture.kernels import replayable
from ir.capture.rules import check_op, check_tensor, is_scalar_constant
from ir.capture.watch import FunctionWatch, paused
from ir.donation import check_donated
from ir.op import IrOp

_OWN_NAMESPACES = frozenset({"aten", "prims", "quantized", "mkldnn", "mkl"})

POISON = 0x5A
"""What fresh memory holds while a function is recorded: a finite number in every float format."""


@dataclass(frozen=True, slots=True)
class _IrCall:
    """A call of an op of the IR, seen as a whole before its provider runs."""

    op: IrOp
    inplace: bool
    run: Callable[..., object]
    """The op's own code, which dispatches to a provider."""


def _ir_call(func: torch._ops.OpOverload) -> _IrCall | None:
    if func.namespace != "ir":
        return None
    op = IrOp.registry.get(func._schema.name.removeprefix("ir::"))
    if op is None:
        return None
    if func._overloadname == "maybe_inplace":
        return _IrCall(op, True, op.maybe_inplace._inner_call)
    if func._overloadname == "scoped" and op.scoped is not None:
        return _IrCall(op, False, op.scoped._run)
    return _IrCall(op, False, op._inner_call)


@functools.cache
def _is_composite(func: torch._ops.OpOverload) -> bool:
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return func.namespace == "aten" and func.has_kernel_for_dispatch_key(key)


class Recorder(TorchDispatchMode):
    """Records the calls made under it. Raises CaptureRefused where a replay would not repeat one.

    `tape.arena` keeps every tensor made, `made` numbers their storages. `used` maps the storages
    that were not made here to the first tensor seen on each and to the name of the call, `objects`
    has the ids of the very tensors. `saved` holds bytes from before the first write.
    """

    supports_higher_order_operators = True
    """So that one is refused with a reason."""

    def __init__(self, generators: Iterable[torch.Generator], *, opaque: bool = False) -> None:
        super().__init__()
        self.tape = tapes.Tape()
        self.used: dict[int, tuple[Tensor, str]] = {}
        self.saved: dict[int, tuple[Tensor, Tensor]] = {}
        self.objects: set[int] = set()
        self.made: dict[int, int] = {}
        self._generators = tuple(generators)
        self._opaque = opaque
        self._random = self._random_states()

    def _random_states(self) -> tuple[bytes, ...]:
        watched = [torch.default_generator]
        if torch.cuda.is_initialized():
            watched += torch.cuda.default_generators
        registered = [id(g) for g in self._generators]
        return tuple(g.get_state().numpy().tobytes() for g in watched if id(g) not in registered)

    def _check_random(self, func: torch._ops.OpOverload, kwargs: dict[str, object]) -> None:
        given = kwargs.get("generator")
        # A call sees another object of Python's for the same generator.
        known = [getattr(g, "_cdata", None) for g in self._generators]
        if isinstance(given, torch.Generator) and getattr(given, "_cdata", given) not in known:
            raise CaptureRefused(
                "unregistered-generator", f"{func} with a generator", "generators=(generator,)"
            )

    def __torch_dispatch__(
        self,
        func: object,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        # What is done here is no part of the captured function.
        with torch._C.DisableTorchFunction():
            return self._call(func, args, dict(kwargs or {}))

    def _call(self, func: object, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if not isinstance(func, torch._ops.OpOverload):
            raise CaptureRefused(
                "opaque-kernel", f"{func}", "straight-line code: no control-flow operators"
            )
        call = _ir_call(func)
        if call is not None:
            return self._ir(func, call, args, kwargs)
        if _is_composite(func):
            # Inference mode leaves these whole, with syncs and random numbers hidden in them.
            with torch._C._EnableTorchFunction(), self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        kernel: Callable[..., object] = func
        if func.namespace not in _OWN_NAMESPACES:
            found = replayable(func)
            if found is None and not self._opaque:
                raise CaptureRefused(
                    "opaque-kernel", str(func), "a kernel registered with register_replayable"
                )
            kernel = func if found is None else found
        return self._record(func, kernel, args, kwargs)

    def _ir(
        self,
        func: torch._ops.OpOverload,
        call: _IrCall,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """A provider built on dispatch is recorded call by call, any other as a whole."""
        if func._overloadname == "scoped":
            return self._inside(call, args, kwargs)
        op = call.op
        positional = op.positional(args, kwargs)
        priority = op._scope.current()
        impl = op.dispatch(*positional)
        whole = replayable(impl)
        if whole is None and priority.configuration is not None and impl.compilable:
            configuration = priority.configuration

            def compiled_call(*given: object) -> object:
                return compiled.call(impl, configuration, given, functional=not call.inplace)

            whole = compiled_call

        if whole is not None:
            if op._validate is not None:
                op._validate(*positional)
            if call.inplace:
                name = op.maybe_inplace.name
                check_donated(name, op.parameters.names, op.activation_indices, positional)
            return self._record(func, whole, positional, {})
        return self._inside(call, args, kwargs)

    def _inside(self, call: _IrCall, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        # Both modes are off while a call of theirs is handled.
        with torch._C._EnableTorchFunction(), self, FunctionWatch():
            return call.run(*args, **kwargs)

    def _record(
        self,
        func: torch._ops.OpOverload,
        kernel: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        if kernel is func:
            if is_scalar_constant(func, args):
                return self._constant(func, args)
            check_op(func, args)
        self._check_random(func, kwargs)
        given = list(tapes.tensors_in((args, kwargs)))
        for t in given:
            check_tensor(t, f"an argument of {func}")
        targets = tapes.written(func, args, kwargs)
        before = [(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) for t in targets]
        self._note(func, given, targets)
        signature = self._signature(func, args, kwargs)
        if self._random_states() != self._random:
            raise CaptureRefused("reseeded", f"before {func}", "seeding before the capture")
        if kernel is func:
            result = kernel(*args, **kwargs)
        else:
            # Declared repeatable as it is: what it does inside is its own.
            with paused():
                result = kernel(*args, **kwargs)
        if self._random_states() != self._random:
            raise CaptureRefused("unregistered-generator", str(func), "generators=(generator,)")
        after = [(t.untyped_storage().data_ptr(), t.untyped_storage().nbytes()) for t in targets]
        if before != after:
            raise CaptureRefused(
                "storage-change", f"{func} resizes what it writes", "memory of its final size"
            )
        self._write(func, kernel, args, kwargs, given, result, signature)
        return result

    def _constant(self, func: torch._ops.OpOverload, args: tuple[object, ...]) -> object:
        """A number of the code (`x[mask] = 0.0`) is a constant of the graph, as on CUDA."""
        result = func(*args)
        if not isinstance(result, Tensor):
            raise CaptureRefused("host-data", str(func), "torch.full")
        value = result.item()
        constant = torch.full((), value, dtype=result.dtype)
        self.made[tapes.storage_of(constant)] = len(self.tape.arena)
        self.tape.arena.append(constant)
        self.tape.signatures.append(f"{func}({value!r} {result.dtype})")
        repeat = functools.partial(constant.fill_, value)
        self.tape.entries.append(tapes.Entry(name=str(func), manner="in-place", repeat=repeat))
        return constant

    def _note(
        self, func: torch._ops.OpOverload, given: list[Tensor], targets: list[Tensor]
    ) -> None:
        for t in given:
            key = tapes.storage_of(t)
            if key not in self.made:
                self.objects.add(id(t))
                self.used.setdefault(key, (t, str(func)))
        for t in targets:
            key = tapes.storage_of(t)
            if key not in self.made and key not in self.saved:
                self.saved[key] = (t, tapes.storage_bytes(t).clone())

    def note_results(self, results: object) -> None:
        """What is returned is read at every replay, even where no call uses it."""
        for t in tapes.tensors_in(results):
            key = tapes.storage_of(t)
            if key not in self.made:
                self.objects.add(id(t))
                self.used.setdefault(key, (t, "the results"))

    def _write(
        self,
        func: torch._ops.OpOverload,
        kernel: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        given: list[Tensor],
        result: object,
        signature: str,
    ) -> None:
        results = list(tapes.tensors_in(result))
        for t in results:
            check_tensor(t, f"a result of {func}")
        known = {tapes.storage_of(t) for t in given}
        made = [tapes.storage_of(t) not in known for t in results]
        for t, is_new in zip(results, made, strict=True):
            if is_new:
                self.made[tapes.storage_of(t)] = len(self.tape.arena)
                self.tape.arena.append(t)
        self.tape.signatures.append(signature)
        if kernel is func and tapes.gives_fresh_memory(func):
            for t in results:
                tapes.storage_bytes(t).fill_(POISON)
            return
        if not any(made) and not tapes.writes(func):
            return  # a view
        op = func if kernel is func else None
        manner, repeat = tapes.bind(kernel, op, args, kwargs, results, made)
        self.tape.entries.append(tapes.Entry(name=str(func), manner=manner, repeat=repeat))

    def _signature(
        self, func: torch._ops.OpOverload, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> str:
        """The call with every tensor named so that two recordings can be compared."""

        def name(t: Tensor) -> str:
            key = tapes.storage_of(t)
            made = self.made.get(key)
            where = f"made {made}" if made is not None else f"storage {key:#x}"
            return f"<{where} {t.dtype} {tuple(t.shape)} {t.stride()} +{t.storage_offset()}>"

        shown = tree_map_only(Tensor, name, (args, kwargs))
        leaves, spec = tree_flatten(shown)
        return f"{func}({', '.join(map(repr, leaves))}; {spec})"
