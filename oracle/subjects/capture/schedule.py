"""The events of a case, done to a captured graph and to the function called straight beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oracle.observation import ObservedTensor, Raised
from oracle.observation.capture import EventSeen, LedgerLine, RefusedBy
from oracle.subjects.fresh_memory import FILLS, fill_fresh_memory
from oracle.subjects.torch_memory import dtype_name, to_numpy
from reference.model import Storage
from reference.model.capture import (
    CaptureEvent,
    Churn,
    Create,
    Misfit,
    Move,
    Poison,
    Replay,
    Reseed,
    Seal,
    Write,
)

from .owned import Owned

if TYPE_CHECKING:
    import torch


def seen_tensor(tensor: torch.Tensor) -> ObservedTensor:
    dtype = dtype_name(tensor)
    return ObservedTensor(
        dtype=dtype,
        shape=tuple(tensor.shape),
        strides=tuple(tensor.stride()),
        offset=int(tensor.storage_offset()),
        device=str(tensor.device),
        storage=-1,
        values=to_numpy(tensor.detach().clone(), dtype),
    )


def raised(error: BaseException) -> Raised:
    """An error that is no refusal, as data."""
    bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
    return Raised(type(error).__name__, bases, str(error))


def refusal(error: Exception, names: dict[str, int]) -> RefusedBy | None:
    """A documented refusal as data; None for any other error."""
    from ir.capture import CaptureRefused, ReplayError, StaleAddress
    from ir.state import SealedError

    if isinstance(error, CaptureRefused):
        return RefusedBy(family="capture", reason=error.reason, text=str(error))
    if isinstance(error, StaleAddress):
        return RefusedBy(family="ledger", owner=names.get(error.owner), text=str(error))
    if isinstance(error, ReplayError):
        return RefusedBy(family="inputs", text=str(error))
    if isinstance(error, SealedError):
        return RefusedBy(family="seal", text=str(error))
    return None


def ledger_lines(graph: Any, owned: Owned) -> tuple[LedgerLine, ...]:
    """The entries of a graph's ledger, where they lie in the case's memory."""
    names = owned.owner_names()
    starts = {
        t.untyped_storage().data_ptr(): i
        for i, t in enumerate(owned.storages)
        if t is not None and t.numel()
    }
    found: list[LedgerLine] = []
    for entry in graph.ledger.entries:
        at = entry.extent
        storage = starts.get(at.storage_address, -1)
        size = entry.tensor.element_size()
        found.append(
            LedgerLine(
                owner=entry.owner,
                position=names.get(entry.owner),
                storage=storage,
                shape=tuple(at.shape),
                strides=tuple(at.stride),
                offset=(at.address - at.storage_address) // size,
            )
        )
    return tuple(found)


class Schedule:
    """A graph, the memory that it was captured on, and its twin that is called straight."""

    def __init__(self, graph: Any, owned: Owned, eager: Owned) -> None:
        self.graph, self.owned, self.eager = graph, owned, eager
        self.case = owned.case
        self.names = owned.owner_names()
        self.away: dict[int, str] = {}
        self.made = 0
        self.results: list[tuple[int, tuple[Any, ...]]] = []

    def run(self) -> tuple[EventSeen, ...]:
        """What each event did; results that were copied are looked at again at the end."""
        seen: list[EventSeen] = []
        for number, event in enumerate(self.case.events):
            seen.append(self._event(number, event))
        for number, results in self.results:
            kept = tuple(seen_tensor(t) for t in results)
            seen[number] = replace(seen[number], kept=kept)
        return tuple(seen)

    def _event(self, number: int, event: CaptureEvent) -> EventSeen:
        found = EventSeen()
        try:
            found = self._done(number, event)
        except Exception as error:  # what a subject raises is an observation, whatever it is
            refused = refusal(error, self.names)
            if refused is not None:
                found = EventSeen(refused=refused)
            else:
                found = EventSeen(raised=raised(error))
        return replace(found, memory=self.owned.memory(), eager_memory=self.eager.memory())

    def _done(self, number: int, event: CaptureEvent) -> EventSeen:
        from ir.state import ir_state

        match event:
            case Replay():
                return self._replay(number, event)
            case Misfit():
                self.graph.replay(*self._misfitting(event.how))
            case Write():
                self._write(event)
            case Move():
                self._move(event)
            case Poison():
                for graph in self._graphs():
                    graph.poison(event.byte)
            case Churn():
                self._churn(event.byte)
            case Seal():
                (self.graph.seal if event.on else self.graph.release)()
            case Create():
                self.made += 1
                ir_state.get(self.owned.state_name(event.position), f"made {self.made}")
            case Reseed():
                self.owned.generator.manual_seed(event.seed)
                self.eager.generator.manual_seed(event.seed)
        return EventSeen()

    def _graphs(self) -> Iterator[Any]:
        yield from self.graph.graphs.values() if self.case.sizes else (self.graph,)

    def _given(self, event: Replay, owned: Owned) -> list[Any]:
        return [
            owned.made(i, g) if isinstance(g, Storage) else owned.tensors[g]
            for i, g in enumerate(event.given)
        ]

    def _replay(self, number: int, event: Replay) -> EventSeen:
        given = self._given(event, self.owned)
        match event.how:
            case "static":
                result = self.graph.replay(*given, static=True)
            case "audited":
                result = self.graph.audited(*given)
            case _:
                result = self.graph.replay(*given)
        results = tuple(result)
        shared: tuple[str, ...] = ()
        if event.how != "static":
            shared = tuple(self._sharing(results))
            self.results.append((number, results))
        before = self._compiled_runs()
        eager = self._straight(event)
        return EventSeen(
            outputs=tuple(seen_tensor(t) for t in results),
            eager=tuple(seen_tensor(t) for t in eager),
            compiled=self._compiled_runs() - before,
            shared=shared,
        )

    def _compiled_runs(self) -> int:
        return 0 if self.eager.straight is None else self.eager.straight.runs

    def _straight(self, event: Replay) -> tuple[Any, ...]:
        import torch

        given = self._given(event, self.eager)
        with torch.no_grad():
            if self.case.sizes:
                return tuple(self.eager.module(*given))
            # All are read before the first is written.
            contents = [g.clone() for g in given]
            for own, content in zip(self.eager.static, contents, strict=bool(contents)):
                own.copy_(content)
            return tuple(self.eager.module(*self.eager.static))

    def _sharing(self, results: tuple[Any, ...]) -> Iterator[str]:
        """With whom a result shares memory that is the caller's own."""
        held: dict[int, str] = {}
        for i, t in enumerate(self.owned.storages):
            if t is not None and t.numel():
                held[t.untyped_storage().data_ptr()] = f"storage {i}"
        for graph in self._graphs():
            for i, t in enumerate(graph.outputs):
                if t.numel():
                    held.setdefault(t.untyped_storage().data_ptr(), f"output {i} of the graph")
        for number, earlier in self.results:
            for i, t in enumerate(earlier):
                if t.numel():
                    held.setdefault(t.untyped_storage().data_ptr(), f"result {i} of event {number}")
        for i, t in enumerate(results):
            where = held.get(t.untyped_storage().data_ptr()) if t.numel() else None
            if where is not None:
                yield f"result {i} lies in {where}"

    def _misfitting(self, how: str) -> list[Any]:
        """Inputs of which one is wrong."""
        import torch

        case = self.case
        static = self.owned.static
        rows = max(case.sizes, default=0)
        fit = [torch.zeros_like(t).contiguous() for t in static]
        if how == "number" or not fit:
            return [*fit, torch.zeros(1, device=self.owned.device)]
        first = fit[0]
        if how == "dtype":
            other = torch.float32 if first.dtype is torch.float64 else torch.float64
            return [first.to(other), *fit[1:]]
        if how == "rank":
            return [first.unsqueeze(-1), *fit[1:]]
        if rows:
            return [
                t if pad is None else t.new_zeros((rows + 1, *t.shape[1:]))
                for t, pad in zip(fit, case.padding, strict=True)
            ]
        shape = (*first.shape[:-1], first.shape[-1] + 1) if first.ndim else (2,)
        return [first.new_zeros(shape), *fit[1:]]

    def _write(self, event: Write) -> None:
        import torch

        if self.away.get(event.position, "view") != "view":
            return
        with torch.no_grad():
            for owned in (self.owned, self.eager):
                owned.tensors[event.position].copy_(owned.made(event.position, event.content))

    def _move(self, event: Move) -> None:
        """What happens to an owner happens to the graph's alone."""
        import torch

        from ir.state import ir_state

        owned, position, how = self.owned, event.position, event.how
        tensor = owned.tensors[position]
        number = self.case.body.inputs[position]
        with torch.no_grad():
            match how:
                case "replace":
                    owned.place(position, tensor.clone())
                case "data":
                    tensor.data = tensor.detach().clone()
                case "resize":
                    tensor.resize_(tensor.numel() + 64)
                case "transpose":
                    tensor.t_()
                case "dtype":
                    owned.place(position, tensor.to(torch.float64))
                case "drop":
                    owned.drop(position)
                case "view":
                    owned.place(position, owned.view_of(number))
                case "grow":
                    name, scope = owned.state_name(position), owned.scope(position)
                    ir_state.grow(name, tensor.numel() + 64, scope)
                case "back":
                    self._back(position)
                    return
        self.away[position] = how

    def _back(self, position: int) -> None:
        owned = self.owned
        tensor = owned.tensors[position]
        match self.away.get(position):
            case "data":
                tensor.data = owned.view_of(self.case.body.inputs[position])
            case "transpose":
                tensor.t_()
            case None:
                pass
            case _:
                owned.place(position, tensor)
        self.away.pop(position, None)

    def _churn(self, byte: int) -> None:
        """Blocks of every size in use, taken and given back, full of ``byte``."""
        import torch

        device = self.owned.device
        fill_fresh_memory(device, byte)
        if device == "cpu":
            sizes = {s.nbytes for s in self.case.body.storages} | {8, 64, 256, 1024}
            taken = [
                torch.full((n,), byte, dtype=torch.uint8) for n in sizes for _ in range(4) if n
            ]
            del taken


@contextmanager
def usual_memory(device: str) -> Iterator[None]:
    """Fresh memory holds afterwards what it holds in every worker."""
    try:
        yield
    finally:
        if device == "cpu":
            fill_fresh_memory(device, FILLS[0])
