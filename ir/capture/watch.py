"""What a dispatch mode does not see, watched for the length of a capture.

A function mode sees the calls by which a tensor leaves torch (`tolist`, `numpy`, `__dlpack__`,
`data_ptr`, ...) or changes its memory (`.data =`, `set_`); functions of torch that no mode sees
are replaced meanwhile, and act as before in every other thread.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.utils.dlpack as dlpack
from torch.overrides import TorchFunctionMode

from ir.capture.errors import CaptureRefused

_READS = "values that stay in tensors"
_MEMORY = "memory of its final size before the capture"
_STRAIGHT = "straight-line code: no control-flow operators"

_BY_NAME: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            "tolist",
            "numpy",
            "item",
            "cpu",
            "pin_memory",
            "__array__",
            "__dlpack__",
            "data_ptr",
            "untyped_storage",
            "storage",
            "_typed_storage",
            "storage_type",
            "__repr__",
            "__format__",
            "__reduce_ex__",
            "__deepcopy__",
            "__bool__",
            "__int__",
            "__float__",
            "__index__",
            "__complex__",
            "equal",
            "allclose",
            "is_nonzero",
        ),
        ("host-sync", _READS),
    ),
    **dict.fromkeys(
        ("set_", "resize_", "resize_as_", "resize", "resize_as", "share_memory_"),
        ("storage-change", _MEMORY),
    ),
    **dict.fromkeys(
        ("tensor", "as_tensor", "from_numpy", "asarray"),
        ("host-data", "torch.full, or a tensor made before the capture"),
    ),
}
_TAKES_ADDRESSES = ("data_ptr", "untyped_storage")


class _Pauses(threading.local):
    depth = 0


_pauses = _Pauses()


@contextmanager
def paused() -> Iterator[None]:
    """Let this thread call what is replaced, for as long as a kernel runs that is taken whole."""
    _pauses.depth += 1
    try:
        yield
    finally:
        _pauses.depth -= 1


# Modules that take addresses to compare or to launch, not to read: ir's check of donated
# activations, and Triton's launchers, whose kernels are judged by what they wrote.
_MAY_TAKE_ADDRESSES = ("ir.donation", "ir.state", "ir.capture", "triton", "torch._inductor")


def _called_from_allowed(depth: int) -> bool:
    frame = sys._getframe(depth)
    name = str(frame.f_globals.get("__name__", ""))
    return any(name == m or name.startswith(f"{m}.") for m in _MAY_TAKE_ADDRESSES)


class FunctionWatch(TorchFunctionMode):
    """Refuses functions and methods by which values or memory escape the tape."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        shown = getattr(func, "__qualname__", "")
        if shown == "getset_descriptor.__set__":
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute in ("data", "_base"):
                raise CaptureRefused("storage-change", f"Tensor.{attribute} = ...", _MEMORY)
        name = getattr(func, "__name__", "")
        found = _BY_NAME.get(name)
        if found is not None and not (name in _TAKES_ADDRESSES and _called_from_allowed(2)):
            # Packets of ops show the name of what wraps them.
            raise CaptureRefused(found[0], shown if shown.endswith(name) else name, found[1])
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True, slots=True)
class _Patch:
    owner: object
    name: str
    reason: str
    accepted: str


def _patches() -> tuple[_Patch, ...]:
    storage = [
        _Patch(torch.UntypedStorage, "resize_", "storage-change", _MEMORY),
        _Patch(torch.UntypedStorage, "data_ptr", "host-sync", _READS),
        _Patch(torch.UntypedStorage, "tolist", "host-sync", _READS),
        _Patch(torch.UntypedStorage, "__getitem__", "host-sync", _READS),
        _Patch(torch.UntypedStorage, "__setitem__", "outside-dispatch", "writes through tensors"),
        _Patch(torch.UntypedStorage, "fill_", "outside-dispatch", "writes through tensors"),
        _Patch(torch.UntypedStorage, "copy_", "outside-dispatch", "writes through tensors"),
    ]
    functions = [
        _Patch(dlpack, "to_dlpack", "host-sync", _READS),
        _Patch(torch, "to_dlpack", "host-sync", _READS),
        _Patch(torch.cuda, "synchronize", "host-sync", _READS),
        _Patch(torch.cuda.Stream, "synchronize", "host-sync", _READS),
        _Patch(torch.cuda.Event, "synchronize", "host-sync", _READS),
        # Dynamo traces these whatever the mode. What it keeps of a trace under ours would be in
        # the way of the next make_fx.
        _Patch(torch, "cond", "opaque-kernel", _STRAIGHT),
        _Patch(torch, "while_loop", "opaque-kernel", _STRAIGHT),
        _Patch(torch, "manual_seed", "reseeded", "seeding before the capture or between replays"),
    ]
    return (*storage, *(p for p in functions if hasattr(p.owner, p.name)))


def _watched(patch: _Patch, original: Callable[..., object], thread: int) -> Callable[..., object]:
    owner = getattr(patch.owner, "__name__", type(patch.owner).__name__)

    def refuse(*args: object, **kwargs: object) -> object:
        # Two frames up would be the caller's caller: this function is called straight.
        if threading.get_ident() != thread or _pauses.depth or _called_from_allowed(2):
            return original(*args, **kwargs)
        raise CaptureRefused(patch.reason, f"{owner}.{patch.name}", patch.accepted)

    return refuse


@contextmanager
def _patched(thread: int) -> Iterator[None]:
    undo: list[tuple[object, str, object, bool]] = []
    try:
        for patch in _patches():
            original = getattr(patch.owner, patch.name)
            own = patch.name in vars(patch.owner)
            undo.append((patch.owner, patch.name, original, own))
            setattr(patch.owner, patch.name, _watched(patch, original, thread))
        yield
    finally:
        for owner, name, original, own in reversed(undo):
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)


def _host_random() -> tuple[object, ...]:
    import numpy as np

    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, bytes(memoryview(keys)), *rest  # type: ignore[arg-type]


@contextmanager
def watched() -> Iterator[None]:
    """Refuse, in this thread, what the tape could not repeat and a dispatch mode does not see.

    Raises CaptureRefused where the call is made; for host random numbers at the end.
    """
    before = _host_random()
    with _patched(threading.get_ident()), FunctionWatch():
        yield
    if _host_random() != before:
        raise CaptureRefused(
            "host-randomness",
            "the random or numpy.random module",
            "a torch.Generator given in generators=",
        )
