"""A case's memory and function in torch: a module that reaches its tensors as the case says.

The module shows its owners to whoever walks it, and nothing else: steps and hidden tensors are
kept where no walk leads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from oracle.subjects.programs.calls import arguments, target_of
from oracle.subjects.programs.memory import tensors_of
from oracle.subjects.torch_memory import from_numpy, to_numpy
from reference.model import Storage, Value
from reference.model.capture import CaptureCase

if TYPE_CHECKING:
    import torch

    from .compiled import Compiled

KV = "ir.reshape_and_cache.default"


class _Hidden:
    """A handle without attributes, so that what it stands for is not found."""

    __slots__ = ("__weakref__",)

    def run(self, module: Any, static: Sequence[Any]) -> tuple[Any, ...]:
        return _BEHIND[self].run(module, static)


_BEHIND: WeakKeyDictionary[_Hidden, Owned] = WeakKeyDictionary()


@functools.cache
def _module_class() -> type:
    import torch

    class Body(torch.nn.Module):
        def __init__(self, hidden: _Hidden) -> None:
            super().__init__()
            self.hidden = hidden
            self.items: dict[str, torch.Tensor] = {}

        def forward(self, *static: torch.Tensor) -> tuple[Any, ...]:
            return self.hidden.run(self, static)

    return Body


class Owned:
    """One instance of a case: storages, static inputs, owners, and the function over them.

    ``side`` keeps its states apart from those of another instance. ``straight`` runs instead of
    the steps where there is one.
    """

    def __init__(self, case: CaptureCase, side: str, device: str) -> None:
        import torch

        self.case, self.side, self.device = case, side, device
        body = case.body
        self.storages: list[torch.Tensor | None] = [
            from_numpy(content, storage.dtype, device)
            for content, storage in zip(body.arrays(), body.storages, strict=True)
        ]
        self.generator = torch.Generator(device)
        self.generator.manual_seed(0)
        self.registry: dict[str, torch.Tensor] = {}
        self.hidden: dict[int, torch.Tensor] = {}
        self.straight: Compiled | None = None
        self.trap: Callable[[Any], Any] | None = None
        self._handle = _Hidden()
        _BEHIND[self._handle] = self
        self.module = _module_class()(self._handle)
        views = {number: self.view_of(number) for number in dict.fromkeys(body.inputs)}
        self.tensors: list[Any] = [views[number] for number in body.inputs]
        self._types: list[str] = []
        for i in range(case.static, len(body.inputs)):
            if case.owner(i) == "parameter":
                self.tensors[i] = torch.nn.Parameter(self.tensors[i], requires_grad=False)
            self.place(i, self.tensors[i])

    def view_of(self, number: int) -> torch.Tensor:
        """Tensor number ``number`` of the body, as a new object."""
        view = self.case.body.tensors[number]
        storage = self.storages[view.storage]
        if storage is None:
            raise ValueError(f"storage {view.storage} is gone; accepted: one that is held")
        return storage.as_strided(view.shape, view.strides, view.offset)

    @property
    def static(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.tensors[: self.case.static])

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        return (self.generator,) if self.case.noise else ()

    def state_name(self, position: int) -> str:
        """The registered type of an owner of kind ``state``."""
        return f"capture_{self.side}_o{position}"

    def scope(self, position: int) -> str:
        return f"{self.side}{position}"

    def place(self, position: int, tensor: torch.Tensor) -> None:
        """Let the owner at ``position`` hold ``tensor``. A sealed state raises SealedError."""
        from ir.ops.kv_cache import KV_CACHE
        from ir.state import ir_state

        name = f"o{position}"
        match self.case.owner(position):
            case "buffer":
                self.module._buffers[name] = tensor
            case "parameter":
                self.module._parameters[name] = _parameter(tensor)
            case "attribute":
                setattr(self.module, name, tensor)
            case "item":
                self.module.items[name] = tensor
            case "given":
                self.registry[name] = tensor
            case "unnamed":
                self.hidden[position] = tensor
            case "state":
                kind = self.state_name(position)
                if kind not in self._types:
                    ir_state.register_type(kind, _one_zero, per="layer")
                    self._types.append(kind)
                ir_state.replace(kind, tensor, self.scope(position))
            case "kv_cache":
                ir_state.replace(KV_CACHE, tensor, self.scope(position))

    def drop(self, position: int) -> None:
        """Take the tensor from its owner; of an unnamed one nothing is held any more."""
        from ir.state import ir_state

        name = f"o{position}"
        match self.case.owner(position):
            case "buffer":
                del self.module._buffers[name]
            case "parameter":
                del self.module._parameters[name]
            case "attribute":
                delattr(self.module, name)
            case "item":
                del self.module.items[name]
            case "given":
                del self.registry[name]
            case "state":
                ir_state.discard(self.state_name(position))
            case "unnamed":
                self.hidden.pop(position, None)
                self.tensors[position] = None
                self.storages[self.case.body.input_view(position).storage] = None

    def owner_names(self) -> dict[str, int]:
        """Positions by the names that a ledger has for owners."""
        found = {f"input {i}": i for i in range(self.case.static)}
        for i in range(self.case.static, len(self.case.body.inputs)):
            match self.case.owner(i):
                case "buffer" | "parameter" | "attribute":
                    found[f"body.o{i}"] = i
                case "item":
                    found[f"body.items['o{i}']"] = i
                case "given":
                    found[f"registry['o{i}']"] = i
                case "state":
                    found[f"state {self.state_name(i)} of {self.scope(i)}"] = i
                case "kv_cache":
                    found[f"state kv_cache of {self.scope(i)}"] = i
        return found

    def fetch(self, module: Any, position: int) -> Any:
        """What the owner at ``position`` holds, found as a function finds it."""
        from ir.ops.kv_cache import KV_CACHE
        from ir.state import ir_state

        name = f"o{position}"
        match self.case.owner(position):
            case "buffer" | "parameter" | "attribute":
                return getattr(module, name)
            case "item":
                return module.items[name]
            case "given":
                return self.registry[name]
            case "state":
                return ir_state.get(self.state_name(position), self.scope(position))
            case "kv_cache":
                return ir_state.get(KV_CACHE, self.scope(position))
        return self.hidden[position]

    def run(self, module: Any, static: Sequence[Any]) -> tuple[Any, ...]:
        """The function: outputs, then the noise, then what the trap left."""
        case = self.case
        values = [*static]
        values += [self.fetch(module, i) for i in range(case.static, len(case.body.inputs))]
        if self.straight is not None:
            results = [*self.straight(*values)][: len(case.body.outputs)]
        else:
            results = self._stepwise(module, values)
        if case.noise:
            import torch

            results.append(torch.rand(4, generator=self.generator, device=self.device))
        return tuple(results)

    def _stepwise(self, module: Any, values: list[Any]) -> list[Any]:
        body, left = self.case.body, []
        for i, step in enumerate(body.steps):
            if self.trap is not None and i == self.case.at:
                left.append(self.trap(module))
            args, kwargs = arguments(step, values)
            if step.target == KV:
                values += self._written(step.operands[0], args)
                continue
            values += tensors_of(target_of(step.target)(*args, **kwargs))[: step.results]
        if self.trap is not None and self.case.at >= len(body.steps):
            left.append(self.trap(module))
        return [*(values[n] for n in body.outputs), *left]

    def _written(self, cache: Any, args: tuple[Any, ...]) -> list[Any]:
        """The op finds its cache in the state of the layer that is set."""
        import ir

        if not isinstance(cache, Value):
            raise TypeError(f"cache {cache!r}; accepted: a value")
        with ir.scope(layer=self.scope(cache.number)):
            return [ir.ops.reshape_and_cache(*args[1:])]

    def memory(self) -> tuple[np.ndarray | None, ...]:
        """What the storages hold, None for one that nobody holds."""
        # Of copies: torch never again resizes a storage that NumPy has seen.
        return tuple(
            None if tensor is None else to_numpy(tensor.clone(), storage.dtype)
            for tensor, storage in zip(self.storages, self.case.body.storages, strict=True)
        )

    def made(self, position: int, content: Storage) -> torch.Tensor:
        """A tensor of the content for an input: packed, in memory of its own.

        Of another number of elements it is a batch of rows.
        """
        view = self.case.body.input_view(position)
        flat = from_numpy(content.array(), content.dtype, self.device)
        if content.numel == view.numel:
            return flat.reshape(view.shape)
        return flat.reshape(-1, *view.shape[1:])

    def close(self) -> None:
        """Forget the states."""
        from ir.ops.kv_cache import KV_CACHE
        from ir.state import ir_state

        for kind in self._types:
            ir_state.unregister_type(kind)
        self._types.clear()
        if "kv_cache" in self.case.owners:
            ir_state.discard(KV_CACHE)


def _parameter(tensor: Any) -> Any:
    import torch

    if isinstance(tensor, torch.nn.Parameter):
        return tensor
    return torch.nn.Parameter(tensor, requires_grad=False)


def _one_zero() -> Any:
    import torch

    return torch.zeros(1)
