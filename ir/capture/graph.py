"""A captured graph: what both backends give back, and the rules of a replay."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from ir.capture import session
from ir.capture.contents import digest
from ir.capture.errors import CaptureRefused, ReplayError
from ir.capture.ledger import AddressLedger
from ir.capture.rules import check_tensor
from ir.capture.tape import copied, storage_of
from ir.donation import overlaps_itself, share_memory
from ir.state import ir_state

_count = itertools.count(1)


class CapturedGraph:
    """Recorded work on fixed addresses. Made by `ir.capture.capture`.

    `inputs` are the static inputs, `outputs` what the function returned, both in place: a replay
    reads the first and overwrites the second. `ledger` says who owns what it uses.
    """

    def __init__(
        self,
        *,
        name: str,
        backend: str,
        run: Callable[[], None],
        inputs: Sequence[Tensor],
        names: Sequence[str],
        outputs: object,
        ledger: AddressLedger,
        poison: Callable[[int], None],
        unwritten: Sequence[tuple[str, Tensor]] = (),
        calls: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.name = name
        self.label = f"{name} #{next(_count)}"
        """The name by which a sealed state says whom it serves: no other graph has it."""
        self.backend = backend
        self.inputs = tuple(inputs)
        self.outputs = outputs
        self.ledger = ledger
        self.calls = calls
        """Name and manner of each recorded call; empty for CUDA, which does not say."""
        self._names = tuple(names)
        self._run = run
        self._poison = poison
        # Weak: an owner that the graph does not use may go when it likes.
        self._unwritten = tuple((name, weakref.ref(t)) for name, t in unwritten)
        self._busy = threading.Lock()

    def __repr__(self) -> str:
        return f"CapturedGraph({self.name!r}, {self.backend}, {len(self.inputs)} inputs)"

    def replay(self, *inputs: Tensor, static: bool = False) -> object:
        """Copy `inputs` into the static ones, repeat the recorded work, and return its results.

        Without inputs the static ones are used as they are. The results are copies that later
        replays leave alone; with `static=True` they are the graph's own tensors, which the next
        replay overwrites.

        Raises StaleAddress where an owner's memory is another one than was recorded, ReplayError
        for inputs of another number, shape, dtype or device, and for a replay from within
        a replay, CaptureRefused inside a capture.
        """
        session.refuse_inside(f"replay of {self.name}")
        with self._exclusive():
            self.ledger.check()
            with torch.inference_mode(), _no_autocast():
                if inputs:
                    self._fill(inputs)
                self._run()
            if static:
                return self.outputs
            with torch.inference_mode(False), torch.no_grad():
                return copied(self.outputs)

    def audited(self, *inputs: Tensor) -> object:
        """`replay`, and a look at everything reachable that no recorded call writes.

        A kernel that was taken whole, or memory that a graph and something else both hold, shows
        here. Slow: it hashes every such owner twice. Raises ReplayError, naming the first that
        has changed, and as `replay` does.
        """
        session.refuse_inside(f"replay of {self.name}")
        with self._exclusive(), torch.inference_mode():
            if inputs:
                self._fill(inputs)
        watched = [(name, t) for name, ref in self._unwritten if (t := ref()) is not None]
        before = [digest(t) for _, t in watched]
        result = self.replay()
        for (name, t), was in zip(watched, before, strict=True):
            if digest(t) != was:
                raise ReplayError(
                    name, "changed by the replay", "writes by recorded calls, to their arguments"
                )
        return result

    def seal(self) -> None:
        """From here on refuse whoever creates, replaces or grows a state (`ir.ir_state`).

        The ledger finds at the next replay that state was moved; a seal refuses the move. Call
        it once all graphs are captured. Raises SealedError where the graph is sealed already.
        """
        ir_state.seal(self.label)

    def release(self) -> None:
        """Undo `seal`: the graph is not replayed again."""
        if self.label in ir_state.sealed:
            ir_state.unseal(self.label)

    def poison(self, byte: int) -> None:
        """Fill all memory that the graph made with `byte`: what a replay then reads before it
        writes shows in its results. For tests."""
        with self._exclusive(), torch.inference_mode():
            self._poison(byte)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise ReplayError(
                self.name, "being replayed", "one replay at a time, none from within another"
            )
        try:
            yield
        finally:
            self._busy.release()

    def _fill(self, inputs: Sequence[Tensor]) -> None:
        if len(inputs) != len(self.inputs):
            raise ReplayError("number of inputs", len(inputs), f"{len(self.inputs)}, or none")
        for name, given, own in zip(self._names, inputs, self.inputs, strict=True):
            if (given.shape, given.dtype, given.device) != (own.shape, own.dtype, own.device):
                raise ReplayError(
                    f"input {name}",
                    f"{given.dtype}{list(given.shape)} on {given.device}",
                    f"{own.dtype}{list(own.shape)} on {own.device}",
                )
        # What lies in memory that the copies write must be read before the first of them.
        taken = {storage_of(own) for own in self.inputs}
        sources = [
            given.clone() if given is not own and storage_of(given) in taken else given
            for given, own in zip(inputs, self.inputs, strict=True)
        ]
        for given, own in zip(sources, self.inputs, strict=True):
            if given is not own:
                own.copy_(given)


def _no_autocast():
    # Casts were recorded; another autocast would add its own to calls that are made again.
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return _autocast_off()
    return nullcontext()


@contextmanager
def _autocast_off() -> Iterator[None]:
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def check_inputs(inputs: Sequence[Tensor], names: Sequence[str]) -> None:
    """Refuse static inputs that copies could not fill one by one. Raises CaptureRefused."""
    for i, (t, name) in enumerate(zip(inputs, names, strict=True)):
        if not isinstance(t, Tensor):
            raise CaptureRefused(
                "inputs", f"{name} is a {type(t).__name__}", "tensors; functools.partial binds rest"
            )
        check_tensor(t, name)
        if overlaps_itself(t):
            raise CaptureRefused("inputs", f"{name} overlaps itself", "memory of its own")
        for other, other_name in zip(inputs[:i], names[:i], strict=True):
            if share_memory(t, other):
                raise CaptureRefused(
                    "inputs", f"{name} shares memory with {other_name}", "memory of its own"
                )
